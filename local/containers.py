"""What a local cloud adds to a Docker engine while it runs: a way back to it, and nothing left when it stops."""

import asyncio
import contextlib
import fcntl
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, unquote

from docker import APIClient
from docker.errors import APIError, DockerException, NotFound
from starlette.applications import Starlette

from local import file_repositories, serving
from local.agent_image import Tell
from local.base_image import cache_folder
from local.engine import ContainerChoice, EngineMissing
from local.gateways import Gateways
from local.github import GitHubConfig, git_routes
from local.ports import CloudPorts
from shared.adapters.docker_containers import GATEWAY, PLATFORM
from shared.core.settings import Settings


@asynccontextmanager
async def hosted(
    choice: ContainerChoice, api_url: str, ports: CloudPorts, github: GitHubConfig, tell: Tell
) -> AsyncGenerator[dict[str, str]]:
    """Settings of a platform whose jobs run on the engine. Raises EngineMissing when it went away meanwhile.

    Of the local cloud containers see the API and git: not the pages, and no other emulator.
    """
    password = secrets.token_urlsafe(24)
    git, files = serving.listening_socket(), serving.listening_socket()
    through = {ports.api: ports.api, ports.github: _port(git), _port(files): _port(files)}
    async with (
        _cleaned(choice.endpoint, api_url, tell),
        serving.serve(Starlette(routes=git_routes(github)), git),
        serving.serve(file_repositories.create_app(password), files),
        Gateways(choice.endpoint, api_url, through),
    ):
        yield _settings(choice, ports, f"{file_repositories.USER}:{password}@{GATEWAY}:{_port(files)}")


@asynccontextmanager
async def _cleaned(endpoint: str, platform: str, tell: Tell) -> AsyncGenerator[None]:
    """Nothing of this platform is on the engine before and after, nor of local clouds that were killed."""
    with _marked(endpoint, platform) as mark:
        try:
            for each in (platform, *_killed(endpoint)):
                await asyncio.to_thread(remove_leftovers, endpoint, each)
        except (DockerException, OSError) as error:
            raise EngineMissing(f"The Docker engine at {endpoint} does not answer: {error}") from error
        try:
            yield
        finally:
            try:
                await asyncio.to_thread(remove_leftovers, endpoint, platform)
                mark.unlink(missing_ok=True)
            except (DockerException, OSError) as error:
                tell(f"Containers of agents may be left on the Docker engine; the next start removes them. ({error})")


@contextlib.contextmanager
def _marked(endpoint: str, platform: str) -> Generator[Path]:
    """A locked file for as long as the local cloud lives: the kernel unlocks it, however that ends."""
    _marks().mkdir(parents=True, exist_ok=True)
    mark = _marks() / quote(f"{endpoint} {platform}", safe="")
    with mark.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield mark


def _marks() -> Path:
    return cache_folder() / "local-clouds"


def _killed(endpoint: str) -> Iterator[str]:
    """Platforms whose local cloud is dead; their marks go when this is read on."""
    for mark in _marks().iterdir():
        where, _, platform = unquote(mark.name).partition(" ")
        with contextlib.suppress(OSError), mark.open() as file:  # locked: it is alive
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if where == endpoint:
                yield platform
                mark.unlink(missing_ok=True)


def remove_leftovers(endpoint: str, platform: str) -> None:
    """Containers and networks of that platform. Volumes stay: they are data."""
    labelled = {"label": f"{PLATFORM}={platform}"}
    with contextlib.closing(APIClient(endpoint, version="auto")) as api:
        for container in api.containers(all=True, filters=labelled):
            with contextlib.suppress(NotFound):
                _remove(api, container["Id"])
        for network in api.networks(filters=labelled):
            with contextlib.suppress(NotFound):
                api.remove_network(network["Id"])


def _remove(api: APIClient, container: str) -> None:
    try:
        api.remove_container(container, v=True, force=True)
    except APIError as error:
        if error.status_code != 409:  # somebody else is removing it
            raise


def _port(listening: socket.socket) -> int:
    return listening.getsockname()[1]


def _settings(choice: ContainerChoice, ports: CloudPorts, files: str) -> dict[str, str]:
    return {
        "CONTAINER_HOST": "docker",
        "DOCKER_HOST": choice.endpoint,
        "AGENT_IMAGE": choice.image,
        "AGENT_CPUS": str(min(Settings.agent_cpus, os.cpu_count() or 1)),
        "CONTAINER_API_URL": f"http://{GATEWAY}:{ports.api}",
        "CONTAINER_URLS": f"http://localhost:{ports.github}/=http://{GATEWAY}:{ports.github}/,file://=http://{files}",
    }
