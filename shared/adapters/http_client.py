"""An HTTP/1.1 client of one origin, as lean as the gateway needs it: connections are kept, bodies come as they arrive.

Nothing is followed, decoded, added or sent twice. The parser is llhttp, Node's own, through httptools.
"""

from __future__ import annotations

import asyncio
import re
from typing import cast, override
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from shared.adapters.connecting import connected
from shared.llm.upstream import Headers

_BODILESS = 64 * 1024
"""Bytes that may come without any of a body among them: a head, or what stands between a body's pieces and behind."""
_BUFFERED = 256 * 1024
"""Bytes of a body that wait for their reader before the connection is told to pause."""
_READ_ANYWAY = 64 * 1024
"""Bytes of a request: of a longer one, a server that refuses it may have left the rest unread."""
_SPACE_OR_CONTROL = re.compile(r"[\x00-\x20\x7f]")


class NotConnected(OSError):
    """Nothing was sent."""


class BrokenOff(OSError):
    """The connection ended, or made no sense, before the answer was whole."""


class Origin:
    """`base_url`: http or https, with or without a path, which all targets lie below. Raises ValueError for others.

    A connection is used while it is younger than `oldest_seconds`: what its name stands for may change.
    """

    def __init__(
        self, base_url: str, connect_seconds: float = 10, kept_seconds: float = 15, oldest_seconds: float = 300
    ) -> None:
        url = urlsplit(base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"{base_url} is not the address of an HTTP service.")
        self._tls = url.scheme == "https"
        self._host = url.hostname
        self._port = url.port or (443 if self._tls else 80)
        name = self._host.encode("idna").decode()
        shown = f"[{name}]" if ":" in name else name
        self._authority = f"{shown}:{url.port}" if url.port else shown
        self._path = url.path.rstrip("/")
        self._connect_seconds, self._kept_seconds, self._oldest_seconds = connect_seconds, kept_seconds, oldest_seconds
        self._kept: list[_Connection] = []

    async def send(self, method: str, target: str, headers: Headers, body: bytes, seconds: float) -> Response:
        """Returns once status and headers of the answer are there, for which it has so long; it must be closed.

        Raises NotConnected, BrokenOff, and ValueError for what cannot stand in a request's head.
        """
        sent = self._request(method, self._path + target, headers, body)
        response = (self._idle() or await self._connect()).send(sent)
        try:
            await response.begin(seconds)
        except BaseException:
            response.close()
            raise
        return response

    async def close(self) -> None:
        for connection in tuple(self._kept):
            connection.close()

    def _idle(self) -> _Connection | None:
        while self._kept:
            connection = self._kept.pop()
            if not connection.transport.is_closing():  # the end of one is told a moment after it
                return connection
        return None

    def _request(self, method: str, target: str, headers: Headers, body: bytes) -> bytes:
        lines = [f"{method} {target} HTTP/1.1", f"host: {self._authority}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body or method != "GET":
            lines.append(f"content-length: {len(body)}")
        lines += "", ""
        head = "\r\n".join(lines)
        foreign = not head.count("\r") == head.count("\n") == len(lines) - 1 or "\0" in head
        if foreign or _SPACE_OR_CONTROL.search(target):
            raise ValueError("A target or header of the request holds a line break.")
        return head.encode("latin-1") + body

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await connected(
                    lambda: _Connection(self._kept, self._kept_seconds, self._oldest_seconds),
                    self._host,
                    self._port,
                    tls=self._tls,
                )
        except (OSError, TimeoutError, UnicodeError) as error:
            raise NotConnected(f"{self._authority}: {str(error) or 'no connection in time'}") from error


class Response:
    """`status`, `headers` (names in lower case) and, in pieces, the body."""

    def __init__(self, connection: _Connection, request_size: int) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self._connection, self._request_size = connection, request_size
        self._parser = HttpResponseParser(self)
        self._bodiless = 0
        self._begun = self._whole = self._until_end = self._reusable = self._paused = self._closed = False
        self._error: BrokenOff | None = None
        self._chunks: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._silent = False
        self._listening: asyncio.TimerHandle | None = None

    async def begin(self, seconds: float) -> None:
        timer = self._loop.call_later(seconds, self.fail, "no answer began in time")
        try:
            while not self._begun:
                await self._more()
        finally:
            timer.cancel()

    @property
    def silence(self) -> float:
        """Seconds since something arrived."""
        return self._loop.time() - self._heard

    async def read(self, quiet: float) -> bytes | None:
        """What has arrived since, at least a byte; nothing at the end. None after each `quiet` seconds of silence.

        Raises BrokenOff.
        """
        while not self._chunks:
            if self._whole:
                return b""
            if self._silent:
                self._silent = False
                return None
            if self._listening is None:
                self._listening = self._loop.call_later(quiet, self._listen, quiet)
            await self._more()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        if self._paused:
            self._paused, self._silent = False, False
            self._heard = self._loop.time()  # the silence was ours
            self._connection.transport.resume_reading()
        return data

    def close(self) -> None:
        """Ends the request; the connection of an answer that is whole is kept for the next."""
        if not self._closed:
            self._closed = True
            if self._listening:
                self._listening.cancel()
            self._connection.done(self._whole and self._reusable and not self._paused)

    # -- what the connection tells --------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        self._heard, self._silent = self._loop.time(), False
        if self._bodiless > _BODILESS:
            self.fail("over 64 KB that are no body")
            return
        self._bodiless += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.fail(f"no HTTP answer: {error}")
        if len(self._chunks) > 1 and not self._paused and sum(map(len, self._chunks)) > _BUFFERED:
            self._paused = True
            self._connection.transport.pause_reading()
        self._wake()

    def end(self) -> None:
        """The other side sends nothing more."""
        if self._until_end and self._begun:
            self._whole = True
        self.fail("the connection was closed")

    def fail(self, reason: str) -> None:
        self._reusable = False
        if not self._whole:
            self._error = BrokenOff(reason)
        self._wake()

    # -- what the parser tells ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._whole:
            raise BrokenOff("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._begun:  # else it is a trailer
            self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1").rstrip(" \t")))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers.clear()
            return
        names = {name for name, _ in self.headers}
        self._until_end = "content-length" not in names and "transfer-encoding" not in names
        self._begun, self._bodiless = True, 0

    def on_body(self, data: bytes) -> None:
        self._bodiless = 0
        self._chunks.append(data)

    def on_message_complete(self) -> None:
        if self._begun:
            self._whole = True
            well = self.status < 300 or (self.status < 500 and self._request_size <= _READ_ANYWAY)
            self._reusable = well and self._parser.should_keep_alive()

    # -- waiting --------------------------------------------------------------------------------

    async def _more(self) -> None:
        if self._error:
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _listen(self, quiet: float) -> None:
        """One timer for the whole answer: setting one anew for each piece would cost more than the piece."""
        left = quiet - self.silence
        if left <= 0:
            self._silent, left = True, quiet
            self._wake()
        self._listening = self._loop.call_later(left, self._listen, quiet)

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)


class _Connection(asyncio.Protocol):
    """In `kept` while it has nothing to do, for so many seconds, until it is `oldest`."""

    transport: asyncio.Transport

    def __init__(self, kept: list[_Connection], seconds: float, oldest: float) -> None:
        self._kept, self._seconds = kept, seconds
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + oldest
        self._response: Response | None = None
        self._expiry: asyncio.TimerHandle | None = None

    def send(self, request: bytes) -> Response:
        if self._expiry:
            self._expiry.cancel()
        self._response = response = Response(self, len(request))
        self.transport.write(request)
        return response

    def done(self, reusable: bool) -> None:
        self._response = None
        reusable = reusable and self._loop.time() < self._until
        if reusable and not self.transport.is_closing() and not self.transport.get_write_buffer_size():
            self._expiry = self._loop.call_later(self._seconds, self.close)
            self._kept.append(self)
        else:
            self.transport.abort()

    def close(self) -> None:
        if self in self._kept:
            self._kept.remove(self)
        self.transport.close()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    @override
    def data_received(self, data: bytes) -> None:
        if self._response:
            self._response.feed(data)
        else:
            self.close()

    @override
    def eof_received(self) -> None:
        if self._response:
            self._response.end()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._expiry:
            self._expiry.cancel()
        if self in self._kept:
            self._kept.remove(self)
        if self._response:
            self._response.fail(f"the connection was lost: {exc or 'closed'}")
