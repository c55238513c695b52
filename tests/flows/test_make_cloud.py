"""`make cloud` in one terminal, a function host that reads local.settings.json in another."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from local.child import Child, accepts_connections
from local.cloud import ROOT
from shared.core.settings import Settings
from tests.flows.world import Person, bare_repository, combination, finished_run, git, make_workspace, run_card
from tests.waiting import until

KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")


def environ(**more: str) -> dict[str, str]:
    kept = (*KEPT, "DOCKER_HOST", "CONTAINER_SUBNETS")
    return {name: os.environ[name] for name in kept if name in os.environ} | combination() | more


@pytest.fixture(scope="module")
async def folder(cloud_parts: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("terminals")


@pytest.fixture(scope="module")
async def terminal(folder: Path) -> AsyncGenerator[Child]:
    settings = folder / "local.settings.json"
    settings.write_text('{"Values": {"RUN_TURN_LIMIT": "11"}}')
    argv = [sys.executable, "-m", "local.start", "--data", str(folder / "data"), "--free-ports"]
    argv += ["--settings", str(settings)]

    async def ready() -> bool:
        return log.exists() and "func start" in log.read_text()

    log = folder / "cloud.log"
    async with Child("cloud", argv, environ(COLUMNS="200"), log, ready, cwd=ROOT, start_timeout=90) as child:
        yield child


@pytest.fixture(scope="module")
def settings(terminal: Child, folder: Path) -> dict[str, Any]:
    return json.loads((folder / "local.settings.json").read_text())


class TestMakeCloud:
    def test_it_says_what_to_do_next(self, terminal: Child):
        said = terminal.log_path.read_text()
        assert ". .venv/bin/activate && func start" in said
        assert "not started" in said

    def test_its_settings_are_all_the_application_needs(self, settings: dict[str, Any]):
        values = settings["Values"]
        assert values["FUNCTIONS_WORKER_RUNTIME"] == "python"
        assert values["RUN_TURN_LIMIT"] == "11"
        read = Settings.from_env(values)
        assert read.public_api_url.endswith(f":{settings['Host']['LocalHttpPort']}")
        assert Path(read.data_dir).is_absolute()
        assert not set(KEPT) & set(values)

    async def test_the_main_job_passes_on_them(self, settings: dict[str, Any], folder: Path):
        port = settings["Host"]["LocalHttpPort"]
        argv = [sys.executable, "-m", "local.host", "--port", str(port), "--app-dir", str(ROOT)]
        argv += ["--settings", str(folder / "local.settings.json")]
        log = folder / "host.log"
        async with Child("host", argv, environ(), log, lambda: accepts_connections(port), cwd=ROOT):
            cloud: Any = SimpleNamespace(api_url=f"http://localhost:{port}", data=folder / "data")
            async with Person.signed_in(cloud, "ada@contoso.test") as ada:
                place = await make_workspace(ada, "Two terminals")
                _, run = await run_card(ada, place["board_id"], "Work", "Create `two.txt`:\n\n```\nyes\n```\n")
                ended = await finished_run(ada, run["id"])
                assert ended["status"] == "succeeded", ended["reason"]
                files = git(bare_repository(cloud, place), "ls-tree", "--name-only", ended["branch"])
                assert "two.txt" in files.splitlines()

    async def test_a_part_that_dies_is_named_and_runs_again(self, terminal: Child):
        def emulators() -> list[psutil.Process]:
            below = psutil.Process(terminal.pid).children(recursive=True)
            return [each for each in below if "local.pubsub" in each.cmdline()]

        [before] = emulators()
        before.kill()
        await until(lambda: "realtime runs again." in terminal.log_path.read_text(), 30)
        assert "realtime ended by itself (signal 9)." in terminal.log_path.read_text()
        [after] = emulators()
        assert after.pid != before.pid

    async def test_ctrl_c_ends_it_and_keeps_the_file(self, terminal: Child, folder: Path):
        os.kill(terminal.pid, signal.SIGINT)
        assert await asyncio.wait_for(terminal.wait(), 30) == 0
        assert "Stopped." in terminal.log_path.read_text()
        assert (folder / "local.settings.json").exists()


class TestCoreTools:
    """What `func start` wants of a Python app's folder; func itself is not among the tests' tools."""

    def test_the_folder_is_laid_out_for_it(self):
        host = json.loads((ROOT / "host.json").read_text())
        assert host["version"] == "2.0"
        assert host["extensionBundle"]["id"] == "Microsoft.Azure.Functions.ExtensionBundle"  # has the queue triggers
        assert (ROOT / "function_app.py").is_file()
        assert "azure-functions==" in (ROOT / "requirements.txt").read_text()

    def test_its_settings_stay_out_of_git_and_of_what_is_published(self):
        assert git(ROOT, "check-ignore", "local.settings.json") == "local.settings.json"
        assert "local.settings.json*" in (ROOT / ".funcignore").read_text().splitlines()

    def test_what_is_published_has_all_that_the_application_imports(self):
        ignored = (ROOT / ".funcignore").read_text().splitlines()
        needed = {"function_app.py", "functions", "shared", "host.json", "requirements.txt"}
        assert not needed & set(ignored)
