"""Which container host the local cloud uses: a Docker engine of this machine where one answers, else processes."""

import asyncio
import os
import platform
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local import agent_image
from local.agent_image import ImageMissing, Tell
from shared.core.settings import Settings

if TYPE_CHECKING:
    from docker import APIClient

_CONNECT_SECONDS = 300
DRIVERS = ("docker", "process")


class EngineMissing(RuntimeError):
    """No engine answers, or none that the local cloud can use; the text says why."""


@dataclass(frozen=True, slots=True)
class ContainerChoice:
    """An engine and the agent's image on it, or processes and `why`, for people."""

    endpoint: str = ""
    image: str = ""
    version: str = ""
    why: str = ""

    @property
    def docker(self) -> bool:
        return bool(self.image)

    def described(self) -> tuple[str, str]:
        """What runs agents, and what people must know about it."""
        if self.docker:
            return f"Docker engine {self.version}", "isolated: each job in a container of its own"
        return "local processes", f"no isolation: commands run as you ({self.why})"


def choose(environ: Mapping[str, str], tell: Tell = lambda _: None) -> ContainerChoice:
    """What CONTAINER_HOST asks for; without it Docker if possible. Raises EngineMissing where Docker was asked for."""
    wanted = environ.get("CONTAINER_HOST", "")
    if wanted and wanted not in DRIVERS:
        raise EngineMissing(f"CONTAINER_HOST={wanted!r} is not a driver. Use {' or '.join(DRIVERS)}, or leave it out.")
    if wanted == "process":
        return ContainerChoice(why="CONTAINER_HOST=process")
    try:
        api = connect(environ)
        return ContainerChoice(endpoint(environ), _image(api, environ, tell), api.version()["Version"])
    except (EngineMissing, ImageMissing) as error:
        if wanted == "docker":
            raise EngineMissing(f"CONTAINER_HOST=docker: {error}") from error
        first, _, rest = str(error).partition("\n")
        if rest:
            tell(str(error))
        return ContainerChoice(why=first.rstrip(".:"))


def _image(api: "APIClient", environ: Mapping[str, str], tell: Tell) -> str:
    """The agent's. Raises ImageMissing also when engine or disk fail."""
    from docker.errors import DockerException

    try:
        return agent_image.ensure(api, environ.get("AGENT_BASE_IMAGE", ""), tell)
    except (DockerException, OSError) as error:
        raise ImageMissing(f"The agent's image could not be made:\n{error}") from error


async def chosen(environ: Mapping[str, str], tell: Tell) -> ContainerChoice:
    """`choose` in a thread that may be left alone: Ctrl-C does not wait for an image to be built."""
    choice: Future[ContainerChoice] = Future()

    def run() -> None:
        choice.set_running_or_notify_cancel()
        try:
            choice.set_result(choose(environ, tell))
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            choice.set_exception(error)

    threading.Thread(target=run, name="docker-engine", daemon=True).start()
    return await asyncio.wrap_future(choice)


def endpoint(environ: Mapping[str, str]) -> str:
    return environ.get("DOCKER_HOST") or Settings.docker_host


def connect(environ: Mapping[str, str]) -> "APIClient":
    """An engine whose containers reach this machine by their network's gateway. Raises EngineMissing."""
    from docker import APIClient
    from docker.errors import DockerException

    where = endpoint(environ)
    if not where.startswith("unix://"):
        raise EngineMissing(f"the local cloud needs an engine on this machine, and DOCKER_HOST is {where}")
    socket = Path(where.removeprefix("unix://"))
    if not socket.exists():
        raise EngineMissing("no Docker engine answers" + ("" if where == Settings.docker_host else f" at {where}"))
    if not os.access(socket, os.R_OK | os.W_OK):
        raise EngineMissing(f"you may not use the Docker engine at {where}: join its group, docker as a rule")
    try:
        api = APIClient(where, version="auto", timeout=_CONNECT_SECONDS)
        info = api.info()
    except (DockerException, OSError) as error:
        raise EngineMissing(f"the Docker engine at {where} does not answer: {error}") from error
    _require_reach(info)
    return api


def _require_reach(info: Mapping[str, Any]) -> None:
    """Its containers must find this machine behind their network's gateway."""
    if platform.system() != "Linux" or info["KernelVersion"] != os.uname().release:
        raise EngineMissing("the Docker engine runs in a virtual machine, whose networks end there")
    if "name=rootless" in (info.get("SecurityOptions") or ()):
        raise EngineMissing("the Docker engine is rootless: its networks are out of this machine's reach")
