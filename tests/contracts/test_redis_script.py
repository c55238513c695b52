"""One script on one connection: a real server, with passwords, databases, TLS and cuts; and servers that are none."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

import pytest
import redis.asyncio
import trustme
import uvloop

from local.free_ports import free_port
from local.valkey import Valkey
from shared.adapters import connecting
from shared.adapters.redis_script import RedisAway, RedisRefused, RedisScript
from tests.contracts.conftest import missing_valkey
from tests.requires import require

ECHO = b"return {KEYS[1], ARGV[1], ARGV[2]}"
COUNT = b"return redis.call('INCR', KEYS[1])"


@pytest.fixture
async def server() -> AsyncIterator[Valkey]:
    require(not missing_valkey(), missing_valkey())
    async with Valkey() as valkey:
        yield valkey


@asynccontextmanager
async def script(url: str, text: bytes = ECHO) -> AsyncGenerator[RedisScript]:
    made = RedisScript(url, text)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def admin(server: Valkey, database: int = 0) -> AsyncGenerator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis(port=server.port, db=database) as client:
        yield client


async def echoed(each: RedisScript, text: str = "1") -> None:
    assert await each.run(["k"], [text, b"\0\r\n"]) == [b"k", text.encode(), b"\0\r\n"]


class TestCalls:
    async def test_keys_and_arguments_reach_the_script_byte_for_byte(self, server: Valkey):
        async with script(server.url) as each:
            await echoed(each, "ä")

    async def test_many_at_once_get_each_its_own_answer_over_one_connection(self, server: Valkey):
        async with script(server.url) as each, admin(server) as client:
            await asyncio.gather(*(echoed(each, str(place)) for place in range(500)))
            assert len(await client.client_list()) == 2

    async def test_a_server_that_forgot_the_script_is_told_again(self, server: Valkey):
        async with script(server.url) as each, admin(server) as client:
            await echoed(each)
            await client.script_flush()
            await asyncio.gather(*(echoed(each) for _ in range(10)))

    async def test_an_error_of_the_script_is_told_and_the_next_call_works(self, server: Valkey):
        async with script(server.url, b"if ARGV[1] == 'x' then return redis.call('INCR') end return ARGV[1]") as each:
            with pytest.raises(RedisRefused, match=r"(?i)wrong number"):
                await each.run(["k"], ["x"])
            assert await each.run(["k"], ["y"]) == b"y"

    async def test_the_local_hosts_event_loop_does_as_well(self, server: Valkey):
        async def talk() -> None:
            each = RedisScript(server.url, ECHO)
            for _ in range(2):
                await echoed(each)
                await each.close()

        def on_uvloop() -> None:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(talk())

        await asyncio.to_thread(on_uvloop)

    async def test_what_cannot_be_sent_spoils_nobody_elses_answer(self, server: Valkey):
        async with script(server.url) as each:
            await echoed(each)
            with pytest.raises(TypeError):
                await each.run(["k"], [None])  # type: ignore[list-item]
            await echoed(each)

    async def test_a_caller_who_leaves_spoils_nobody_elses_answer(self, server: Valkey):
        async with script(server.url) as each:
            await echoed(each)
            leaving = asyncio.create_task(each.run(["k"], ["gone", "x"]))
            staying = asyncio.create_task(echoed(each))
            await asyncio.sleep(0)
            leaving.cancel()
            await staying


class TestAddress:
    @pytest.mark.parametrize("url", ["", "nonsense", "http://x", "redis://", "redis://host/name"])
    def test_one_that_is_none_is_refused(self, url: str):
        with pytest.raises(ValueError, match=r"redis://|invalid literal"):
            RedisScript(url, ECHO)

    async def test_one_of_several_that_is_dead_costs_a_moment(self, server: Valkey, monkeypatch: pytest.MonkeyPatch):
        async def found(*_: object, **__: object) -> list[tuple[object, ...]]:
            addresses = ((host, server.port) for host in ("127.0.0.2", "127.0.0.1"))
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", each) for each in addresses]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
        with deaf("127.0.0.2", server.port):
            async with script(f"redis://redis.test:{server.port}") as each:
                start = time.monotonic()
                await echoed(each)
                assert 0.2 < time.monotonic() - start < 1.5

    async def test_the_database_is_the_one_named(self, server: Valkey):
        async with script(f"redis://127.0.0.1:{server.port}/3", COUNT) as each, admin(server, 3) as client:
            await each.run(["counted"], [])
            assert await client.get("counted") == b"1"

    @pytest.mark.parametrize("name", ["", "somebody"])
    async def test_password_and_user_are_told(self, server: Valkey, name: str):
        async with admin(server) as client:
            await client.acl_setuser(name or "default", True, passwords=["+p:/w"], categories=["+@all"], keys=["*"])
            await client.acl_setuser("default", enabled=not name, passwords=["+p:/w"], reset_passwords=True)
        async with script(f"redis://{name}:p%3A%2Fw@127.0.0.1:{server.port}") as each:
            await echoed(each)
        async with script(f"redis://{name}:secret@127.0.0.1:{server.port}") as each:
            with pytest.raises(RedisRefused, match="WRONGPASS") as refusal:
                await each.run(["k"], [])
            assert "secret" not in str(refusal.value)
            assert not refusal.value.sent
        async with script(server.url) as each:
            with pytest.raises(RedisRefused, match="NOAUTH"):
                await each.run(["k"], [])

    async def test_tls_is_used_and_checked(self, server: Valkey, monkeypatch: pytest.MonkeyPatch):
        authority, served = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(served)
        trusted = ssl.create_default_context()
        authority.configure_trust(trusted)
        async with passing(server.port, served) as relay, script(f"rediss://127.0.0.1:{relay.port}") as each:
            with pytest.raises(RedisAway, match="CERTIFICATE_VERIFY_FAILED"):
                await each.run(["k"], [])
            monkeypatch.setattr(connecting, "verified", lambda: trusted)
            await asyncio.sleep(1.1)
            await echoed(each)


class TestCuts:
    async def test_after_a_cut_it_connects_again(self, server: Valkey):
        async with script(server.url) as each, admin(server) as client:
            for _ in range(3):
                await echoed(each)
                await client.client_kill_filter(_type="normal", skipme=True)
                await asyncio.sleep(0.05)
            await echoed(each)

    async def test_what_was_under_way_is_told(self, server: Valkey):
        async with script(server.url) as each, admin(server) as client:
            await echoed(each)
            await client.client_pause(5000)
            asked = [asyncio.create_task(echoed(each)) for _ in range(5)]
            await asyncio.sleep(0.1)
            await client.client_kill_filter(_type="normal", skipme=True)
            told = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(error, RedisAway) and error.sent for error in told)
            await client.client_unpause()
            await echoed(each)

    async def test_a_server_that_is_gone_and_back(self, server: Valkey):
        port = free_port()
        async with script(f"redis://127.0.0.1:{port}") as each:
            with pytest.raises(RedisAway) as refusal:
                await echoed(each)
            assert not refusal.value.sent
            async with Valkey(port=port):
                await asyncio.sleep(1.1)
                await echoed(each)
            with pytest.raises(RedisAway):
                await echoed(each)

    async def test_one_that_became_a_replica_is_left(self, server: Valkey):
        async with script(server.url, COUNT) as each, admin(server) as client:
            await each.run(["k"], [])
            await client.replicaof("127.0.0.1", free_port())
            with pytest.raises(RedisAway, match="READONLY"):
                await each.run(["k"], [])
            await asyncio.sleep(0.05)
            assert len(await client.client_list(_type="normal")) == 1
            await client.replicaof("NO", "ONE")
            assert await each.run(["k"], []) == 2

    async def test_silence_ends_the_wait_of_all(self):
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with listening(silent) as port, script(f"redis://127.0.0.1:{port}") as each:
            start = time.monotonic()
            told = await asyncio.gather(*(echoed(each) for _ in range(20)), return_exceptions=True)
            assert all(isinstance(error, RedisAway) for error in told)
            assert time.monotonic() - start < 4

    @pytest.mark.parametrize("opened", [True, False])
    async def test_after_silence_nobody_waits_for_a_second(self, server: Valkey, opened: bool):
        async with (
            passing(server.port) as relay,
            script(f"redis://127.0.0.1:{relay.port}{'' if opened else '/0'}") as each,
        ):
            if opened:
                await echoed(each)
            relay.silent = True
            with pytest.raises(RedisAway, match="in time"):
                await echoed(each)
            start = time.monotonic()
            for _ in range(50):
                with pytest.raises(RedisAway) as refusal:
                    await echoed(each)
                assert not refusal.value.sent
            assert time.monotonic() - start < 0.5
            relay.silent = False
            await asyncio.sleep(1.1)
            await echoed(each)

    async def test_after_silence_nothing_of_what_was_sent_arrives_any_more(self):
        ended = asyncio.get_running_loop().create_future()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"x")
            try:
                ended.set_result(await reader.read())
            except OSError as error:
                ended.set_result(error)
            writer.close()

        async with listening(silent) as port, script(f"redis://127.0.0.1:{port}") as each:
            with pytest.raises(RedisAway):
                await each.run(["x"], [])
            assert isinstance(await ended, ConnectionResetError)

    async def test_a_server_of_another_kind(self):
        async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with listening(web) as port, script(f"redis://127.0.0.1:{port}") as each:
            with pytest.raises(RedisAway, match="protocol"):
                await echoed(each)


type Served = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Served, tls: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextmanager
def deaf(host: str, port: int) -> Iterator[None]:
    """Who connects gets no answer: nobody takes calls, and the queue of them is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(3):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex((host, port))
        yield


@dataclass
class Relay:
    port: int = 0
    silent: bool = False


@asynccontextmanager
async def passing(port: int, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Relay]:
    """In front of a server; what it is told while it is `silent` is lost."""
    relay = Relay()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if not relay.silent:
                    writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    async with listening(serve, tls) as relay.port:
        yield relay
