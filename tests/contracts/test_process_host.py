"""What the process driver promises beside the contract of container hosts."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from shared.adapters import process_job
from shared.adapters.process_folders import stop_all
from shared.adapters.process_host import ProcessHost
from shared.core.errors import Unavailable
from shared.core.ports import JobSpec
from tests.contracts.hosts import PROGRAMS, ended
from tests.waiting import until


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncGenerator[ProcessHost]:
    host = ProcessHost(tmp_path / "host")
    yield host
    await host.close()
    stop_all(tmp_path / "host")


class TestProcesses:
    async def test_says_that_it_does_not_isolate(self, processes: ProcessHost) -> None:
        assert (processes.driver, processes.isolated) == ("process", False)

    async def test_a_job_sees_its_own_environment_only(
        self, processes: ProcessHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-very-secret")
        spec = JobSpec("env", "t0", (PROGRAMS, "show_environment"), {"RUN_ID": "r1", "HOME": "/elsewhere"})
        await processes.start_job(spec)
        job = await ended(processes, "env")
        lines = job.log_tail.splitlines()
        home = tmp_path / "host" / "jobs" / "env" / "home"
        assert {"RUN_ID=r1", f"HOME={home}", f"cwd={home}", "umask=077"} <= set(lines)
        names = {line.partition("=")[0] for line in lines} - {"cwd", "umask", "LC_CTYPE"}
        assert names <= {
            *("PATH", "LANG", "LC_ALL", "TZ", "HOME", "TMPDIR", "PYTHONPATH", "RUN_ID"),
            *("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"),
            *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
            *("NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"),
        }
        assert "sk-very-secret" not in job.log_tail

    async def test_secrets_are_in_no_file_and_no_argument(self, processes: ProcessHost, tmp_path: Path) -> None:
        spec = JobSpec("quiet", "t0", (PROGRAMS, "wait_for", str(tmp_path / "never")), {"RUN_TOKEN": "tok-12345"})
        await processes.start_job(spec)
        for path in (tmp_path / "host").rglob("*"):
            assert not path.is_file() or b"tok-12345" not in path.read_bytes()
        keeper = _keeper(tmp_path, "quiet")
        for pid in (keeper, *process_job.descendants(keeper)):
            assert b"tok-12345" not in Path(f"/proc/{pid}/cmdline").read_bytes()

    @pytest.mark.parametrize("stubborn", [(), ("stubborn",)])
    async def test_stopping_ends_grandchildren_in_their_own_sessions(
        self, processes: ProcessHost, tmp_path: Path, stubborn: tuple[str, ...]
    ) -> None:
        pids = await _breed(processes, tmp_path, *stubborn)
        await processes.stop_job("breed")
        await until(lambda: not _running(pids))

    async def test_what_a_job_leaves_behind_ends_with_it(self, processes: ProcessHost, tmp_path: Path) -> None:
        pids = await _breed(processes, tmp_path)
        os.kill(pids[0], signal.SIGKILL)
        job = await ended(processes, "breed")
        assert job.exit_code == 137
        assert not _running(pids)

    async def test_the_time_limit_ends_everything(self, processes: ProcessHost, tmp_path: Path) -> None:
        pids = await _breed(processes, tmp_path, time_limit=2)
        job = await ended(processes, "breed")
        assert job.exit_code == 124
        assert "Stopped after 2 seconds, the time limit of this job." in job.log_tail
        assert not _running(pids)

    async def test_a_restarted_host_finds_its_jobs(self, processes: ProcessHost, tmp_path: Path) -> None:
        """A host that was killed leaves its jobs running; the next one sees their end or stops them."""
        spec = "JobSpec('kept', 't0', ('tests.contracts.container_jobs', 'wait_for', sys.argv[2]), {})"
        program = (
            "import asyncio, os, sys; from pathlib import Path\n"
            "from shared.adapters.process_host import ProcessHost; from shared.core.ports import JobSpec\n"
            f"asyncio.run(ProcessHost(Path(sys.argv[1])).start_job({spec})); os.kill(os.getpid(), 9)"
        )
        command = [sys.executable, "-c", program, str(tmp_path / "host"), str(tmp_path / "file")]
        killed = await asyncio.to_thread(subprocess.run, command, cwd=Path(__file__).parents[2])
        assert killed.returncode == -signal.SIGKILL
        await processes.reap()
        job = await processes.job("kept")
        assert job
        assert job.status == "running"
        (tmp_path / "draft").write_text("5 later")
        (tmp_path / "draft").replace(tmp_path / "file")
        assert (await ended(processes, "kept")).exit_code == 5

    async def test_a_job_whose_keeper_was_killed_has_exited(self, processes: ProcessHost, tmp_path: Path) -> None:
        spec = JobSpec("lost", "t0", (PROGRAMS, "wait_for", str(tmp_path / "never")), {})
        await processes.start_job(spec)
        keeper = _keeper(tmp_path, "lost")
        pids = process_job.descendants(keeper)
        os.kill(keeper, signal.SIGKILL)
        job = await ended(processes, "lost")
        assert job.exit_code is None
        await until(lambda: not _running(pids))

    async def test_a_recycled_process_id_is_left_alone(self, processes: ProcessHost, tmp_path: Path) -> None:
        bystander = await asyncio.create_subprocess_exec("sleep", "60")
        folder = tmp_path / "host" / "jobs" / "old"
        folder.mkdir(parents=True)
        process_job.write_json(folder / "job.json", {"pid": bystander.pid, "started": "1"})
        await processes.reap()
        await processes.stop_job("old")
        stop_all(tmp_path / "host")
        assert bystander.returncode is None
        assert _running([bystander.pid])
        bystander.kill()
        await bystander.wait()

    async def test_stop_all_leaves_no_process(self, processes: ProcessHost, tmp_path: Path) -> None:
        pids = await _breed(processes, tmp_path)
        pids.append(_keeper(tmp_path, "breed"))
        await asyncio.to_thread(stop_all, tmp_path / "host")
        await until(lambda: not _running(pids))

    async def test_a_long_log_is_cut_to_its_last_whole_lines(self, processes: ProcessHost) -> None:
        await processes.start_job(JobSpec("loud", "t0", (PROGRAMS, "print_lines", "5000"), {}))
        tail = (await ended(processes, "loud")).log_tail
        assert len(tail) < 17_000
        assert tail.startswith("line ")
        assert tail.splitlines()[-1].startswith("line 4999 ")

    async def test_an_ended_job_leaves_its_log_only(self, processes: ProcessHost, tmp_path: Path) -> None:
        await processes.start_job(JobSpec("tidy", "t0", (PROGRAMS, "print_lines", "1"), {}))
        await ended(processes, "tidy")
        folder = tmp_path / "host" / "jobs" / "tidy"
        await until(
            lambda: (
                {path.name for path in folder.iterdir()} == {"job.json", "exit.json", "spec.json", "job.log", "lock"}
            )
        )

    async def test_a_folder_that_cannot_be_made_is_unavailable(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(Unavailable):
            await ProcessHost(tmp_path / "file").start_job(JobSpec("a", "t0", (PROGRAMS, "print_lines", "1"), {}))


async def _breed(host: ProcessHost, tmp_path: Path, *arguments: str, time_limit: int = 60) -> list[int]:
    """Starts a job with a grandchild; the ids of all three processes."""
    path = tmp_path / "pids"
    spec = JobSpec("breed", "t0", (PROGRAMS, "breed", str(path), *arguments), {}, time_limit)
    await host.start_job(spec)
    await until(path.exists)
    return [int(pid) for pid in path.read_text().split()]


def _keeper(tmp_path: Path, name: str) -> int:
    import json

    return json.loads((tmp_path / "host" / "jobs" / name / "job.json").read_text())["pid"]


def _running(pids: list[int]) -> set[int]:
    return set(pids) & process_job.process_table().keys()
