"""The import job: copies branches and tags, says how far it is, keeps credentials to itself."""

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.agent.platform_api import PlatformApi, git, make_repository, push_files


@dataclass
class Outcome:
    status: int
    output: list[str]
    errors: str


async def run_import(api: PlatformApi, home: Path, source: str, **changes: str) -> Outcome:
    token = "git-import-token-1"
    api.git_tokens.append(token)
    env = {
        "SOURCE_URL": source,
        "TARGET_URL": f"{api.base_url}/git/acme/new.git",
        "TARGET_TOKEN": token,
        "HOME": str(home),
        "PATH": os.environ["PATH"],
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent_container.importer"),
        cwd=Path(__file__).parents[2],
        env=env | changes,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert token not in (output + errors).decode()
    return Outcome(process.returncode or 0, output.decode().splitlines(), errors.decode())


@pytest.fixture
def target(api: PlatformApi) -> Path:
    path = api.root / "acme" / "new.git"
    make_repository(path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere" / "old.git"
    make_repository(path, files={f"file{number}.txt": "x" * number for number in range(30)})
    push_files(path, "feature/a", {"a.txt": "a"}, start="origin/main")
    git(path, "tag", "v1", "main")
    git(path, "tag", "--annotate", "--message=two", "v2", "feature/a")
    git(path, "update-ref", "refs/pull/1/head", "feature/a")
    git(path, "branch", "--move", "main", "trunk")
    git(path, "symbolic-ref", "HEAD", "refs/heads/trunk")
    return path


def references(repository: Path) -> dict[str, str]:
    rows = git(repository, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(row.split(" ") for row in rows)


class TestImport:
    async def test_branches_and_tags_arrive_with_progress(
        self, api: PlatformApi, tmp_path: Path, source: Path, target: Path
    ) -> None:
        done = await run_import(api, tmp_path, str(source))
        assert done.status == 0, done.errors
        expected = references(source)
        assert expected.pop("refs/pull/1/head")
        assert references(target) == expected
        assert done.output[-1] == "default-branch trunk"
        shown = [line.split(" ", 2) for line in done.output[:-1]]
        assert all(word == "progress" for word, _, _ in shown)
        percents = [int(percent) for _, percent, _ in shown]
        assert percents == sorted(set(percents))
        assert (percents[0], percents[-1]) == (1, 100)
        assert any("Pushing" in text for _, _, text in shown)
        assert not (tmp_path / "work" / "import.git").exists()

    async def test_repeating_an_import_changes_nothing(
        self, api: PlatformApi, tmp_path: Path, source: Path, target: Path
    ) -> None:
        for _ in range(2):
            done = await run_import(api, tmp_path, source.as_uri())
            assert done.status == 0, done.errors
        assert len(references(target)) == 4

    async def test_a_login_in_the_source_is_used_and_never_shown(
        self, api: PlatformApi, tmp_path: Path, target: Path
    ) -> None:
        api.git_tokens.append("p%ss:word")
        url = f"{api.base_url}/git/acme/site.git".replace("://", "://x-access-token:p%25ss%3Aword@")
        done = await run_import(api, tmp_path, url, TARGET_TOKEN="p%ss:word")
        assert done.status == 0, done.errors
        assert "word" not in "".join(done.output) + done.errors
        assert references(target) == references(api.repository)


class TestRefusal:
    async def test_an_empty_source(self, api: PlatformApi, tmp_path: Path, target: Path) -> None:
        make_repository(tmp_path / "empty.git")
        done = await run_import(api, tmp_path, str(tmp_path / "empty.git"))
        assert done.status == 1
        assert done.errors.splitlines()[-1].startswith("The source repository is empty")

    async def test_a_source_that_is_not_there(self, api: PlatformApi, tmp_path: Path, target: Path) -> None:
        done = await run_import(api, tmp_path, str(tmp_path / "nowhere"))
        assert done.status == 1
        assert done.errors.splitlines()[-1].startswith("The source repository could not be read: fatal:")

    async def test_a_program_as_source(self, api: PlatformApi, tmp_path: Path, target: Path) -> None:
        done = await run_import(api, tmp_path, f"ext::touch {tmp_path}/owned")
        assert done.status == 1
        assert not (tmp_path / "owned").exists()

    async def test_a_target_token_that_is_not_valid(
        self, api: PlatformApi, tmp_path: Path, source: Path, target: Path
    ) -> None:
        done = await run_import(api, tmp_path, str(source), TARGET_TOKEN="wrong")
        assert done.status == 1
        assert done.errors.splitlines()[-1].startswith("The new repository could not be filled:")

    async def test_an_incomplete_environment(self, api: PlatformApi, tmp_path: Path) -> None:
        done = await run_import(api, tmp_path, "")
        assert (done.status, done.errors.split()[0]) == (2, "SOURCE_URL")
