"""Which container host the local cloud uses: a Docker engine of this machine where one answers, else processes."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local import agent_image
from local.agent_image import ImageMissing, Tell
from shared.core.settings import Settings

if TYPE_CHECKING:
    from docker import APIClient

_CONNECT_SECONDS = 300


class EngineMissing(RuntimeError):
    """No engine answers, or none that the local cloud can use; the text says why."""


@dataclass(frozen=True, slots=True)
class ContainerChoice:
    """`image` is empty for processes. `why`: what made the choice, for people."""

    endpoint: str = ""
    image: str = ""
    why: str = ""

    @property
    def docker(self) -> bool:
        return bool(self.image)


def choose(environ: Mapping[str, str], tell: Tell = lambda _: None) -> ContainerChoice:
    """What CONTAINER_HOST asks for; without it Docker if possible. Raises EngineMissing where Docker was asked for."""
    wanted = environ.get("CONTAINER_HOST", "")
    if wanted == "process":
        return ContainerChoice(why="CONTAINER_HOST=process")
    try:
        api = connect(environ)
        return ContainerChoice(endpoint(environ), agent_image.ensure(api, environ.get("AGENT_BASE_IMAGE", ""), tell))
    except (EngineMissing, ImageMissing) as error:
        if wanted == "docker":
            raise EngineMissing(str(error)) from error
        return ContainerChoice(why=str(error))


def endpoint(environ: Mapping[str, str]) -> str:
    return environ.get("DOCKER_HOST") or Settings.docker_host


def connect(environ: Mapping[str, str]) -> "APIClient":
    """An engine whose containers reach this machine by their network's gateway. Raises EngineMissing."""
    from docker import APIClient
    from docker.errors import DockerException

    where = endpoint(environ)
    if not where.startswith("unix://"):
        raise EngineMissing(f"The local cloud needs an engine on this machine, and DOCKER_HOST is {where}.")
    if not Path(where.removeprefix("unix://")).exists():
        raise EngineMissing("no Docker engine answers")
    try:
        api = APIClient(where, version="auto", timeout=_CONNECT_SECONDS)
        info = api.info()
    except (DockerException, OSError) as error:
        raise EngineMissing(f"the Docker engine at {where} does not answer: {error}") from error
    if platform.system() != "Linux" or info["KernelVersion"] != os.uname().release:
        raise EngineMissing("the Docker engine runs in a virtual machine, whose networks end there")
    if "name=rootless" in info.get("SecurityOptions", ()):
        raise EngineMissing("the Docker engine is rootless: its networks are out of this machine's reach")
    return api
