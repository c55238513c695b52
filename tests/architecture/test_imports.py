"""Who may import whom: the contracts of pyproject.toml, and what import-linter cannot say."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SLOW = ("anthropic", "azure.identity", "docker", "github", "msal", "msgraph", "redis")
"""What takes long to import is loaded when it is first used (docs/adr)."""


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def fresh_process(code: str) -> str:
    """What `code` prints in a new interpreter."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestContracts:
    def test_dependencies_point_one_way(self) -> None:
        linter = Path(sys.executable).with_name("lint-imports")
        done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout
        assert "0 broken" in done.stdout

    @pytest.mark.parametrize(
        ("module", "line", "broken"),
        [
            ("shared/boards/extra.py", "from shared.agents import models", "Dependencies point one way"),
            ("shared/core/extra.py", "import shared.tasks.models", "Dependencies point one way"),
            ("shared/extra.py", "", "Every module of shared has its layer"),
            ("shared/teams/extra.py", "import httpx", "know no SDK"),
            ("functions/extra.py", "import shared.adapters.layout", "through the platform only"),
            ("agent_container/extra.py", "import shared.core.ids", "do not know each other"),
        ],
    )
    def test_a_wrong_import_is_found(self, tmp_path: Path, module: str, line: str, broken: str) -> None:
        """In a copy of the packages, so that the contracts are known to hold something."""
        for path in sources("shared", "functions", "local", "agent_container"):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(path.read_text())
        (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
        (tmp_path / module).write_text(f"{line}\n")
        linter = Path(sys.executable).with_name("lint-imports")
        done = subprocess.run([linter, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert done.returncode == 1
        assert any(broken in found and "BROKEN" in found for found in done.stdout.splitlines()), done.stdout

    def test_only_triggers_and_their_local_host_know_the_functions_sdk(self) -> None:
        for path in sources("shared", "agent_container"):
            assert not [name for name in imported(path) if name.startswith("azure.functions")], path

    def test_the_function_app_only_registers_triggers(self) -> None:
        assert set(imported(ROOT / "function_app.py")) == {"azure.functions", "functions"}

    def test_the_agents_image_needs_nothing_of_the_platform(self) -> None:
        for path in sources("agent_container"):
            assert not [name for name in imported(path) if name.split(".")[0] in ("shared", "functions", "local")], path


class TestColdStart:
    def test_importing_the_function_app_loads_no_slow_sdk(self) -> None:
        code = "import function_app, functions.api, json, sys; print(json.dumps(list(sys.modules)))"
        loaded = set(json.loads(fresh_process(code)))
        assert "fastapi" in loaded
        assert loaded.isdisjoint(SLOW)

    def test_a_model_call_needs_no_web_framework_but_the_next_call_of_the_api_finds_it(self, tmp_path: Path) -> None:
        code = f"""
import asyncio, json, os, sys
os.environ["DATA_DIR"] = {str(tmp_path)!r}
from functions.app import create_app
from functions.platform import platform
app, answers = create_app(platform()), []
async def receive():
    return {{"type": "http.request", "body": b"", "more_body": False}}
async def send(message):
    answers.append([message.get("status"), "fastapi" in sys.modules])
def call(path):
    return app({{"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}}, receive, send)
asyncio.run(call("/api/v1/models"))
asyncio.run(call("/api/health"))
print(json.dumps([answer for answer in answers if answer[0]]))
"""
        assert json.loads(fresh_process(code)) == [[401, False], [200, True]]

    def test_building_the_platform_loads_none_either(self, tmp_path: Path) -> None:
        code = f"""
import json, sys
import function_app
from shared.bootstrap import adapters, build
from shared.core.settings import Settings
settings = Settings(
    data_dir={str(tmp_path)!r},
    queue_connection="UseDevelopmentStorage=true",
    realtime_connection="Endpoint=http://127.0.0.1:1;AccessKey=a2V5;Version=1.0;",
    redis_url="redis://127.0.0.1:1",
    anthropic_api_key="key",
)
build(settings, adapters(settings))
print(json.dumps(list(sys.modules)))
"""
        assert set(json.loads(fresh_process(code))).isdisjoint(SLOW)
        assert list(tmp_path.iterdir()) == []

    def test_importing_touches_no_setting(self) -> None:
        code = """
import os
class Silent(dict):
    def __getitem__(self, name):
        raise AssertionError(f"{name} was read at import")
import shared.core.settings
real = dict(os.environ)
names = {item.metadata["env"] for item in shared.core.settings.Settings.__dataclass_fields__.values()}
get = os.environ.get
def watched(name, default=None):
    assert name not in names, f"{name} was read at import"
    return get(name, default)
os.environ.get = watched
import function_app
print("silent")
"""
        assert fresh_process(code).strip() == "silent"
