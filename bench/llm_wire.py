"""Both ends of a measured gateway: a model service that answers at once, and clients that count what passes.

Written on asyncio's protocols, because both share a core and must not be what is measured.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, override

import orjson

MODEL = "claude-sonnet-5-5"
EVENTS = 50
DELAYED = 101
"""`max_tokens` of a request whose answer comes after DELAY seconds: every gateway passes that field on."""
DELAY = 0.1
PACED = 103
"""`max_tokens` of a stream with PACE seconds between its events, as models take their time."""
PACE = 0.002
SILENT = 102
"""`max_tokens` of a stream that begins and then says nothing."""

_USAGE = {"input_tokens": 25, "output_tokens": EVENTS}
_MESSAGE = {
    "id": "msg_bench",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": [{"type": "text", "text": "Hello " * 20}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": _USAGE,
}


def body(*, stream: bool, max_tokens: int = 64) -> bytes:
    asked = {"model": MODEL, "max_tokens": max_tokens, "stream": stream}
    return orjson.dumps(asked | {"messages": [{"role": "user", "content": "Say hello. " * 20}]})


def _json_answer() -> bytes:
    content = orjson.dumps(_MESSAGE)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(content),
        content,
    )


def _stream_answer() -> list[bytes]:
    """The head and every event, each a chunk."""
    head: dict[str, Any] = {
        "type": "message_start",
        "message": _MESSAGE | {"content": [], "usage": _USAGE | {"output_tokens": 1}},
    }
    start: dict[str, Any] = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta: dict[str, Any] = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "Hello "},
    }
    end: dict[str, Any] = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": _USAGE,
    }
    between: list[dict[str, Any]] = [{"type": "content_block_stop", "index": 0}, end, {"type": "message_stop"}]
    events = [head, start, *[delta] * (EVENTS - 2 - len(between)), *between]
    lines = [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event)) for event in events]
    opening = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return [opening, *(b"%x\r\n%b\r\n" % (len(line), line) for line in lines), b"0\r\n\r\n"]


class Upstream(asyncio.Protocol):
    """Answers every POST whose body came with a content-length, or as one chunk."""

    JSON = _json_answer()
    STREAM = _stream_answer()

    def __init__(self) -> None:
        self._seen = b""
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, found, rest = self._seen.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        if b"content-length:" in lower:
            length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
            whole = len(rest) >= length
        else:
            whole = not lower.startswith(b"post") or rest.endswith(b"0\r\n\r\n")
        if whole:
            self._seen = b""
            asyncio.get_running_loop().create_task(self._answer(rest))

    async def _answer(self, asked: bytes) -> None:
        asked = asked.replace(b" ", b"")
        if b'"max_tokens":%d' % DELAYED in asked:
            await asyncio.sleep(DELAY)
        if not self._transport or self._transport.is_closing():
            return
        if b'"stream":true' not in asked:
            self._transport.write(self.JSON)
            return
        pace = PACE if b'"max_tokens":%d' % PACED in asked else 0
        for place, chunk in enumerate(self.STREAM[:2] if b'"max_tokens":%d' % SILENT in asked else self.STREAM):
            self._transport.write(chunk)
            await asyncio.sleep(pace if place else 0)


async def serve_upstream(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds until the first byte of the answer's body, and until its end."""

    first: float
    whole: float


class _Client(asyncio.Protocol):
    """One request at a time on a kept connection."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._done: asyncio.Future[Timing] | None = None
        self._transport: asyncio.Transport | None = None
        self._began = self._first = 0.0
        self._seen = b""
        self.begun = asyncio.Event()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.begun.set()
        if self._done and not self._done.done():
            self._done.set_exception(exc or ConnectionError(f"The server hung up after {self._seen[-300:]!r}."))

    async def call(self) -> Timing:
        """Raises RuntimeError for any answer but 200."""
        assert self._transport
        self._done = asyncio.get_running_loop().create_future()
        self._seen, self._first, self._began = b"", 0.0, time.perf_counter()
        self._transport.write(self._request)
        return await self._done

    def close(self) -> None:
        if self._transport:
            self._transport.abort()

    @override
    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._seen += data
        head, found, rest = self._seen.partition(b"\r\n\r\n")
        if not found or not self._done or self._done.done():
            return
        if rest and not self._first:
            self._first = now
            self.begun.set()
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            self._done.set_exception(RuntimeError(f"{self._seen[:600]!r}"))
            self.begun.set()
        elif _is_whole(head.lower(), rest):
            self._done.set_result(Timing(self._first - self._began, now - self._began))


def _is_whole(head: bytes, rest: bytes) -> bool:
    _, found, length = head.partition(b"content-length:")
    if found:
        return len(rest) >= int(length.split(b"\r\n")[0])
    return rest.endswith(b"0\r\n\r\n")


def request(path: str, port: int, headers: dict[str, str], content: bytes) -> bytes:
    lines = {"host": f"127.0.0.1:{port}", "content-type": "application/json", "content-length": str(len(content))}
    head = "".join(f"{name}: {value}\r\n" for name, value in (lines | headers).items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + content


async def once(port: int, sent: bytes) -> Timing:
    """One call on a connection of its own."""
    _, client = await asyncio.get_running_loop().create_connection(lambda: _Client(sent), "127.0.0.1", port)
    try:
        async with asyncio.timeout(30):
            return await client.call()
    finally:
        client.close()


@asynccontextmanager
async def idle(port: int, sent: bytes, streams: int) -> AsyncGenerator[None]:
    """So many streams that have begun and are silent."""
    loop = asyncio.get_running_loop()
    opened = [(await loop.create_connection(lambda: _Client(sent), "127.0.0.1", port))[1] for _ in range(streams)]
    calls = [asyncio.create_task(client.call()) for client in opened]
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(*(client.begun.wait() for client in opened))
        if failed := next((call for call in calls if call.done()), None):
            await failed
        yield
    finally:
        for client in opened:
            client.close()
        await asyncio.gather(*calls, return_exceptions=True)


async def load(port: int, sent: bytes, workers: int, seconds: float) -> list[Timing]:
    """Every answer within the time."""
    timings: list[Timing] = []
    end = time.perf_counter() + seconds

    async def work() -> None:
        _, client = await asyncio.get_running_loop().create_connection(lambda: _Client(sent), "127.0.0.1", port)
        try:
            while time.perf_counter() < end:
                timings.append(await client.call())
        finally:
            client.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
    return timings
