"""Server-sent events: where they end, and keep-alives between them on a silent stream."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_AHEAD = 16
"""Chunks read from the model service that the client has not taken yet; then the service waits."""


class Events:
    """Cuts a stream, whatever its chunks, between two events: half an event can neither be pinged nor followed."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """The bytes up to the end of the last whole event, none twice and none left out."""
        if not self._rest and chunk.endswith(b"\n\n"):
            return chunk
        seen = self._rest + chunk
        end = max(_after(seen, mark) for mark in _ENDS)
        self._rest = seen[end:]
        return seen[:end]

    def rest(self) -> bytes:
        """What no end followed."""
        rest, self._rest = self._rest, b""
        return rest


def _after(text: bytes, mark: bytes) -> int:
    at = text.rfind(mark)
    return at + len(mark) if at >= 0 else 0


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


async def with_pings(chunks: AsyncIterator[bytes], interval: float) -> AsyncGenerator[bytes]:
    """Whole events of `chunks`, with PING after each `interval` seconds without one.

    An error of `chunks` is raised after the last whole event.
    """
    ahead: asyncio.Queue[bytes] = asyncio.Queue(_AHEAD)
    reading = asyncio.create_task(_read(chunks, ahead))
    try:
        while True:
            try:
                async with asyncio.timeout(interval):
                    whole = await ahead.get()
            except TimeoutError:
                whole = PING
            yield whole
    except asyncio.QueueShutDown:
        await reading
    finally:
        reading.cancel()
        await asyncio.wait({reading})
        if not reading.cancelled():
            reading.exception()  # raised above, or nobody is there any more to hear it


async def _read(chunks: AsyncIterator[bytes], ahead: asyncio.Queue[bytes]) -> None:
    """One task for the whole stream: cancelling a read at each ping would end the source."""
    events = Events()
    try:
        async for chunk in chunks:
            if whole := events.feed(chunk):
                await ahead.put(whole)
        if rest := events.rest():
            await ahead.put(rest)
    finally:
        ahead.shutdown()
