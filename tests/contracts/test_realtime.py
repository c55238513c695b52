"""Contract of the Realtime port: Web PubSub's adapter, with the real SDK, on the emulator; and the fake."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest

from local.pubsub import create_app
from local.valkey import Valkey
from shared.adapters.web_pubsub import WebPubSubRealtime
from shared.core.errors import Unavailable
from shared.core.ports import Realtime
from tests.contracts.pubsub_client import PubSubClient
from tests.fakes.realtime import FakeRealtime
from tests.serving import listening_socket, serve

KEY = "access-key-of-the-emulator-0123456789abcdef"


@dataclass
class Subject:
    """`received(group, n)`: the first n messages that a member of `group` sees. `fail()`: from here on it is down."""

    realtime: Realtime
    received: Callable[[str, int], Awaitable[list[Any]]]
    fail: Callable[[], Awaitable[None]]


@pytest.fixture(scope="module")
async def valkey() -> AsyncGenerator[Valkey]:
    async with Valkey() as server:
        yield server


@pytest.fixture(scope="module")
async def emulator(valkey: Valkey) -> AsyncGenerator[str]:
    async with serve(create_app(valkey.url, KEY)) as url:
        yield url


def connection_string(url: str) -> str:
    return f"Endpoint={url};AccessKey={KEY};Version=1.0;"


@pytest.fixture
async def web_pubsub(emulator: str) -> AsyncGenerator[WebPubSubRealtime]:
    realtime = WebPubSubRealtime(connection_string(emulator), "kanban")
    yield realtime
    await realtime.close()


@asynccontextmanager
async def _emulated(valkey: Valkey) -> AsyncGenerator[Subject]:
    serving = serve(create_app(valkey.url, KEY))
    url = await serving.__aenter__()
    realtime = WebPubSubRealtime(connection_string(url), "kanban")
    stopped: list[bool] = []
    async with PubSubClient(await realtime.client_url("uada", ["team.t1", "team.t2"])) as member:

        async def received(group: str, count: int) -> list[Any]:
            await member.received(count)
            return [message["data"] for message in member.messages if message["group"] == group]

        async def fail() -> None:
            stopped.append(True)
            await serving.__aexit__(None, None, None)

        yield Subject(realtime, received, fail)
    await realtime.close()
    if not stopped:
        await fail()


@asynccontextmanager
async def _faked(valkey: Valkey) -> AsyncGenerator[Subject]:
    fake = FakeRealtime()

    async def received(group: str, count: int) -> list[Any]:
        return fake.messages(group)

    async def fail() -> None:
        fake.down = True

    yield Subject(fake, received, fail)


@pytest.fixture(params=[_emulated, _faked], ids=["web_pubsub", "fake"])
async def subject(request: pytest.FixtureRequest, valkey: Valkey) -> AsyncGenerator[Subject]:
    async with request.param(valkey) as made:
        yield made


class TestRealtime:
    async def test_messages_reach_their_group_in_order_and_unchanged(self, subject: Subject) -> None:
        messages = [{"n": n, "text": "ä\u2028\"'<>", "none": None, "list": [1.5, True]} for n in range(20)]
        for message in messages:
            await subject.realtime.publish("team.t1", [message])
        assert await subject.received("team.t1", 20) == messages
        assert await subject.received("team.t2", 20) == []

    async def test_several_events_arrive_in_order(self, subject: Subject) -> None:
        events = [{"specversion": "1.0", "n": n, "text": "x" * 40_000} for n in range(30)]
        await subject.realtime.publish("team.t1", events)
        assert await subject.received("team.t1", 30) == events

    async def test_publishing_to_nobody_is_fine(self, subject: Subject) -> None:
        await subject.realtime.publish("team.nobody", [{"n": 1}])

    async def test_membership_changes_can_be_repeated_and_need_no_connection(self, subject: Subject) -> None:
        for _ in range(2):
            await subject.realtime.add_to_group("unobody", "team.t1")
        for _ in range(2):
            await subject.realtime.remove_from_group("unobody", "team.t1")

    async def test_a_service_that_is_down_is_unavailable(self, subject: Subject) -> None:
        await subject.fail()
        for call in (
            subject.realtime.publish("g", [{}]),
            subject.realtime.add_to_group("u", "g"),
            subject.realtime.remove_from_group("u", "g"),
        ):
            with pytest.raises(Unavailable, match="does not answer"):
                await call


class TestClientUrl:
    async def test_it_joins_the_caller_to_its_groups_and_nothing_else(self, web_pubsub: WebPubSubRealtime) -> None:
        async with PubSubClient(await web_pubsub.client_url("uada", ["user.uada", "team.t1"])) as ada:
            for group in ("team.t2", "user.uada", "team.t1"):
                await web_pubsub.publish(group, [{"to": group}])
            assert await ada.received(2) == [{"to": "user.uada"}, {"to": "team.t1"}]
            assert not (await ada.ask("joinGroup", group="team.t2"))["success"]
            assert not (await ada.ask("sendToGroup", group="team.t1", dataType="json", data={}))["success"]

    async def test_its_token_lives_as_long_as_asked(self, web_pubsub: WebPubSubRealtime) -> None:
        url = await web_pubsub.client_url("uada", [], minutes=5)
        claims = jwt.decode(httpx.URL(url).params["access_token"], options={"verify_signature": False})
        assert claims["exp"] - claims["iat"] == 300
        assert claims["sub"] == "uada"
        assert "role" not in claims

    async def test_a_live_connection_follows_membership(self, web_pubsub: WebPubSubRealtime) -> None:
        async with PubSubClient(await web_pubsub.client_url("uada", ["user.uada"])) as ada:
            await web_pubsub.publish("team.t1", [{"n": 0}])
            await web_pubsub.add_to_group("uada", "team.t1")
            await web_pubsub.publish("team.t1", [{"n": 1}])
            await web_pubsub.remove_from_group("uada", "team.t1")
            await web_pubsub.publish("team.t1", [{"n": 2}])
            await web_pubsub.publish("user.uada", [{"n": 3}])
            assert await ada.received(2) == [{"n": 1}, {"n": 3}]


class TestFailures:
    async def test_a_refused_key_is_unavailable(self, emulator: str) -> None:
        realtime = WebPubSubRealtime(connection_string(emulator).replace(KEY, "x" * 40), "kanban")
        with pytest.raises(Unavailable):
            await realtime.publish("g", [{}])
        await realtime.close()

    @pytest.mark.parametrize("text", ["", "Endpoint=http://127.0.0.1", "rubbish"])
    async def test_a_connection_string_that_is_none_says_which_setting(self, text: str) -> None:
        with pytest.raises(Unavailable, match="WEB_PUBSUB_CONNECTION_STRING"):
            await WebPubSubRealtime(text, "kanban").publish("g", [{}])

    async def test_nobody_listening_is_unavailable(self) -> None:
        with listening_socket() as sock:
            realtime = WebPubSubRealtime(connection_string(f"http://127.0.0.1:{sock.getsockname()[1]}"), "kanban")
            with pytest.raises(Unavailable):
                await realtime.publish("g", [{}])
            await realtime.close()

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 307 Temporary Redirect\r\nlocation: https://elsewhere.test/\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n",
            b"",
        ],
        ids=["redirect", "endless", "none"],
    )
    async def test_what_is_no_acceptance_is_unavailable(self, answer: bytes) -> None:
        async def dribble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            with suppress(ConnectionError):
                while b"chunked" in answer:
                    writer.write(b"1\r\n.\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.05)

        async with await asyncio.start_server(dribble, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            realtime = WebPubSubRealtime(connection_string(url), "kanban", send_seconds=0.3)
            async with asyncio.timeout(10):
                with pytest.raises(Unavailable):
                    await realtime.publish("g", [{}])
            await realtime.close()

    async def test_closing_twice_is_fine(self, web_pubsub: WebPubSubRealtime) -> None:
        await web_pubsub.publish("g", [{}])
        await web_pubsub.close()
        await web_pubsub.close()
