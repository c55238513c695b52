"""From a change to the browsers that see it: 50 changes a second over HTTP, 1 and 200 clients on websockets.

The floor is bare Valkey: the same number of subscribers, rate and size, and nothing kept. The function host has core 0
to itself; load, clients, emulator and Valkey share the others, where load and clients give way.
"""

import argparse
import asyncio
import itertools
import os
import re
import statistics
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import override
from urllib.parse import urlsplit

import aiohttp

from bench.boards import PEERS, STORES, Bench, Board, connector, full_board, give_way, leave_first_core, rss_mb, started
from bench.report import Row, report

RATE = 50
SECONDS = 10.0
CLIENTS = (1, 200)
CARDS = 1000
GROWTH = (100, 10_000)
FLOOR = "limit: bare Valkey pub/sub"
RELIABLE = "json.reliable.webpubsub.azure.v1"
_PATIENCE = 15
_AHEAD = 64
"""Most changes under way: a store that is slower than the rate is not buried."""
_EVENT_BYTES = 900
"""About what a card's event takes."""
_DIGITS = 8
_MESSAGE = b"*3\r\n$7\r\nmessage\r\n$5\r\nbench\r\n$%d\r\n" % _EVENT_BYTES
_MESSAGE_BYTES = len(_MESSAGE) + _EVENT_BYTES + len(b"\r\n")

_TITLE = re.compile(rb'"title":"Edited (\d+)"')
"""Of each event in a message: what else is in there is the same to who measures."""
_SEQUENCE = re.compile(rb'"sequenceId":(\d+)}$')

_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_GOING_AWAY = 1001
_SMALL = 125
"""The largest frame whose length stands in its second byte."""

_numbers = itertools.count()
"""Never the same twice: an edit that changes nothing is no event."""

type Change = Callable[[int], Awaitable[None]]
"""Makes change `n`; returns when it is acknowledged."""


@dataclass(slots=True)
class Seen:
    """When each change was asked for and acknowledged, and when each client saw it (monotonic seconds)."""

    sent: dict[int, float] = field(default_factory=dict[int, float])
    done: dict[int, float] = field(default_factory=dict[int, float])
    arrived: dict[int, list[float]] = field(default_factory=dict[int, list[float]])

    def note(self, number: int) -> None:
        self.arrived.setdefault(number, []).append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=STORES, action="append", help="measure this store only")
    parser.add_argument("--quick", action="store_true", help="the local store and 1,000 cards only, for a shorter time")
    options = parser.parse_args()
    leave_first_core()
    give_way()
    stores = ["tinydb"] if options.quick else options.store or list(STORES)
    seconds, growth = (SECONDS / 2, ()) if options.quick else (SECONDS, GROWTH)
    with tempfile.TemporaryDirectory(prefix="kanban-bench-") as folder:
        report("realtime", asyncio.run(_run(Path(folder), stores, growth, seconds)))


async def _run(folder: Path, stores: list[str], growth: tuple[int, ...], seconds: float) -> list[Row]:
    rows: list[Row] = []
    for store in stores:
        async with started(folder / store, store) as bench:
            rows += await _ours(bench, STORES[store], growth, seconds)
            if store == stores[-1]:
                rows += await _floor(bench.cloud.valkey.port, seconds)
    return [*rows, Row(_case(1), "Planka 2.1", "p50", None, PEERS["Planka 2.1"])]


async def _ours(bench: Bench, subject: str, growth: tuple[int, ...], seconds: float) -> list[Row]:
    async with aiohttp.ClientSession(connector=connector(), headers=bench.headers) as http:
        board = await full_board(bench, CARDS)
        rows = _memory(bench, subject, "idle")
        for clients in CLIENTS:
            seen = Seen()
            async with _browsers(bench, seen, clients):
                await _changes(seen, _edit(http, bench, board), clients, seconds)
                rows += _figures(_case(clients), subject, seen, clients)
                rows += _memory(bench, subject, _case(clients))
        for cards in growth:
            seen, board = Seen(), await full_board(bench, cards)
            async with _browsers(bench, seen, 1):
                await _changes(seen, _edit(http, bench, board), 1, seconds / 2)
                rows += _figures(f"{_case(1)}, {cards} cards", subject, seen, 1)
        return rows


