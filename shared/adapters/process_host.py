"""Container host `process`: each job is a local process tree, for machines without a container engine.

No isolation: a job's commands run as this user. Each job has a scrubbed environment and a folder of its own.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.adapters import process_job
from shared.adapters.process_job import EXIT, HOME, JOB, LOG, TMP
from shared.core.errors import Invalid, Unavailable
from shared.core.log import Log
from shared.core.ports import Job, JobSpec

log = Log(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_INHERITED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
)
_TAIL_BYTES = 16_384
_START_SECONDS = 10.0
_STOP_SECONDS = process_job.GRACE_SECONDS + 3
_KEPT_SECONDS = 7 * 24 * 3600


class ProcessHost:
    """Jobs live in `<root>/jobs/<name>/`; each is kept by a process of its own, so they outlive a restart of ours."""

    driver = "process"
    isolated = False

    def __init__(self, root: Path, python_path: Path | None = None) -> None:
        """`python_path` is the folder that holds the package `agent_container`."""
        self._jobs = root.resolve() / "jobs"
        self._python_path = python_path or Path(__file__).parents[2]
        self._reaped = False
        self._known: set[str] = set()
        self._children: list[subprocess.Popen[bytes]] = []

    async def start_job(self, spec: JobSpec) -> Job:
        folder = self._folder(spec.name)
        if not self._reaped:
            self._reaped = True
            await self.reap()
        self._known.add(spec.name)
        await asyncio.to_thread(self._start, folder, spec)
        job = await self.job(spec.name)
        if job is None:
            raise Unavailable(f"The job {spec.name} could not be started.")
        return job

    async def job(self, name: str) -> Job | None:
        return await asyncio.to_thread(_look, self._folder(name))

    async def stop_job(self, name: str) -> None:
        await asyncio.to_thread(_stop, self._folder(name))

    async def close(self) -> None:
        """Stops every job that was started or adopted here."""
        await asyncio.gather(*(self.stop_job(name) for name in self._known))
        for child in self._children:
            child.poll()

    async def reap(self) -> None:
        """Settles jobs whose process is gone, and forgets jobs that ended a week ago. Done before the first start."""
        await asyncio.to_thread(_reap, self._jobs)

    def _folder(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise Invalid(f"{name!r} cannot be the name of a job.")
        return self._jobs / name

    def _start(self, folder: Path, spec: JobSpec) -> None:
        """Spawns the job's keeper unless the job is there; two at once end in one, by the keeper's lock."""
        try:
            for name in (HOME, TMP):
                (folder / name).mkdir(parents=True, mode=0o700)
        except FileExistsError:
            if _status(folder) != "absent":
                return
        except OSError as error:
            raise Unavailable(f"The job's folder cannot be made: {error.strerror}.") from error
        os.chmod(folder, 0o700)
        self._children = [child for child in self._children if child.poll() is None]
        self._children.append(_spawn(folder, spec, self._python_path))
        _await_start(folder, self._children[-1])


def stop_all(root: Path) -> None:
    """Ends every job under `root` that still runs, whoever started it. For supervisors, after the host has ended."""
    folders = [path.parent for path in (root.resolve() / "jobs").glob(f"*/{JOB}")]
    for folder in folders:
        _ask_to_stop(folder)
    for folder in folders:
        _stop(folder)


def _spawn(folder: Path, spec: JobSpec, python_path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", *spec.command]
    keeper = [sys.executable, "-I", "-S", process_job.__file__, str(folder), str(spec.time_limit), *command]
    try:
        with open(os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            return subprocess.Popen(  # noqa: S603 - our own program, arguments as a list
                keeper,
                cwd=folder,
                env=_environment(folder, spec.env, python_path),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
            )
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise Unavailable(f"The job could not be started: {error.strerror}.") from error


def _environment(folder: Path, env: Mapping[str, str], python_path: Path) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    own = {"HOME": str(folder / HOME), "TMPDIR": str(folder / TMP), "PYTHONPATH": str(python_path)}
    return inherited | {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"} | dict(env) | own


def _await_start(folder: Path, keeper: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not (folder / JOB).exists():
        if keeper.poll() not in (None, 0) or time.monotonic() > deadline:
            raise Unavailable(f"The job did not start. {_tail(folder)}".strip())
        time.sleep(0.005)


def _look(folder: Path) -> Job | None:
    status = _status(folder)
    if status == "absent":
        return None
    if status == "exited":
        ended = _read(folder / EXIT) or {}
        return Job(folder.name, "exited", ended.get("exit_code"), _tail(folder))
    return Job(folder.name, "running", None, _tail(folder))


def _status(folder: Path) -> str:
    """`absent`, `running` or `exited`. A job whose keeper was killed is settled here, without an exit code."""
    if (folder / EXIT).exists():
        return "exited"
    keeper = _read(folder / JOB)
    if keeper is None:
        return "absent"
    if process_job.alive(keeper["pid"], keeper["started"]):
        return "running"
    if not (folder / EXIT).exists():
        process_job.write_json(folder / EXIT, {"exit_code": None})
        process_job.clean(folder)
    return "exited"


def _stop(folder: Path) -> None:
    _ask_to_stop(folder)
    deadline = time.monotonic() + _STOP_SECONDS
    while _status(folder) == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    keeper = _read(folder / JOB)
    if keeper and _status(folder) == "running":
        log.warning("job.killed", job=folder.name)
        process_job.kill_tree(keeper["pid"])
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper["pid"], signal.SIGKILL)


def _ask_to_stop(folder: Path) -> None:
    """The keeper ends the job, everything it started, and itself."""
    keeper = _read(folder / JOB)
    if keeper and not (folder / EXIT).exists() and process_job.alive(keeper["pid"], keeper["started"]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper["pid"], signal.SIGTERM)


def _reap(jobs: Path) -> None:
    for folder in jobs.glob("*"):
        if _status(folder) == "exited":
            process_job.clean(folder)
            if time.time() - (folder / EXIT).stat().st_mtime > _KEPT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _tail(folder: Path) -> str:
    """The last lines of the log, whole ones."""
    try:
        with (folder / LOG).open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(size - _TAIL_BYTES, 0))
            data = stream.read(_TAIL_BYTES)
    except FileNotFoundError:
        return ""
    if size > _TAIL_BYTES:
        data = data.partition(b"\n")[2]
    return data.decode(errors="replace")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
