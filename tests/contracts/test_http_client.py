"""The gateway's HTTP client against servers that do what servers do, and what they should not."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager

import pytest
import trustme

from shared.adapters import connecting
from shared.adapters.http_client import BrokenOff, NotConnected, Origin, Response

type Pieces = tuple[bytes | float, ...]
"""Bytes to send one after the other, and seconds to wait."""

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"
OVERLOADED = b"HTTP/1.1 529 Overloaded\r\ncontent-length: 0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\n"


class Server:
    """Answers request after request of a connection with `pieces`; then hangs up, where `hangs_up`.

    `hasty`: it reads no bodies.
    """

    def __init__(self, *pieces: bytes | float, hangs_up: bool = False, hasty: bool = False) -> None:
        self.pieces, self.hangs_up, self.hasty = pieces, hangs_up, hasty
        self.connections = 0
        self.requests: list[bytes] = []
        self.left = asyncio.Event()
        self.sent = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._request(reader):
                for piece in self.pieces:
                    if isinstance(piece, bytes):
                        writer.write(piece)
                        await writer.drain()
                        self.sent += len(piece)
                    else:
                        await asyncio.sleep(piece)
                if self.hangs_up:
                    return
        except ConnectionError:
            pass
        finally:
            self.left.set()
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        if self.hasty:
            return True
        length = next((int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: ")), 0)
        self.requests.append(head + await reader.readexactly(length))
        return True


@asynccontextmanager
async def serving(server: Server, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncGenerator[Origin]:
    listening = await asyncio.start_server(server.serve, host, 0, ssl=tls)
    shown = f"[{host}]" if ":" in host else host
    server.url = f"http{'s' if tls else ''}://{shown}:{listening.sockets[0].getsockname()[1]}"
    async with closing(Origin(f"{server.url}/base/")) as origin:
        yield origin
    listening.close()


@asynccontextmanager
async def closing(origin: Origin) -> AsyncGenerator[Origin]:
    try:
        yield origin
    finally:
        await origin.close()


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's, and that of a client who trusts it."""
    authority = trustme.CA()
    served, trusted = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(trusted)
    return served, trusted


async def ask(origin: Origin, body: bytes = b"{}") -> Response:
    return await origin.send("POST", "/v1/messages", [("x-a", "1"), ("x-a", "2")], body, 10)


async def answer(origin: Origin) -> tuple[int, bytes]:
    response = await ask(origin)
    try:
        return response.status, await whole(response)
    finally:
        response.close()


async def whole(response: Response) -> bytes:
    parts: list[bytes] = []
    while part := await response.read(10):
        parts.append(part)
    return b"".join(parts)


class TestRequest:
    async def test_is_sent_as_given_below_the_path_of_the_origin(self):
        server = Server(OK)
        async with serving(server) as origin:
            assert await answer(origin) == (200, b"ok")
        host = server.url.removeprefix("http://").encode()
        lines = [b"POST /base/v1/messages HTTP/1.1", b"host: " + host, b"x-a: 1", b"x-a: 2", b"content-length: 2"]
        assert server.requests == [b"\r\n".join([*lines, b"", b"{}"])]

    @pytest.mark.parametrize(
        ("target", "header"),
        [
            ("/v1/a b", ("x-a", "1")),
            ("/v1/a\r\nx-b: 1", ("x-a", "1")),
            ("/v1", ("x-a", "1\r\nx-b: 1")),
            ("/v1", ("x-a", "1\n")),
            ("/v1", ("x-a\r\n", "1")),
            ("/v1", ("x-a", "1\0")),
        ],
    )
    async def test_nothing_can_be_smuggled_into_its_head(self, target: str, header: tuple[str, str]):
        server = Server(OK)
        async with serving(server) as origin:
            with pytest.raises(ValueError, match="line break"):
                await origin.send("GET", target, [header], b"", 10)
        assert server.connections == 0

    async def test_ipv6_addresses_stand_in_brackets(self):
        server = Server(OK)
        async with serving(server, host="::1") as origin:
            assert await answer(origin) == (200, b"ok")
        assert b"\r\nhost: [::1]:" in server.requests[0]

    @pytest.mark.parametrize("url", ["ftp://host", "https://", "host:80", ""])
    def test_what_is_no_address_of_an_http_service_is_refused(self, url: str):
        with pytest.raises(ValueError, match="address of an HTTP service"):
            Origin(url)