def _case(clients: int) -> str:
    return f"{RATE} changes/s, {clients} client{'s' if clients > 1 else ''}"


def _edit(http: aiohttp.ClientSession, bench: Bench, board: Board) -> Change:
    async def edit(n: int) -> None:
        card = f"{bench.client.base_url}/api/cards/{board.cards[n % len(board.cards)]}"
        async with http.patch(card, json={"title": f"Edited {n}"}) as answer:
            if answer.status != 200:
                raise RuntimeError(f"PATCH {card}: {answer.status} {await answer.text()}")
            await answer.read()

    return edit


@asynccontextmanager
async def _browsers(bench: Bench, seen: Seen, count: int) -> AsyncGenerator[None]:
    """Websockets as the web app opens them, each with an address of its own."""
    browsers: list[_Browser] = []
    try:
        for _ in range(count):
            url = (await bench.client.get("/api/realtime/negotiate"))["url"]
            browsers.append(await _Browser.open(url, seen))
        yield
        if any(browser.transport.is_closing() for browser in browsers):
            raise RuntimeError("A websocket ended too early.")
    finally:
        for browser in browsers:
            browser.leave()


class _Browser(asyncio.Protocol):
    """A client of the reliable subprotocol, as lean as the floor's: 200 of them share a core with what they measure.

    Acknowledges once a second, as Microsoft's client does.
    """

    transport: asyncio.Transport

    def __init__(self, seen: Seen) -> None:
        self._seen, self._rest, self._acknowledged = seen, b"", time.perf_counter()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, url: str, seen: Seen) -> "_Browser":
        at = urlsplit(url)
        opened = asyncio.get_running_loop().create_connection(lambda: cls(seen), at.hostname or "", at.port or 80)
        transport, browser = await opened
        browser.transport = transport
        head = f"""GET {at.path}?{at.query} HTTP/1.1
Host: {at.netloc}
Connection: Upgrade
Upgrade: websocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}
Sec-WebSocket-Protocol: {RELIABLE}

"""
        transport.write(head.replace("\n", "\r\n").encode())
        await browser.ready
        return browser

    @override
    def data_received(self, data: bytes) -> None:
        self._rest += data
        if not self.ready.done():
            head, end, rest = self._rest.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self.ready.set_exception(RuntimeError(f"No websocket: {head.decode()}"))
                return
            self._rest = rest
            self.ready.set_result(None)
        start = 0
        while (found := _frame(self._rest, start)) is not None:
            kind, payload, start = found
            if kind == _TEXT:
                self._take(payload)
            elif kind not in (_PING, _CLOSE):
                raise RuntimeError(f"The emulator sent a frame of kind {kind}.")
            elif kind == _PING:
                self._send(_PONG, payload)
        self._rest = self._rest[start:]

    def leave(self) -> None:
        """As a browser that closes its page: else its mailbox would be filled for a minute, in case it comes back."""
        self._send(_CLOSE, _GOING_AWAY.to_bytes(2))
        self.transport.close()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(exc or RuntimeError("No websocket: it was closed."))

    def _take(self, message: bytes) -> None:
        for number in _TITLE.findall(message):
            self._seen.note(int(number))
        sequence = _SEQUENCE.search(message)
        if sequence and time.perf_counter() - self._acknowledged > 1:
            self._send(_TEXT, b'{"type":"sequenceAck","sequenceId":%b}' % sequence[1])
            self._acknowledged = time.perf_counter()

    def _send(self, kind: int, payload: bytes) -> None:
        """Masked by zeros: it is the same to who reads it."""
        self.transport.write(bytes((0x80 | kind, 0x80 | len(payload), 0, 0, 0, 0)) + payload)


