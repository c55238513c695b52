"""What CI's script runs side by side ends together."""

import asyncio
import contextlib
import re
import shutil
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from local.cloud import ROOT
from tests.requires import require
from tests.waiting import until

_HEAD = f"""
set -euo pipefail
source {ROOT}/.ci/lanes
grace=3
echo "work: $work"
"""


@contextlib.asynccontextmanager
async def script(body: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *("env", "--default-signal", "bash", "-c", _HEAD + body),  # whatever who started the tests ignores
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def result(body: str) -> tuple[int, str]:
    async with script(body) as process:
        said, _ = await process.communicate()
        return await process.wait(), said.decode()


def work_of(said: str) -> Path:
    found = re.search(r"^work: (.+)$", said, re.MULTILINE)
    assert found, said
    return Path(found[1])


def running(pid: str) -> bool:
    """A zombie has ended."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture(autouse=True)
def bash() -> None:
    require(shutil.which("bash"), "CI's script needs bash.")
    require(Path("/proc/self").exists(), "CI's script looks for processes in /proc: run it on Linux.")


class TestLanes:
    async def test_all_pass_and_their_output_is_printed_apart(self) -> None:
        status, said = await result(
            "one() { echo a; sleep 0.1; echo b; }\nbegin one one\nbegin two echo c\nfinish one two\necho the end"
        )
        assert status == 0
        assert re.search(r"== one: [\d. s,+]+of processor\na\nb\n\n== two: .*\nc\nthe end", said)
        assert not work_of(said).exists()

    async def test_a_failure_ends_the_others_at_once_and_prints_what_each_said(self) -> None:
        lanes = """
        waits() { trap 'echo tidied up; exit 1' INT; echo waiting; sleep 300 & wait; }
        fails() { until grep -q waiting "$work/waits.log"; do sleep 0.02; done; echo 1 failed in 2.5s; return 1; }
        begin waits waits
        begin fails fails
        finish waits fails
        echo never
        """
        async with asyncio.timeout(30):
            status, said = await result(lanes)
        assert status == 1
        assert re.search(r"== waits: .*\nwaiting\ntidied up\n", said)
        assert said.endswith("== FAILED: fails\n1 failed in 2.5s\n")
        assert "never" not in said
        assert not work_of(said).exists()

    async def test_a_failure_is_noticed_before_anybody_asks_for_it(self) -> None:
        async with asyncio.timeout(30):
            status, said = await result("begin long sleep 300\nbegin fails false\nfinish long")
        assert status == 1
        assert said.endswith("== FAILED: fails\n")

    @pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
    async def test_a_signal_ends_all(self, number: signal.Signals, status: int) -> None:
        async with asyncio.timeout(30), script("begin long bash -c 'echo $$; sleep 300'\nfinish long") as process:
            assert process.stdout
            head = await process.stdout.readuntil(b"== long: started\n")
            log = work_of(head.decode()) / "long.log"
            pid = await until(lambda: log.exists() and log.read_text().strip())
            assert running(pid)
            process.send_signal(number)
            said = (await process.stdout.read()).decode()
            assert await process.wait() == status
        assert pid in said
        assert not running(pid)
        assert not log.parent.exists()

    async def test_what_does_not_end_is_killed(self) -> None:
        """In a session of its own as well, when it works on the lanes' folder: so an engine's processes do."""
        lanes = """
        deaf() { trap '' INT; setsid bash -c 'echo $$; sleep 300; exit' "$work/a" & sleep 301; }
        fails() { until grep -q . "$work/deaf.log"; do sleep 0.02; done; return 1; }
        begin deaf deaf
        begin fails fails
        finish deaf fails
        """
        async with asyncio.timeout(30):
            status, said = await result(lanes)
        assert status == 1
        deaf = re.search(r"== deaf: \n(\d+)\n", said)
        assert deaf, said
        assert not running(deaf[1])
        assert said.endswith("== FAILED: fails\n")
