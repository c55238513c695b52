"""`make demo` in a process of its own: its exit code tells whether the branch holds the commit."""

import asyncio
import os
import sys
from pathlib import Path

from local.cloud import ROOT
from local.demo import example_repository
from tests.flows.world import KEPT, combination, on_docker


async def demo(*arguments: str) -> tuple[int, str]:
    """Exit code and all it printed."""
    env = {name: os.environ[name] for name in KEPT if name in os.environ} | combination() | {"COLUMNS": "200"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local.demo", *arguments),
        cwd=ROOT,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 240)
    return process.returncode or 0, output.decode()


class TestDemo:
    async def test_the_example_ends_with_a_branch_that_holds_the_commit(self, cloud_parts: None) -> None:
        code, output = await demo()
        assert code == 0, output
        for expected in ("Diffstat", "5 files", "Turns", "Tokens", "notional: demo model", "holds commit"):
            assert expected in output
        assert ("isolated: each job in a container" if on_docker() else "no isolation: commands run as you") in output

    async def test_a_card_without_an_instruction_fails_with_the_reason(self, cloud_parts: None, tmp_path: Path) -> None:
        card = tmp_path / "card.md"
        card.write_text("# Improve [/this]\n\nMake it better.\n")
        code, output = await demo("--repo", str(_repository(tmp_path)), "--card", str(card))
        assert code == 1
        assert "Improve [/this]" in output
        assert "no instruction" in output.lower()

    async def test_a_folder_that_is_no_repository_is_refused_before_anything_starts(self, tmp_path: Path) -> None:
        code, output = await demo("--repo", str(tmp_path))
        assert code == 1
        assert "is not a git repository" in output
        assert "Starting" not in output

    async def test_a_card_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        code, output = await demo("--card", str(tmp_path / "none.md"))
        assert code == 1
        assert "none.md cannot be read" in output


def _repository(folder: Path) -> Path:
    example_repository(folder / "repository")
    return folder / "repository"