class TestAnswer:
    @pytest.mark.parametrize(
        ("pieces", "body"),
        [
            ((HEAD + b"Content-Length: 5\r\n\r\nab", 0.02, b"cde"), b"abcde"),
            ((HEAD + b"content-length: 0\r\n\r\n",), b""),
            ((b"HTTP/1.1 204 No Content\r\n\r\n",), b""),
            ((HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1", 0.02, b"\r\nc\r\n0\r\n\r\n"), b"abc"),
            ((HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-trailer: 1\r\n\r\n",), b"a"),
            ((b"HTTP/1.1 100 Continue\r\n\r\n", 0.02, b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK), b"ok"),
        ],
    )
    async def test_its_body_is_read_to_its_end_and_the_connection_kept(self, pieces: Pieces, body: bytes):
        server = Server(*pieces)
        async with serving(server) as origin:
            for _ in range(3):
                assert (await answer(origin))[1] == body
        assert server.connections == 1

    async def test_a_body_may_end_with_the_connection(self):
        server = Server(HEAD + b"\r\nab", 0.02, b"c", hangs_up=True)
        async with serving(server) as origin:
            for _ in range(2):
                assert await answer(origin) == (200, b"abc")
        assert server.connections == 2

    async def test_names_of_headers_are_lower_case_and_those_of_hints_and_trailers_are_left_out(self):
        hint = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        body = b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Trailer: 1\r\n\r\n"
        async with serving(Server(hint + HEAD + b"X-A: 1\r\nX-A:  2 \r\n" + body)) as origin:
            response = await ask(origin)
            assert await whole(response) == b"a"
            assert response.headers == [("x-a", "1"), ("x-a", "2"), ("transfer-encoding", "chunked")]
            response.close()

    async def test_silence_is_told_as_long_as_it_lasts(self):
        pieces = (HEAD + b"content-length: 4\r\n\r\n", 0.35, b"a", 0.05, b"b", 0.05, b"c", 0.35, b"d")
        async with serving(Server(*pieces)) as origin:
            response, told = await ask(origin), list[bytes | None]()
            while (piece := await response.read(0.1)) != b"":
                told.append(piece)
            response.close()
        assert b"".join(filter(None, told)) == b"abcd"
        text = "".join(piece.decode() if piece else "." for piece in told)
        assert re.fullmatch(r"\.{2,4}abc\.{2,4}d", text)

    async def test_silence_is_over_with_the_next_byte(self):
        pieces = (HEAD + b"content-length: 3\r\n\r\n", 0.15, b"a", 0.9, b"b", 0.45, b"c")
        async with serving(Server(*pieces)) as origin:
            response = await ask(origin)
            assert await response.read(0.6) == b"a"
            await asyncio.sleep(1.05)  # nobody reads while it is silent, and then speaks
            assert [await response.read(0.6), await response.read(0.6)] == [b"b", b"c"]
            response.close()

    async def test_one_that_does_not_begin_in_time_is_given_up(self):
        server = Server(0.5, OK)
        async with serving(server) as origin:
            with pytest.raises(BrokenOff, match="in time"):
                await origin.send("GET", "/", [], b"", 0.1)
            await asyncio.wait_for(server.left.wait(), 5)

    async def test_the_first_piece_is_there_before_the_last_is_sent(self):
        async with serving(Server(HEAD + b"content-length: 2\r\n\r\n", b"a", 30.0, b"b")) as origin:
            response = await ask(origin)
            assert await asyncio.wait_for(response.read(10), 5) == b"a"
            response.close()

    async def test_a_reader_that_falls_behind_slows_the_server_down(self):
        size, piece = 64 * 1024 * 1024, b"x" * 1024 * 1024
        server = Server(HEAD + b"content-length: %d\r\n\r\n" % size, *[piece] * (size // len(piece)))
        async with serving(server) as origin:
            response = await ask(origin)
            await asyncio.sleep(0.5)
            assert server.sent < size / 2
            assert len(await whole(response)) == size
            response.close()

    async def test_a_reader_that_falls_behind_does_not_make_the_server_silent(self):
        size = 10 * 1024 * 1024
        server = Server(HEAD + b"content-length: %d\r\n\r\n" % (size + 1), 0.05, b"a", 0.05, b"x" * size)
        async with serving(server) as origin:
            response, read = await ask(origin), 0
            assert await response.read(0.4) == b"a"
            await asyncio.sleep(1)
            while piece := await response.read(0.4):
                read += len(piece)
            response.close()
        assert read == size


class TestConnections:
    async def test_each_call_under_way_has_its_own_and_they_are_used_again(self):
        server = Server(0.05, OK)
        async with serving(server) as origin:
            for _ in range(3):
                await asyncio.gather(*(answer(origin) for _ in range(5)))
        assert server.connections == 5

    async def test_one_that_the_server_closed_meanwhile_is_not_used(self):
        server = Server(OK, hangs_up=True)
        async with serving(server) as origin:
            for _ in range(3):
                assert await answer(origin) == (200, b"ok")
                await asyncio.wait_for(server.left.wait(), 5)
                await asyncio.sleep(0.05)
        assert server.connections == 3

    @pytest.mark.parametrize("close", [b"HTTP/1.1 200 OK\r\nconnection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
    async def test_one_that_the_server_will_close_is_not_used(self, close: bytes):
        server = Server(close + b"content-length: 2\r\n\r\nok")
        async with serving(server) as origin:
            for _ in range(2):
                assert await answer(origin) == (200, b"ok")
        assert server.connections == 2

    @pytest.mark.parametrize("more", [(OK,), (0.05, OK), (HEAD,), (0.05, HEAD)])
    async def test_one_that_says_more_than_it_was_asked_is_not_used(self, more: Pieces):
        server = Server(OK, *more)
        async with serving(server) as origin:
            for _ in range(2):
                assert await answer(origin) == (200, b"ok")
                await asyncio.sleep(0.15)
        assert server.connections == 2

    @pytest.mark.parametrize("tls", [False, True])
    @pytest.mark.parametrize("megabytes", [1, 12])
    async def test_one_that_refused_what_it_did_not_read_is_not_used(
        self, tls: bool, megabytes: int, monkeypatch: pytest.MonkeyPatch
    ):
        server, (served, trusted) = Server(BUSY, 30.0, hasty=True), contexts()
        monkeypatch.setattr(connecting, "verified", lambda: trusted)
        async with serving(server, served if tls else None) as origin:
            for _ in range(2):
                response = await ask(origin, b"x" * megabytes * 1024 * 1024)
                assert (response.status, await whole(response)) == (429, b"")
                response.close()
        assert server.connections == 2

    async def test_one_that_refused_a_small_request_is_used_again(self):
        server = Server(BUSY)
        async with serving(server) as origin:
            for _ in range(2):
                assert await answer(origin) == (429, b"")
        assert server.connections == 1

    async def test_an_idle_one_ends_after_a_while(self):
        server = Server(OK)
        async with serving(server), closing(Origin(server.url, kept_seconds=0.1)) as origin:
            await answer(origin)
            await asyncio.wait_for(server.left.wait(), 5)

    async def test_one_in_constant_use_ends_after_a_while_too(self):
        server = Server(OK)
        async with serving(server), closing(Origin(server.url, oldest_seconds=0.3)) as origin:
            for _ in range(9):
                assert await answer(origin) == (200, b"ok")
                await asyncio.sleep(0.05)
        assert server.connections > 1

    async def test_after_an_error_of_the_servers_own_another_is_tried(self):
        server = Server(OVERLOADED)
        async with serving(server) as origin:
            for _ in range(2):
                assert await answer(origin) == (529, b"")
        assert server.connections == 2

    async def test_leaving_an_answer_ends_it(self):
        server = Server(HEAD + b"content-length: 100\r\n\r\n", b"a", 0.05, *[b"x", 0.01] * 99)
        async with serving(server) as origin:
            response = await ask(origin)
            await response.read(10)
            response.close()
            response.close()
            await asyncio.wait_for(server.left.wait(), 5)
        assert server.sent < 150

    async def test_leaving_before_an_answer_ends_it_too(self):
        server = Server(0.3, OK)
        async with serving(server) as origin:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await ask(origin)
            await asyncio.wait_for(server.left.wait(), 5)

    async def test_tls_is_used_and_checked(self, monkeypatch: pytest.MonkeyPatch):
        server, (served, trusted) = Server(OK), contexts()
        async with serving(server, served) as origin:
            with pytest.raises(NotConnected, match="CERTIFICATE_VERIFY_FAILED"):
                await ask(origin)
            monkeypatch.setattr(connecting, "verified", lambda: trusted)
            for _ in range(2):
                assert await answer(origin) == (200, b"ok")
        assert server.connections == 1


class TestFailure:
    async def test_nobody_listens(self):
        server = Server(OK)
        async with serving(server):
            url = server.url
        async with closing(Origin(url)) as origin:
            with pytest.raises(NotConnected):
                await ask(origin)

    async def test_a_host_that_does_not_take_the_connection_is_given_up(self):
        with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
            port = deaf.getsockname()[1]
            with ExitStack() as others:  # they fill its queue: it hears of no more
                for _ in range(3):
                    waiting = others.enter_context(socket.socket())
                    waiting.setblocking(False)
                    waiting.connect_ex(("127.0.0.1", port))
                await asyncio.sleep(0.05)
                origin = Origin(f"http://127.0.0.1:{port}", connect_seconds=0.2)
                with pytest.raises(NotConnected, match="no connection in time"):
                    await origin.send("GET", "/", [], b"", 30)

    async def test_no_such_host(self):
        async with closing(Origin("http://no-such-host.invalid")) as origin:
            with pytest.raises(NotConnected, match="no-such-host"):
                await ask(origin)

    @pytest.mark.parametrize(
        "pieces",
        [
            (),
            (b"HTTP/1.1 200",),
            (HEAD + b"content-length: 2\r\n",),
            (b"SSH-2.0-OpenSSH_9.2\r\n",),
            (HEAD + b"content-length: nonsense\r\n\r\n",),
            (HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nab",),
            (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",),
        ],
    )
    async def test_before_an_answer_it_is_told(self, pieces: Pieces):
        async with serving(Server(*pieces, hangs_up=True)) as origin:
            with pytest.raises(BrokenOff):
                await asyncio.wait_for(ask(origin), 5)

    @pytest.mark.parametrize(
        ("begin", "more"),
        [
            (HEAD, b"x-a: 1\r\n"),
            (HEAD + b"x-a: ", b"x"),
            (HEAD + b"x-", b"x"),
            (b"HTTP/1.1 200 ", b"x"),
            (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        ],
    )
    async def test_a_head_without_an_end_is_not_waited_for(self, begin: bytes, more: bytes):
        async with serving(Server(begin, *[more * 1000, 0.001] * 1000)) as origin:
            with pytest.raises(BrokenOff, match="over 64 KB"):
                await asyncio.wait_for(ask(origin), 5)

    @pytest.mark.parametrize(
        ("begin", "more"), [(b"1;x=", b"x"), (b"0\r\nx-a: ", b"x"), (b"0\r\n", b"x-a: 1\r\n"), (b"0\r\nx-", b"x")]
    )
    async def test_nor_is_the_next_piece_of_a_body_or_a_trailer(self, begin: bytes, more: bytes):
        chunked = HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n"
        async with serving(Server(chunked, begin, *[more * 1000, 0.001] * 1000)) as origin:
            response = await ask(origin)
            assert await response.read(10) == b"ab"
            with pytest.raises(BrokenOff, match="over 64 KB"):
                await asyncio.wait_for(response.read(10), 5)
            response.close()

    @pytest.mark.parametrize(
        "body",
        [
            b"content-length: 5\r\n\r\nab",
            b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
            b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\nnonsense\r\n",
        ],
    )
    async def test_within_an_answer_it_is_told_after_what_arrived(self, body: bytes):
        async with serving(Server(HEAD + body, hangs_up=True)) as origin:
            response = await ask(origin)
            assert await response.read(10) == b"ab"
            with pytest.raises(BrokenOff):
                await asyncio.wait_for(response.read(10), 5)
            response.close()
