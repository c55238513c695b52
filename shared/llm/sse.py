"""Server-sent events: where one ends, and keep-alives between them on a silent stream."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")


class Boundary:
    """Says whether the bytes so far end between two events."""

    def __init__(self) -> None:
        self._tail = b"\n\n"

    def feed(self, chunk: bytes) -> None:
        self._tail = (self._tail + chunk[-4:])[-4:]

    @property
    def between(self) -> bool:
        return self._tail.endswith(_ENDS)


class Splitter:
    """Cuts a stream of bytes, whatever its chunks, into the data of its events."""

    def __init__(self) -> None:
        self._line = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that `chunk` completes."""
        lines = (self._line + chunk).splitlines(keepends=True)
        self._line = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        found: list[bytes] = []
        for line in lines:
            text = line.rstrip(b"\r\n")
            if text.startswith(b"data:"):
                self._data.append(text[5:].strip())
            elif not text and self._data:
                found.append(b"\n".join(self._data))
                self._data = []
        return found


async def with_pings(chunks: AsyncIterator[bytes], interval: float | None, boundary: Boundary) -> AsyncGenerator[bytes]:
    """`chunks`, with PING after each `interval` seconds of silence (None: never), but never inside an event.

    `boundary` is fed along the way.
    """
    pending: asyncio.Task[bytes] | None = None
    try:
        while True:
            pending = pending or asyncio.create_task(_next(chunks))
            await asyncio.wait({pending}, timeout=interval)
            if not pending.done():
                if boundary.between:
                    yield PING
                continue
            chunk, pending = pending.result(), None
            if not chunk:
                return
            boundary.feed(chunk)
            yield chunk
    finally:
        if pending:
            await _abandon(pending)


async def _next(chunks: AsyncIterator[bytes]) -> bytes:
    """Empty at the end."""
    async for chunk in chunks:
        if chunk:
            return chunk
    return b""


async def _abandon(task: asyncio.Task[bytes]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
