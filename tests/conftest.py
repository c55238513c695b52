"""What tests of several folders share: one local cloud for a whole session, and the people who use it."""

import os
import shutil
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

import pytest

from tests.flows.world import Person, git, make_workspace, on_docker, started_cloud
from tests.requires import require

if TYPE_CHECKING:
    from tests.engine import Engine

_IMAGE_SECONDS = 900


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Whichever test asks for the agent's image first may have to wait until it is made."""
    elsewhere = [] if on_docker() else [item for item in items if item.get_closest_marker("docker")]
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]
    waiting = {"agent_image", "cloud_parts"} if on_docker() else {"agent_image"}
    for item in items:
        if isinstance(item, pytest.Function) and waiting.intersection(item.fixturenames):
            item.add_marker(pytest.mark.timeout(_IMAGE_SECONDS))


@pytest.fixture(scope="session")
def cloud_parts(request: pytest.FixtureRequest) -> Generator[None]:
    """Skips where the local cloud cannot run; on Docker its engine is the tests' own."""
    from local.cloud import ROOT

    require(shutil.which("node"), "The local cloud needs Node.js 20 or newer: install it, then `make setup`.")
    require(shutil.which("git"), "The local cloud needs git: install it.")
    require((ROOT / "local/azurite/node_modules").is_dir(), "Azurite is not installed: run `make setup`.")
    with pytest.MonkeyPatch.context() as patch:
        if on_docker():
            request.getfixturevalue("agent_image")
            engine: Engine = request.getfixturevalue("engine")
            patch.setenv("DOCKER_HOST", engine.endpoint)
            patch.setenv("CONTAINER_SUBNETS", engine.subnets)
        yield


@pytest.fixture(scope="session")
async def engine() -> AsyncGenerator["Engine"]:
    """A Docker engine for these tests alone."""
    from tests.engine import running_engine

    async with running_engine() as running:
        yield running


@pytest.fixture(scope="session")
async def agent_image(engine: "Engine") -> str:
    """The agent image's name on that engine."""
    return await engine.agent_image()


@pytest.fixture(scope="session")
async def cloud(cloud_parts: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Any]:
    """A local cloud with its own data and ports, without a real model."""
    async with started_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="session")
async def ada(cloud: Any) -> AsyncGenerator[Person]:
    async with Person.signed_in(cloud, "ada@contoso.test") as person:
        yield person


@pytest.fixture(scope="session")
async def bob(cloud: Any) -> AsyncGenerator[Person]:
    async with Person.signed_in(cloud, "bob@contoso.test") as person:
        yield person


@pytest.fixture(scope="session")
async def grace(cloud: Any) -> AsyncGenerator[Person]:
    """The platform admin."""
    async with Person.signed_in(cloud, "grace@contoso.test") as person:
        yield person


@pytest.fixture(scope="session")
async def workspace(ada: Person) -> dict[str, Any]:
    """Ada's workspace, made from the template."""
    return await make_workspace(ada, "Shared Workspace")


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A repository that takes some seconds to import."""
    folder = tmp_path_factory.mktemp("large")
    git(folder, "init", "-q", "-b", "main")
    for number in range(12):
        (folder / f"{number}.bin").write_bytes(os.urandom(8_000_000))
    git(folder, "config", "core.compression", "0")  # whoever imports it has to compress it
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "Everything")
    return folder.as_uri()
