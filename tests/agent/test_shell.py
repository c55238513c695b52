"""Commands: bounded in time, output and what they leave behind."""

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from agent_container.redact import Redactor, truncated
from agent_container.shell import Completed, run


async def bash(command: str, cwd: Path, seconds: float = 10, limit: int = 1_000_000) -> Completed:
    env = {"PATH": os.environ["PATH"]}
    return await run(["bash", "-c", command], cwd=cwd, env=env, timeout=seconds, limit=limit, merge=True)


class TestRun:
    async def test_output_and_status(self, tmp_path: Path) -> None:
        result = await bash("echo out; echo err >&2; exit 4", tmp_path)
        assert (result.status, result.output) == (4, "out\nerr\n")

    async def test_a_time_out_kills_the_whole_group_and_keeps_the_output(self, tmp_path: Path) -> None:
        result = await bash("echo begun; sleep 300 & sleep 300", tmp_path, seconds=0.5)
        assert result.timed_out
        assert result.output == "begun\n"

    async def test_a_background_process_neither_delays_nor_survives(self, tmp_path: Path) -> None:
        started = asyncio.get_running_loop().time()
        result = await bash("sleep 300 & echo $!", tmp_path)
        assert asyncio.get_running_loop().time() - started < 5
        await _gone(int(result.output))

    async def test_cancelling_kills_it(self, tmp_path: Path) -> None:
        task = asyncio.create_task(bash("echo $$ > pid; sleep 300", tmp_path))
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await _gone(int((tmp_path / "pid").read_text()))

    async def test_head_and_tail_of_a_flood(self, tmp_path: Path) -> None:
        result = await bash("seq 1 100000", tmp_path, limit=1000)
        assert result.output.startswith("1\n2\n")
        assert result.output.endswith("100000\n")
        assert "bytes of output left out" in result.output
        assert len(result.output) < 1100


class TestRedactor:
    def test_secrets_are_taken_out_before_cutting(self) -> None:
        redactor = Redactor("hunter2")
        redactor.add("")
        value = {"a": ["x hunter2", 3, None], "hunter2": {"b": "hunter2" * 900}}
        clean = redactor.value(value, 4000)
        assert "hunter2" not in str(clean)
        assert "characters left out" in str(clean)
        assert clean["a"][1:] == [3, None]

    @pytest.mark.parametrize("value", [10**30, -(10**30), float("nan"), float("inf"), "\ud800", {"\ud800": 1}])
    def test_what_no_store_takes_becomes_text(self, value: object) -> None:
        clean = json.dumps(Redactor().value({"a": [value]}, 4000), ensure_ascii=False, allow_nan=False).encode()
        assert json.loads(clean)["a"][0]
        assert max((int(digits) for digits in re.findall(rb"[^\"]\b(\d+)\b[^\"]", clean)), default=0) < 2**53

    def test_endless_nesting_is_cut(self) -> None:
        value: Any = "hunter2"
        for _ in range(400):
            value = {"a": [value]}
        clean = json.dumps(Redactor("hunter2").value(value, 4000))
        assert clean.count("[") < 60
        assert "hunter2" not in clean
        assert "too deeply" in clean

    def test_short_texts_stay(self) -> None:
        assert truncated("x" * 10, 10) == "x" * 10
        assert truncated("a" * 20 + "b" * 20, 12) == "aaaaaaaa\n[... 28 characters left out ...]\nbbbb"


async def _gone(pid: int) -> None:
    """A killed process may stay a zombie until its parent takes notice."""
    async with asyncio.timeout(5):
        while _state(pid) not in ("", "Z"):
            await asyncio.sleep(0.02)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
