"""What every container host does with jobs, and what the process driver promises beside it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from shared.adapters import process_job
from shared.adapters.process_folders import stop_all
from shared.adapters.process_host import ProcessHost
from shared.core.errors import Invalid, Unavailable
from shared.core.ports import ContainerHost, Job, JobSpec
from tests.fakes.container_host import FakeContainerHost

PROGRAMS = "tests.contracts.container_jobs"


async def until[T](look: Callable[[], T], seconds: float = 15) -> T:
    """The first truthy answer."""
    async with asyncio.timeout(seconds):
        while not (answer := look()):
            await asyncio.sleep(0.02)
        return answer


async def ended(host: ContainerHost, name: str) -> Job:
    async with asyncio.timeout(15):
        while True:
            job = await host.job(name)
            assert job
            if job.status == "exited":
                return job
            await asyncio.sleep(0.02)


class Harness:
    """A host, and a way to let one of its jobs end."""

    def __init__(self, host: ContainerHost, folder: Path) -> None:
        self.host = host
        self._folder = folder

    def spec(self, name: str = "run_t0_a") -> JobSpec:
        return JobSpec(name, "t0", (PROGRAMS, "wait_for", str(self._folder / name)), {"GREETING": "hi"})

    async def finish(self, name: str, code: int, text: str) -> None:
        if isinstance(self.host, FakeContainerHost):
            self.host.finish(name, code, text)
        else:
            draft = self._folder / f"{name}.draft"
            draft.write_text(f"{code} {text}")
            draft.replace(self._folder / name)


@pytest.fixture(params=["fake", "process"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Harness]:
    host = FakeContainerHost() if request.param == "fake" else ProcessHost(tmp_path / "host")
    yield Harness(host, tmp_path)
    await host.close()


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncGenerator[ProcessHost]:
    host = ProcessHost(tmp_path / "host")
    yield host
    await host.close()
    stop_all(tmp_path / "host")


class TestEveryHost:
    async def test_a_job_runs_and_ends_with_its_code_and_last_lines(self, harness: Harness) -> None:
        started = await harness.host.start_job(harness.spec())
        assert started.status == "running"
        await harness.finish("run_t0_a", 3, "no disk left")
        job = await ended(harness.host, "run_t0_a")
        assert (job.name, job.exit_code) == ("run_t0_a", 3)
        assert "no disk left" in job.log_tail

    async def test_starting_again_adopts(self, harness: Harness) -> None:
        await harness.host.start_job(harness.spec())
        assert (await harness.host.start_job(harness.spec())).status == "running"
        await harness.finish("run_t0_a", 0, "once")
        await ended(harness.host, "run_t0_a")
        again = await harness.host.start_job(harness.spec())
        assert (again.status, again.exit_code) == ("exited", 0)
        assert again.log_tail.count("once") == 1

    async def test_stopping_ends_it_and_repeating_is_harmless(self, harness: Harness) -> None:
        await harness.host.start_job(harness.spec())
        await harness.host.stop_job("run_t0_a")
        await harness.host.stop_job("run_t0_a")
        job = await harness.host.job("run_t0_a")
        assert job
        assert (job.status, job.exit_code) == ("exited", 143)

    async def test_a_job_that_never_was(self, harness: Harness) -> None:
        assert await harness.host.job("nobody") is None
        await harness.host.stop_job("nobody")

    async def test_jobs_do_not_meet(self, harness: Harness) -> None:
        await harness.host.start_job(harness.spec("one"))
        await harness.host.start_job(harness.spec("two"))
        await harness.host.stop_job("one")
        two = await harness.host.job("two")
        assert two
        assert two.status == "running"

    @pytest.mark.parametrize("name", ["../a", "", "a/b", ".", "a b", "a\n", "x" * 101])
    async def test_names_that_are_paths_are_refused(self, harness: Harness, name: str) -> None:
        with pytest.raises(Invalid):
            await harness.host.start_job(harness.spec(name))

    async def test_closing_ends_running_jobs(self, harness: Harness) -> None:
        await harness.host.start_job(harness.spec())
        await harness.host.close()
        job = await harness.host.job("run_t0_a")
        assert job
        assert job.status == "exited"


class TestProcessHost:
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
