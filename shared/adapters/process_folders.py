"""What a process host keeps in a folder: how a job or service is doing, its log, and how to end it."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any, Literal

from shared.adapters import process_job
from shared.adapters.process_job import EXIT, JOB, LOG, SPEC
from shared.core.errors import Unavailable
from shared.core.log import Log
from shared.core.ports import Hosted, Job

log = Log(__name__)

_TAIL_BYTES = 16_384
_STOP_SECONDS = process_job.GRACE_SECONDS + 3
_KEPT_SECONDS = 7 * 24 * 3600
_CHUNK_BYTES = 65_536
_LOCKS = 16
type Status = Literal["absent", "running", "exited"]


def stop_all(root: Path) -> None:
    """Ends every job under `root` that still runs, whoever started it. For supervisors, after the host has ended."""
    folders = [path.parent for path in (root.resolve() / "jobs").glob(f"[!.]*/{JOB}")]
    for folder in folders:
        _ask_to_stop(folder)
    for folder in folders:
        stop(folder)


def look(folder: Path, kind: str) -> Job | None:
    status, about = state(folder), read(folder / SPEC) or {}
    if status == "absent" or about.get("kind", "job") != kind:
        return None
    if status == "exited":
        ended = read(folder / EXIT) or {}
        return Job(folder.name, "exited", ended.get("exit_code"), tail(folder))
    return Job(folder.name, "running", None, tail(folder))


def state(folder: Path) -> Status:
    """`absent`, `running` or `exited`. A job whose keeper was killed is settled here, without an exit code."""
    if (folder / EXIT).exists():
        return "exited"
    keeper = read(folder / JOB)
    if keeper is None:
        return "absent"
    if process_job.alive(keeper["pid"], keeper["started"]):
        return "running"
    try:
        if not (folder / EXIT).exists():
            process_job.write_json(folder / EXIT, {"exit_code": None})
            process_job.clean(folder)
    except FileNotFoundError:  # it is removed while we look
        return "absent"
    return "exited"


def stop(folder: Path) -> None:
    _ask_to_stop(folder)
    deadline = time.monotonic() + _STOP_SECONDS
    while state(folder) == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    keeper = read(folder / JOB)
    if keeper and state(folder) == "running":
        log.warning("job.killed", job=folder.name)
        process_job.kill_tree(keeper["pid"])
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper["pid"], signal.SIGKILL)


def kill(folder: Path) -> None:
    """Everything but the keeper, which then writes down the end."""
    keeper = read(folder / JOB)
    deadline = time.monotonic() + _STOP_SECONDS
    while keeper and state(folder) == "running" and time.monotonic() < deadline:
        process_job.kill_tree(keeper["pid"])
        time.sleep(0.02)


def hosted(jobs: Path) -> list[Hosted]:
    found = list[Hosted]()
    for folder in sorted(jobs.glob("[!.]*")):
        status, about = state(folder), read(folder / SPEC)
        if about and status != "absent":
            found.append(Hosted(folder.name, about["team_id"], about["kind"], status))
    return found


def read_log(path: Path, place: int, *, ended: bool) -> bytes:
    """Whole lines that follow `place`; of a line longer than a piece, and at the end of the log, what there is."""
    with path.open("rb") as stream:
        stream.seek(place)
        data = stream.read(_CHUNK_BYTES)
    lines = data[: data.rfind(b"\n") + 1]
    return data if (ended or len(data) == _CHUNK_BYTES) and not lines else lines


@contextlib.contextmanager
def exclusive(locks: Path, name: str) -> Generator[None]:
    """Nobody else, in any process, starts or removes what bears this name meanwhile."""
    path = locks / str(zlib.crc32(name.encode()) % _LOCKS)
    try:
        locks.mkdir(parents=True, mode=0o700, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Unavailable(f"The folder of jobs cannot be written: {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def discard(folder: Path) -> None:
    """Ends it and takes it away at once, for everyone who looks."""
    kill(folder)
    gone = folder.with_name(f".{folder.name}.{time.monotonic_ns()}")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _ask_to_stop(folder: Path) -> None:
    """The keeper ends the job, everything it started, and itself."""
    keeper = read(folder / JOB)
    if keeper and not (folder / EXIT).exists() and process_job.alive(keeper["pid"], keeper["started"]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper["pid"], signal.SIGTERM)


def reap(jobs: Path) -> None:
    for folder in jobs.glob("[!.]*"):
        if state(folder) == "exited":
            process_job.clean(folder)
            about = read(folder / SPEC) or {}
            if about.get("kind") != "service" and time.time() - (folder / EXIT).stat().st_mtime > _KEPT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def tail(folder: Path) -> str:
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


def read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
