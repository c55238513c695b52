"""How containers reach the local cloud, who else does not, and what is left on the engine: nothing."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from starlette.responses import PlainTextResponse

from local import file_repositories, serving
from local.agent_image import LOCAL_BASE
from local.cloud import ROOT
from local.containers import hosted
from local.engine import ContainerChoice, EngineMissing, choose
from local.gateways import Gateways
from local.github import GitHubConfig
from local.keys import app_key
from local.ports import CloudPorts
from shared.adapters.docker_containers import GATEWAY, PLATFORM
from shared.adapters.docker_networks import TeamNetworks
from shared.core.addresses import ContainerAddresses
from tests.engine import Engine
from tests.flows.world import git
from tests.waiting import until

ME = "http://localhost:1"
PASSWORD = "s3cret"
SUBNETS = "10.212.64.0/20"


def _network(api: APIClient, name: str, platform: str = ME) -> tuple[str, str]:
    """A network and its gateway."""
    made = TeamNetworks(platform, SUBNETS).ensure(api, name, outbound=False)
    return made.id, made.gateway


async def _answer(address: str, port: int, source: str | None = None) -> bytes:
    """What is sent back; nothing when the connection is closed."""
    reader, writer = await asyncio.open_connection(address, port, local_addr=(source, 0) if source else None)
    writer.write(b"hello\n")
    try:
        return await asyncio.wait_for(reader.read(100), 5)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def echo() -> AsyncGenerator[int]:
    """A server on the loopback that says what it heard."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"heard " + await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def api(engine: Engine) -> AsyncGenerator[APIClient]:
    await engine.clear()
    with contextlib.closing(engine.api()) as client:
        yield client
    await engine.clear()


class TestGateways:
    async def test_pass_on_at_the_platforms_own_networks_whenever_they_were_made(
        self, engine: Engine, api: APIClient
    ) -> None:
        _, before = _network(api, "before")
        _, foreign = _network(api, "foreign", "http://localhost:2")
        async with echo() as port, Gateways(engine.endpoint, ME, {port: port}):
            await until(lambda: _listens(before, port))
            _, after = _network(api, "after")
            await until(lambda: _listens(after, port))
            assert await _answer(before, port) == await _answer(after, port) == b"heard hello\n"
            assert not await _listens(foreign, port)
        assert not await _listens(before, port)

    async def test_turn_away_whoever_is_not_in_the_network(self, engine: Engine, api: APIClient) -> None:
        _, gateway = _network(api, "team")
        async with echo() as port, Gateways(engine.endpoint, ME, {port: port}):
            await until(lambda: _listens(gateway, port))
            assert await _answer(gateway, port, source="127.0.0.1") == b""

    async def test_close_with_their_network(self, engine: Engine, api: APIClient) -> None:
        network, gateway = _network(api, "team")
        async with echo() as port, Gateways(engine.endpoint, ME, {port: port}):
            await until(lambda: _listens(gateway, port))
            api.remove_network(network)
            _, again = _network(api, "team")
            await until(lambda: _listens(again, port))
            assert await _answer(again, port) == b"heard hello\n"

    async def test_come_back_after_the_engine_was_restarted(self, engine: Engine, api: APIClient) -> None:
        _, gateway = _network(api, "team")
        async with echo() as port, Gateways(engine.endpoint, ME, {port: port}):
            await until(lambda: _listens(gateway, port))
            await engine.restart()
            _, later = _network(engine.api(), "later")
            await until(lambda: _listens(later, port))
            assert await _answer(gateway, port) == await _answer(later, port) == b"heard hello\n"

    async def test_a_server_that_is_away_is_no_answer_and_its_return_is_noticed(
        self, engine: Engine, api: APIClient
    ) -> None:
        _, gateway = _network(api, "team")
        async with echo() as port:
            pass
        async with Gateways(engine.endpoint, ME, {port: port}):
            await until(lambda: _listens(gateway, port))
            assert await _answer(gateway, port) == b""
            server = await asyncio.start_server(_greet, "127.0.0.1", port)
            async with server:
                assert await _answer(gateway, port) == b"back"


async def _greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"back")
    writer.close()


