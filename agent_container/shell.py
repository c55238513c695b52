"""Runs a command in its own session with a time limit and bounded output; nothing it started survives it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_DRAIN_SECONDS = 0.5


class Capped:
    """Keeps the first and the last half of `limit` bytes of a stream."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0

    def add(self, data: bytes) -> None:
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        excess = len(self._tail) - self._half
        if excess > 0:
            del self._tail[:excess]
            self._dropped += excess

    def text(self) -> str:
        if not self._dropped:
            return (self._head + self._tail).decode(errors="replace")
        gap = f"\n[... {self._dropped} bytes of output left out ...]\n"
        return self._head.decode(errors="replace") + gap + self._tail.decode(errors="replace")


@dataclass(frozen=True)
class Completed:
    """How a command ended. `status` is negative when a signal killed it."""

    status: int
    output: str
    errors: str
    timed_out: bool = False


async def run(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout: float,  # noqa: ASYNC109 - the group must be killed before the time-out is reported
    limit: int = 1_000_000,
    merge: bool = False,
    stdin: bytes | None = None,
    pass_fds: Sequence[int] = (),
    on_error_line: Callable[[str], None] | None = None,
) -> Completed:
    """Runs `command` to its end. `merge` puts stderr into `output`; `on_error_line` sees stderr as it comes.

    Raises FileNotFoundError when there is no such program.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=dict(env),
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT if merge else asyncio.subprocess.PIPE,
        start_new_session=True,
        pass_fds=tuple(pass_fds),
    )
    output, errors = Capped(limit), Capped(limit)
    readers = [
        asyncio.create_task(_read(stream, into, seen))
        for stream, into, seen in ((process.stdout, output, None), (process.stderr, errors, on_error_line))
        if stream is not None
    ]
    timed_out = False
    try:
        async with asyncio.timeout(timeout):
            await _feed(process, stdin)
            await process.wait()
    except TimeoutError:
        timed_out = True
    finally:
        kill_group(process.pid)
        await process.wait()
        _, late = await asyncio.wait(readers, timeout=_DRAIN_SECONDS)
        for reader in late:
            reader.cancel()
    return Completed(process.returncode or 0, output.text(), errors.text(), timed_out)


def kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


async def _feed(process: asyncio.subprocess.Process, data: bytes | None) -> None:
    if process.stdin is None or data is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _read(stream: asyncio.StreamReader, into: Capped, on_line: Callable[[str], None] | None) -> None:
    """Lines end with a line feed or, in progress displays, with a carriage return."""
    rest = b""
    while data := await stream.read(65536):
        into.add(data)
        if on_line:
            *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                on_line(line.decode(errors="replace"))
