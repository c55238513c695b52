"""Keeps one local job: runs its command, its time limit and its end, whatever becomes of the process that started it.

Run as a program of its own, `python -I -S process_job.py FOLDER SECONDS MEMORY_MB PROCESSES COMMAND...`: standard
library only. Memory (resident sizes, added up) and processes are looked at once a second, on Linux.
It writes `job.json` when it starts and `exit.json` when everything the job started is gone.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

JOB, EXIT, SPEC, LOG, LOCK, HOME, TMP = "job.json", "exit.json", "spec.json", "job.log", "lock", "home", "tmp"
HEALTHY = "healthy"
EXIT_TIME_LIMIT, EXIT_KILLED = 124, 137
GRACE_SECONDS = 5.0
LOOK_SECONDS = 1.0

_LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36


@dataclass(frozen=True)
class Process:
    """A row of the process table. `started` tells it from a later process with the same id."""

    pid: int
    parent: int
    started: str


@dataclass(frozen=True)
class Bounds:
    """The most that everything a job started may use. Seconds may be infinite."""

    seconds: float
    memory_mb: int
    processes: int

    def exceeded(self) -> str:
        """Which of memory and processes is over its limit, as a sentence."""
        running = descendants(os.getpid()) if _LINUX else []
        if len(running) > self.processes:
            return f"Ended by its limit of {self.processes} processes."
        if sum(resident_bytes(pid) for pid in running) > self.memory_mb * 2**20:
            return f"Ended by its memory limit of {self.memory_mb} MB."
        return ""


def resident_bytes(pid: int) -> int:
    try:
        return int(Path("/proc", str(pid), "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def process_table() -> dict[int, Process]:
    """All processes that have not ended, by id."""
    rows = _linux_table() if _LINUX else _ps_table()
    return {row.pid: row for row in rows}


def _linux_table() -> list[Process]:
    rows: list[Process] = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    rows.append(Process(int(entry), int(fields[1]), fields[19]))
    return rows


def _ps_table() -> list[Process]:
    listing = subprocess.run(
        ["/bin/ps", "-axo", "pid=,ppid=,stat=,lstart="],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = [line.split(None, 3) for line in listing.splitlines()]
    return [Process(int(row[0]), int(row[1]), row[3]) for row in rows if not row[2].startswith("Z")]


def alive(pid: int, started: str) -> bool:
    row = process_table().get(pid)
    return row is not None and row.started == started


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on."""
    table = process_table()
    found, level = list[int](), {pid}
    while level:
        level = {row.pid for row in table.values() if row.parent in level}
        found += level
    return found


def kill_tree(pid: int) -> None:
    """Kills what descends from `pid`, again until nothing is left; not `pid` itself."""
    for _ in range(50):
        left = descendants(pid)
        if not left:
            return
        for child in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        _reap()
        time.sleep(0.02)


def write_json(path: Path, value: object) -> None:
    """Whole or not at all."""
    draft = path.with_suffix(f".{os.getpid()}-{time.monotonic_ns()}.draft")
    draft.write_text(json.dumps(value))
    draft.replace(path)


def main(arguments: list[str]) -> int:
    folder, command = Path(arguments[0]), arguments[4:]
    limits = Bounds(float(arguments[1]), int(arguments[2]), int(arguments[3]))
    os.umask(0o077)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return 0
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    bell = _Bell()
    write_json(folder / JOB, {"pid": os.getpid(), "started": process_table()[os.getpid()].started})
    code = _supervise(command, folder / HOME, limits, bell)
    kill_tree(os.getpid())
    write_json(folder / EXIT, {"exit_code": code})
    clean(folder)
    return 0


def clean(folder: Path) -> None:
    """Removes what an ended job worked in; its log and result stay."""
    for name in (HOME, TMP):
        shutil.rmtree(folder / name, ignore_errors=True)


class _Bell:
    """Wakes the waiting supervisor when a child ends or a signal asks to stop."""

    def __init__(self) -> None:
        self.stop = False
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, self._on_child)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_stop)

    def wait(self, seconds: float) -> None:
        select.select([self._read], [], [], max(seconds, 0))
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)

    def _on_child(self, *_: object) -> None:
        """A handler of any kind makes the signal wake `wait`."""

    def _on_stop(self, *_: object) -> None:
        self.stop = True


def _supervise(command: list[str], home: Path, limits: Bounds, bell: _Bell) -> int:
    """The exit code: the command's, 128 + signal, 124 at the time limit, 137 at another limit."""
    deadline, ending, code_of_limit = time.monotonic() + limits.seconds, False, 0
    child = subprocess.Popen(  # noqa: S603 - the platform's own command
        command, cwd=home, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_die_with_parent
    )
    while (code := child.poll()) is None:
        left = deadline - time.monotonic()
        if not ending and (bell.stop or left <= 0):
            if not bell.stop:
                code_of_limit = EXIT_TIME_LIMIT
                _say(f"Stopped after {limits.seconds:g} seconds, the time limit of this job.")
            _signal_group(child.pid, signal.SIGTERM)
            ending, deadline = True, time.monotonic() + GRACE_SECONDS
        elif ending and left <= 0:
            _signal_group(child.pid, signal.SIGKILL)
            deadline = time.monotonic() + 1
        elif not ending and (reason := limits.exceeded()):
            code_of_limit = EXIT_KILLED
            _say(reason)
            _signal_group(child.pid, signal.SIGKILL)
            ending, deadline = True, time.monotonic() + 1
        else:
            bell.wait(min(left, LOOK_SECONDS))
    if code_of_limit:
        return code_of_limit
    return code if code >= 0 else 128 - code


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _reap() -> None:
    """Takes the status of ended children that nobody else waits for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