def _frame(data: bytes, start: int) -> tuple[int, bytes, int] | None:
    """The next whole frame of a server (RFC 6455, never masked): its kind, its content, where the next begins."""
    if len(data) < start + 2:
        return None
    size, at = data[start + 1], start + 2
    if size > _SMALL:
        wide = 2 if size == _SMALL + 1 else 8
        size, at = int.from_bytes(data[at : at + wide]), at + wide
    return (data[start] & 0x0F, data[at : at + size], at + size) if len(data) >= at + size else None


async def _changes(seen: Seen, change: Change, clients: int, seconds: float) -> None:
    """`RATE` a second whatever becomes of them; ends when every client has seen every change, or has had its time."""
    room, began = asyncio.Semaphore(_AHEAD), time.perf_counter()

    async def make(number: int) -> None:
        async with room:
            seen.sent[number] = time.perf_counter()
            await change(number)
            seen.done[number] = time.perf_counter()

    async with asyncio.TaskGroup() as making:
        for place in range(round(RATE * seconds)):
            await asyncio.sleep(max(0.0, began + place / RATE - time.perf_counter()))
            making.create_task(make(next(_numbers)))
    for _ in range(_PATIENCE):
        if not _missing(seen, clients):
            return
        await asyncio.sleep(1)


def _missing(seen: Seen, clients: int) -> int:
    return sum(clients - len(seen.arrived.get(number, ())) for number in seen.sent)


def _figures(case: str, subject: str, seen: Seen, clients: int) -> list[Row]:
    latencies = [at - seen.sent[number] for number, times in seen.arrived.items() for at in times]
    took = max(seen.done.values()) - min(seen.sent.values())
    rows = [
        *_spread(case, subject, "", latencies),
        Row(case, subject, "changes made", len(seen.done) / took, "1/s"),
        Row(case, subject, "never seen", _missing(seen, clients), "events"),
    ]
    if clients > 1:
        last = [max(times) - seen.sent[number] for number, times in seen.arrived.items() if len(times) == clients]
        rows += _spread(case, subject, ", until all have it", last)
    return rows


def _spread(case: str, subject: str, what: str, times: list[float]) -> list[Row]:
    figures = {"p50": statistics.median(times), "p99": statistics.quantiles(times, n=100)[98], "max": max(times)}
    return [Row(case, subject, name + what, value * 1000, "ms") for name, value in figures.items()]


def _memory(bench: Bench, subject: str, case: str) -> list[Row]:
    cloud = bench.cloud
    pids = {"function host": bench.pid, "emulator": cloud.realtime.pid, "Valkey": cloud.valkey.child.pid}
    return [Row(case, subject, f"rss of {name}", rss_mb(pid), "MB") for name, pid in pids.items()]


# -- the floor ------------------------------------------------------------------------------------


async def _floor(port: int, seconds: float) -> list[Row]:
    rows: list[Row] = []
    for clients in CLIENTS:
        seen = Seen()
        async with AsyncExitStack() as stack:
            for _ in range(clients):
                stack.callback((await _subscribed(port, seen)).close)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            await _changes(seen, _publish(reader, writer), clients, seconds / 2)
        rows += _figures(_case(clients), FLOOR, seen, clients)
    return rows


def _publish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Change:
    turn = asyncio.Lock()

    async def publish(n: int) -> None:
        async with turn:
            writer.write(_command(b"PUBLISH", b"bench", (b"%0*d" % (_DIGITS, n)).ljust(_EVENT_BYTES, b".")))
            await reader.readline()

    return publish


async def _subscribed(port: int, seen: Seen) -> asyncio.Transport:
    subscriber = _Subscriber(seen)
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: subscriber, "127.0.0.1", port)
    transport.write(_command(b"SUBSCRIBE", b"bench"))
    await subscriber.ready
    return transport


class _Subscriber(asyncio.Protocol):
    """Takes messages off the wire and does nothing else with them."""

    def __init__(self, seen: Seen) -> None:
        self._seen, self._rest = seen, b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
            return
        self._rest += data
        while len(self._rest) >= _MESSAGE_BYTES:
            start = len(_MESSAGE)
            self._seen.note(int(self._rest[start : start + _DIGITS]))
            self._rest = self._rest[_MESSAGE_BYTES:]


def _command(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


if __name__ == "__main__":
    main()
