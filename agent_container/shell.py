"""Runs a command in its own session with a time limit and bounded output; nothing it started survives it."""

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

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
    stdin: bytes = b"",
    pass_fds: Sequence[int] = (),
    on_error_line: Callable[[str], None] | None = None,
) -> Completed:
    """Runs `command` to its end. `merge` puts stderr into `output`; `on_error_line` sees stderr as it comes.

    Raises FileNotFoundError when there is no such program.
    """
    with tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        async with _Pipe(limit) as output, _Pipe(limit, on_error_line) as errors:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=cwd,
                env=dict(env),
                stdin=given,
                stdout=output.writing_end,
                stderr=output.writing_end if merge else errors.writing_end,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
            )
            timed_out = not await _ended(process, timeout)
    return Completed(process.returncode or 0, output.text(), errors.text(), timed_out)


async def _ended(process: asyncio.subprocess.Process, seconds: float) -> bool:
    """Waits for the process, then ends whatever else is in its group; False when the time was up first."""
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        return False
    finally:
        kill_group(process.pid)
        await process.wait()
    return True


class _Pipe:
    """A pipe read into a bounded text.

    asyncio's own pipes would not do: with them, waiting for a process waits for everyone who holds its output.
    """

    def __init__(self, limit: int, on_line: Callable[[str], None] | None = None) -> None:
        self._kept = Capped(limit)
        self._on_line = on_line
        self._reading_end, self.writing_end = os.pipe()

    async def __aenter__(self) -> Self:
        stream = asyncio.StreamReader()
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(self._reading_end, "rb", 0)
        )
        self._reader = asyncio.create_task(self._read(stream))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.writing_end)
        await asyncio.wait({self._reader}, timeout=_DRAIN_SECONDS)
        self._reader.cancel()
        self._transport.close()

    def text(self) -> str:
        return self._kept.text()

    async def _read(self, stream: asyncio.StreamReader) -> None:
        """Lines end with a line feed or, in progress displays, with a carriage return."""
        rest = b""
        while data := await stream.read(65536):
            self._kept.add(data)
            if self._on_line:
                *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
                for line in lines:
                    self._on_line(line.decode(errors="replace"))


def kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