async def _listens(address: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.close()
    return True


class TestFileRepositories:
    @pytest.fixture
    async def served(self, tmp_path: Path) -> AsyncGenerator[tuple[str, Path]]:
        """Address without login, and a repository."""
        source = tmp_path / "my source"
        source.mkdir()
        git(source, "init", "-q", "-b", "main")
        (source / "README.md").write_text("# Mine\n")
        git(source, "add", "-A")
        git(source, "commit", "-q", "-m", "Start")
        async with serving.serve(file_repositories.create_app(PASSWORD)) as url:
            yield url.removeprefix("http://"), source

    async def test_are_cloned_by_their_path(self, served: tuple[str, Path], tmp_path: Path) -> None:
        where, source = served
        await _git(tmp_path, "clone", "-q", _login(where, PASSWORD) + source.as_uri().removeprefix("file://"), "copy")
        assert git(tmp_path / "copy", "rev-parse", "HEAD") == git(source, "rev-parse", "HEAD")

    async def test_are_not_shown_without_the_password(self, served: tuple[str, Path], tmp_path: Path) -> None:
        where, source = served
        path = source.as_uri().removeprefix("file://")
        for address in (f"http://{where}{path}", _login(where, "wrong") + path, _login(where, "") + path):
            with pytest.raises(subprocess.CalledProcessError) as refused:
                await _git(tmp_path, "clone", "-q", address, "copy")
            assert "could not read Username" in refused.value.stderr or "Authentication failed" in refused.value.stderr

    async def test_cannot_be_pushed_to(self, served: tuple[str, Path]) -> None:
        where, source = served
        path = source.as_uri().removeprefix("file://")
        with pytest.raises(subprocess.CalledProcessError):
            await _git(source, "push", "-q", _login(where, PASSWORD) + path, "HEAD:refs/heads/new")
        assert git(source, "branch", "--list", "new") == ""

    async def test_a_folder_that_is_none_is_not_found(self, served: tuple[str, Path], tmp_path: Path) -> None:
        where, _ = served
        (tmp_path / "empty").mkdir()
        for folder in ("empty", "missing", "../../../etc"):
            with pytest.raises(subprocess.CalledProcessError, match="clone") as refused:
                await _git(tmp_path, "clone", "-q", f"{_login(where, PASSWORD)}{tmp_path}/{folder}", "copy")
            assert "not found" in refused.value.stderr


def _login(where: str, password: str) -> str:
    return f"http://{file_repositories.USER}:{password}@{where}"


async def _git(folder: Path, *command: str) -> str:
    return await asyncio.to_thread(git, folder, "-c", "credential.helper=", *command)


LOOK = """
import sys, urllib.request, urllib.error
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=5).status)
    except urllib.error.HTTPError as error:
        print(error.code)
    except OSError as error:
        print("nobody")
"""
KILLED = """
import asyncio, sys
from pathlib import Path
from local.engine import ContainerChoice
from tests.contracts.test_local_containers import leave_something
asyncio.run(leave_something(ContainerChoice(sys.argv[1], sys.argv[2], "1"), Path(sys.argv[3])))
"""


async def leave_something(choice: ContainerChoice, folder: Path) -> None:
    """Ends this process as kill -9 does, with a container and its network on the engine."""
    async with hosted(choice, ME, CloudPorts.free(), _github(folder), print):
        with contextlib.closing(APIClient(choice.endpoint, version="auto")) as api:
            _start(api, choice.image, "team", ["sleep", "300"])
        os.kill(os.getpid(), signal.SIGKILL)


class TestHosted:
    @pytest.fixture
    def choice(self, engine: Engine, agent_image: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        choice = choose({"DOCKER_HOST": engine.endpoint})
        assert (choice.docker, choice.endpoint, choice.image) == (True, engine.endpoint, agent_image)
        return choice

    @pytest.fixture
    def other_base(self, api: APIClient, choice: ContainerChoice) -> Generator[str]:
        """The base image under another name, which makes another agent's image of it."""
        current = api.inspect_image(choice.image)["Id"]
        api.tag(LOCAL_BASE, "kanban-base", "other")
        yield "kanban-base:other"
        for container in api.containers(all=True):
            api.remove_container(container["Id"], force=True)
        api.tag(current, *choice.image.split(":"))
        others = {tag for image in api.images(name="kanban-agent") for tag in image["RepoTags"]} - {choice.image}
        for name in (*others, "kanban-base:other"):
            api.remove_image(name)

    async def test_containers_see_the_api_and_git_and_nothing_else(
        self, api: APIClient, choice: ContainerChoice, tmp_path: Path
    ) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await PlainTextResponse("api")(scope, receive, send)

        free = CloudPorts.free()
        async with (
            serving.serve(app, serving.listening_socket(port=free.api), lifespan="off"),
            hosted(choice, ME, free, _github(tmp_path), print) as settings,
        ):
            inside = ContainerAddresses.parse(settings["CONTAINER_URLS"].split(","))
            git = inside.inside(f"http://localhost:{free.github}/")
            urls = [settings["CONTAINER_API_URL"], f"{git}kanban/x.git/info/refs?service=git-upload-pack"]
            urls += [git, f"{git}kanban/x", f"{git}orgs/kanban"]
            urls += [f"http://{GATEWAY}:{port}" for port in (free.entra, free.model, free.queues, free.web)]
            container = _start(api, choice.image, "team", ["python3", "-c", LOOK, *urls])
            await asyncio.to_thread(api.wait, container, timeout=60)
            told = api.logs(container).decode().split()
        assert told == ["200", "401", "404", "404", "404", "nobody", "nobody", "nobody", "nobody"]

    def test_an_engine_without_a_base_for_the_image_is_not_taken(self, engine: Engine) -> None:
        environ = {"DOCKER_HOST": engine.endpoint, "AGENT_BASE_IMAGE": "nobody/has-this:1"}
        choice = choose(environ)
        assert not choice.docker
        assert "The base image nobody/has-this:1 is not on this engine" in choice.described()[1]
        with pytest.raises(EngineMissing, match="nobody/has-this:1"):
            choose(environ | {"CONTAINER_HOST": "docker"})

    def test_a_new_image_takes_the_place_of_those_that_no_container_needs(
        self, engine: Engine, api: APIClient, choice: ContainerChoice, other_base: str
    ) -> None:
        checkout = choice.image.rpartition("-")[2]
        used, unused = f"kanban-agent:0123456789ab-{checkout}", f"kanban-agent:ba9876543210-{checkout}"
        own, anothers = "kanban-agent:of-my-own", "kanban-agent:ba9876543210-012345"
        draft = api.create_container(choice.image, ["x"])["Id"]
        for name in (used, unused, own, anothers):
            api.commit(draft, *name.split(":"))
        api.create_container(used, ["x"])
        made = choose({"DOCKER_HOST": engine.endpoint, "AGENT_BASE_IMAGE": other_base}).image
        kept = {tag for image in api.images(name="kanban-agent") for tag in image["RepoTags"]}
        assert {made, used, own, anothers} <= kept
        assert unused not in kept

    def test_what_another_checkout_built_of_the_same_sources_is_taken_and_stays_its_own(
        self, engine: Engine, api: APIClient, choice: ContainerChoice, other_base: str
    ) -> None:
        environ = {"DOCKER_HOST": engine.endpoint, "AGENT_BASE_IMAGE": other_base}
        made = choose(environ).image
        anothers = f"{made.rpartition('-')[0]}-012345"
        api.tag(made, *anothers.split(":"))
        api.remove_image(made)
        said: list[str] = []
        assert choose(environ, said.append).image == made
        assert said == []
        assert api.inspect_image(made)["Id"] == api.inspect_image(anothers)["Id"]
        api.remove_image(made)
        assert api.inspect_image(anothers)

    async def test_nothing_but_data_is_left(self, api: APIClient, choice: ContainerChoice, tmp_path: Path) -> None:
        async with hosted(choice, ME, CloudPorts.free(), _github(tmp_path), print):
            _start(api, choice.image, "team", ["sleep", "300"])
            _start(api, choice.image, "other", ["sleep", "300"], "http://localhost:2")
            api.create_volume("kanban-data", labels={PLATFORM: ME})
        assert _platforms(api) == {"http://localhost:2"}
        assert [each["Name"] for each in api.volumes()["Volumes"]] == ["kanban-data"]

    async def test_what_a_killed_local_cloud_left_goes_when_the_next_one_starts(
        self, api: APIClient, choice: ContainerChoice, tmp_path: Path
    ) -> None:
        argv = [sys.executable, "-c", KILLED, choice.endpoint, choice.image, str(tmp_path / "one")]
        killed = await asyncio.to_thread(subprocess.run, argv, cwd=ROOT, timeout=60)
        assert killed.returncode == -signal.SIGKILL
        assert _platforms(api) == {ME}
        async with hosted(choice, "http://localhost:3", CloudPorts.free(), _github(tmp_path / "two"), print):
            assert _platforms(api) == set()

    async def test_one_that_lives_is_left_alone(self, api: APIClient, choice: ContainerChoice, tmp_path: Path) -> None:
        async with hosted(choice, ME, CloudPorts.free(), _github(tmp_path / "one"), print):
            _start(api, choice.image, "team", ["sleep", "300"])
            async with hosted(choice, "http://localhost:3", CloudPorts.free(), _github(tmp_path / "two"), print):
                assert _platforms(api) == {ME}

    async def test_an_engine_that_is_away_at_the_end_is_told_and_cleaned_next_time(
        self, engine: Engine, api: APIClient, choice: ContainerChoice, tmp_path: Path
    ) -> None:
        told = list[str]()
        async with hosted(choice, ME, CloudPorts.free(), _github(tmp_path / "one"), told.append):
            _start(api, choice.image, "team", ["sleep", "300"])
            await engine.kill()
        assert "may be left" in told[0]
        with pytest.raises(EngineMissing, match="does not answer"):
            async with hosted(choice, ME, CloudPorts.free(), _github(tmp_path / "two"), told.append):
                pass
        await engine.start()
        async with hosted(choice, "http://localhost:3", CloudPorts.free(), _github(tmp_path / "two"), told.append):
            assert _platforms(engine.api()) == set()


def _github(folder: Path) -> GitHubConfig:
    folder.mkdir(exist_ok=True)
    key = app_key(folder / "key.pem")
    return GitHubConfig(folder / "github", "kanban", "1", 1, key.public, browsable=True)


def _start(api: APIClient, image: str, name: str, command: list[str], platform: str = ME) -> str:
    """A container as the driver makes them, with another program."""
    network, gateway = _network(api, name, platform)
    container = api.create_container(
        image,
        entrypoint=command[:1],
        command=command[1:],
        labels={PLATFORM: platform},
        host_config=api.create_host_config(network_mode=network, extra_hosts={GATEWAY: gateway}, init=True),
    )["Id"]
    api.start(container)
    return container


def _platforms(api: APIClient) -> set[str]:
    """Whose containers and networks are on the engine."""
    found = [*api.containers(all=True), *api.networks(filters={"label": PLATFORM})]
    return {each["Labels"][PLATFORM] for each in found}
