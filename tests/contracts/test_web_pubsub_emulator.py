"""The Web PubSub emulator against the real service SDK and a bare client of its websocket subprotocols."""

import asyncio
import functools
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx
import jwt
import pytest
import redis.asyncio
from azure.core.exceptions import HttpResponseError
from azure.messaging.webpubsubservice.aio import WebPubSubServiceClient
from websockets.exceptions import ConnectionClosed, InvalidStatus

from local.free_ports import free_port
from local.pubsub import create_app
from local.valkey import Valkey
from tests.contracts.pubsub_client import PLAIN, PubSubClient
from tests.serving import serve

KEY = "access-key-of-the-emulator-0123456789abcdef"
HUB = "kanban"
RUBBISH = [
    "",
    "{",
    "[]",
    "null",
    "[" * 50_000,
    b"\x00",
    '{"type":[]}',
    '{"type":"sequenceAck"}',
    '{"type":"sequenceAck","sequenceId":"1"}',
    '{"type":"x","ackId":-1}',
    '{"type":"joinGroup"}',
    '{"type":"joinGroup","group":[]}',
    '{"type":"joinGroup","group":"\\ud800"}',
]


@pytest.fixture(scope="module")
async def valkey() -> AsyncGenerator[Valkey]:
    async with Valkey() as server:
        yield server


@pytest.fixture(scope="module")
async def emulator(valkey: Valkey) -> AsyncGenerator[str]:
    async with serve(create_app(valkey.url, KEY)) as url:
        yield url


@pytest.fixture
async def database(valkey: Valkey) -> AsyncGenerator[Any]:
    client: Any = redis.asyncio.from_url(valkey.url)
    await client.flushdb()
    yield client
    await client.aclose()


@asynccontextmanager
async def service_of(url: str, hub: str = HUB) -> AsyncGenerator[Any]:
    connection = f"Endpoint={url};AccessKey={KEY};Version=1.0;"
    async with WebPubSubServiceClient.from_connection_string(connection, hub=hub, retry_total=0) as client:
        yield client


@pytest.fixture
async def service(emulator: str, database: Any) -> AsyncGenerator[Any]:
    async with service_of(emulator) as client:
        yield client


async def url_for(service: Any, user: str = "ada", groups: tuple[str, ...] = (), **options: Any) -> str:
    return (await service.get_client_access_token(user_id=user, groups=list(groups), **options))["url"]


async def client_of(service: Any, user: str = "ada", groups: tuple[str, ...] = (), **options: Any) -> PubSubClient:
    protocol = options.pop("protocol", None)
    url = await url_for(service, user, groups, **options)
    return PubSubClient(url, protocol) if protocol else PubSubClient(url)


async def refused(connecting: Awaitable[Any]) -> int:
    """The code with which a recovery is closed."""
    with pytest.raises(ConnectionClosed) as caught:
        await connecting
    assert caught.value.rcvd
    return caught.value.rcvd.code


class TestDelivery:
    async def test_a_group_hears_its_messages_and_no_others(self, service: Any) -> None:
        async with (
            await client_of(service, "ada", ("team.a",)) as ada,
            await client_of(service, "bob", ("team.b",)) as bob,
        ):
            await service.send_to_group("team.a", {"n": 1}, content_type="application/json")
            await service.send_to_group("team.b", {"n": 2}, content_type="application/json")
            assert await ada.received(1) == [{"n": 1}]
            assert await bob.received(1) == [{"n": 2}]
            assert {key: ada.messages[0][key] for key in ("from", "group", "dataType", "sequenceId")} == {
                "from": "group",
                "group": "team.a",
                "dataType": "json",
                "sequenceId": 1,
            }

    async def test_users_connections_and_everyone_can_be_sent_to(self, service: Any) -> None:
        async with await client_of(service, "ada") as ada, await client_of(service, "bob") as bob:
            await service.send_to_user("ada", "for ada", content_type="text/plain")
            await service.send_to_connection(bob.connection_id, "for bob's tab", content_type="text/plain")
            await service.send_to_all({"for": "all"}, content_type="application/json", excluded=[bob.connection_id])
            assert await ada.received(2) == ["for ada", {"for": "all"}]
            assert await bob.received(1) == ["for bob's tab"]
            assert bob.messages[0]["from"] == "server"

    async def test_bytes_arrive_as_base64(self, service: Any) -> None:
        async with await client_of(service, "ada") as ada:
            await service.send_to_user("ada", b"\x00\xff", content_type="application/octet-stream")
            assert await ada.received(1) == ["AP8="]
            assert ada.messages[0]["dataType"] == "binary"

    async def test_names_may_hold_any_letters(self, service: Any) -> None:
        async with await client_of(service, "ä b", ("team.ü & co",)) as ada:
            await service.send_to_group("team.ü & co", {"n": 1}, content_type="application/json")
            await service.send_to_user("ä b", {"n": 2}, content_type="application/json")
            assert await ada.received(2) == [{"n": 1}, {"n": 2}]

    async def test_hubs_are_apart(self, service: Any, emulator: str) -> None:
        async with (
            service_of(emulator, "other") as other,
            await client_of(service, "ada", ("g",)) as ada,
            await client_of(other, "ada", ("g",)) as stranger,
        ):
            await other.send_to_all({"n": 0}, content_type="application/json")
            await other.send_to_connection(ada.connection_id, {"n": 0}, content_type="application/json")
            await other.close_connection(ada.connection_id)
            assert not await other.connection_exists(ada.connection_id)
            await service.send_to_group("g", {"n": 1}, content_type="application/json")
            assert await ada.received(1) == [{"n": 1}]
            assert await stranger.received(1) == [{"n": 0}]

    async def test_a_filter_is_refused_rather_than_ignored(self, service: Any) -> None:
        with pytest.raises(HttpResponseError, match="filter"):
            await service.send_to_all({}, content_type="application/json", filter="userId eq 'ada'")

    async def test_a_body_that_is_not_its_content_type_is_refused(self, emulator: str, database: Any) -> None:
        answer = await _post(emulator, f"/api/hubs/{HUB}/:send", content=b"{")
        assert answer.status_code == 400

    async def test_a_message_over_a_mebibyte_is_refused(self, emulator: str, database: Any) -> None:
        answer = await _post(emulator, f"/api/hubs/{HUB}/:send", content=b'"' + b"x" * 2**20 + b'"')
        assert answer.status_code == 413

    async def test_many_connections_share_one_subscription(self, service: Any, database: Any) -> None:
        clients = [await client_of(service, f"user{number}", ("g",)) for number in range(20)]
        for client in clients:
            await client.__aenter__()
        await service.send_to_group("g", {"n": 1}, content_type="application/json")
        for client in clients:
            assert await client.received(1) == [{"n": 1}]
        assert len(await database.client_list(_type="pubsub")) == 1
        for client in clients:
            await client.__aexit__()

    async def test_the_plain_subprotocol_has_no_sequence_and_cannot_be_recovered(self, service: Any) -> None:
        client = await client_of(service, "ada", ("g",), protocol=PLAIN)
        async with client:
            await service.send_to_group("g", {"n": 1}, content_type="application/json")
            await client.received(1)
            assert "sequenceId" not in client.messages[0]
            assert client.token == ""
            await client.cut()
            assert await refused(client.recover(token="x")) == 1008


class TestGroups:
    async def test_adding_a_user_reaches_a_live_connection(self, service: Any) -> None:
        async with await client_of(service, "ada") as first, await client_of(service, "ada") as second:
            await service.send_to_group("team.a", {"n": 0}, content_type="application/json")
            await service.add_user_to_group("team.a", "ada")
            await service.add_user_to_group("team.a", "ada")
            await service.send_to_group("team.a", {"n": 1}, content_type="application/json")
            assert await first.received(1) == [{"n": 1}]
            assert await second.received(1) == [{"n": 1}]

    async def test_removing_a_user_stops_delivery_at_once(self, service: Any) -> None:
        async with await client_of(service, "ada", ("team.a", "user.ada")) as ada:
            await service.remove_user_from_group("team.a", "ada")
            await service.send_to_group("team.a", {"n": 1}, content_type="application/json")
            await service.send_to_group("user.ada", {"n": 2}, content_type="application/json")
            assert await ada.received(1) == [{"n": 2}]

    async def test_removing_a_user_holds_for_a_recovered_connection(self, service: Any) -> None:
        async with await client_of(service, "ada", ("team.a", "user.ada")) as ada:
            await ada.cut()
            await service.remove_user_from_group("team.a", "ada")
            await service.send_to_group("team.a", {"n": 1}, content_type="application/json")
            await ada.recover()
            await service.send_to_group("user.ada", {"n": 2}, content_type="application/json")
            assert await ada.received(1) == [{"n": 2}]

    async def test_single_connections_join_and_leave(self, service: Any) -> None:
        async with await client_of(service, "ada") as one, await client_of(service, "ada", ("end",)) as two:
            await service.add_connection_to_group("g", one.connection_id)
            await service.add_connection_to_group("g", two.connection_id)
            await service.remove_connection_from_group("g", two.connection_id)
            await service.send_to_group("g", {"n": 1}, content_type="application/json")
            await service.send_to_group("end", {"n": 2}, content_type="application/json")
            assert await one.received(1) == [{"n": 1}]
            assert await two.received(1) == [{"n": 2}]
            assert await service.group_exists("g")
            await service.remove_user_from_all_groups("ada")
            assert not await service.group_exists("g")
            assert await service.user_exists("ada")
        with pytest.raises(HttpResponseError):
            await service.add_connection_to_group("g", "nobody")


class TestReliability:
    async def test_500_messages_survive_cuts_in_order_and_once(self, service: Any) -> None:
        async with await client_of(service, "ada", ("g",)) as ada:

            async def publish() -> None:
                for number in range(500):
                    await service.send_to_group("g", {"n": number}, content_type="application/json")

            publishing = asyncio.create_task(publish())
            for count in (50, 150, 300):
                await ada.received(count)
                await ada.cut()
                await asyncio.sleep(0.05)
                await ada.recover()
                if count == 150:
                    await ada.acknowledge()
            await publishing
            assert await ada.received(500) == [{"n": number} for number in range(500)]
            assert [message["sequenceId"] for message in ada.messages] == list(range(1, 501))

    async def test_what_was_acknowledged_is_not_sent_again(self, service: Any, database: Any) -> None:
        async with await client_of(service, "ada", ("g",)) as ada:
            for number in range(10):
                await service.send_to_group("g", {"n": number}, content_type="application/json")
            await ada.received(10)
            await ada.send(type="sequenceAck", sequenceId=6)
            await _until(lambda: database.llen(f"wps:o:{ada.connection_id}"), 4)
            await ada.cut()
            ada.last, ada.messages = 0, []
            await ada.recover()
            assert await ada.received(4) == [{"n": number} for number in range(6, 10)]

    async def test_acknowledgements_of_many_in_one_moment_all_count(self, service: Any, database: Any) -> None:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(await client_of(service, f"u{n}", ("g",))) for n in range(5)]
            for number in range(10):
                await service.send_to_group("g", {"n": number}, content_type="application/json")
            for client in clients:
                await client.received(10)
                for sequence in (3, 9, 7):
                    await client.send(type="sequenceAck", sequenceId=sequence)
            for client in clients:
                await _until(functools.partial(database.llen, f"wps:o:{client.connection_id}"), 1)

    async def test_an_acknowledgement_of_what_was_never_sent_loses_nothing(self, service: Any) -> None:
        async with await client_of(service, "ada", ("g",)) as ada:
            await ada.send(type="sequenceAck", sequenceId=1000)
            await service.send_to_group("g", {"n": 1}, content_type="application/json")
            assert await ada.received(1) == [{"n": 1}]

    async def test_an_emulator_killed_and_restarted_loses_nothing(self, valkey: Valkey, database: Any) -> None:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        async with serve(create_app(valkey.url, KEY)) as other, service_of(other) as service:
            process = await _start(valkey, port)
            ada = PubSubClient(
                (await url_for(service, "ada", ("g",))).replace(other.split("//")[1], url.split("//")[1])
            )
            async with ada:
                for number in range(250):
                    await service.send_to_group("g", {"n": number}, content_type="application/json")
                await ada.received(100)
                process.send_signal(signal.SIGKILL)
                await process.wait()
                for number in range(250, 500):
                    await service.send_to_group("g", {"n": number}, content_type="application/json")
                process = await _start(valkey, port)
                await ada.recover()
                assert await ada.received(500) == [{"n": number} for number in range(500)]
            process.terminate()
            await process.wait()

    async def test_a_stopped_emulator_hands_over_to_another_process(self, valkey: Valkey, database: Any) -> None:
        async with serve(create_app(valkey.url, KEY)) as second, service_of(second) as service:
            async with serve(create_app(valkey.url, KEY)) as first:
                url = (await url_for(service, "ada", ("g",))).replace(second.split("//")[1], first.split("//")[1])
                ada = PubSubClient(url)
                await ada.start(url)
            assert await ada.close_code() == 1012
            await service.send_to_group("g", {"n": 1}, content_type="application/json")
            await ada.recover(second.replace("http", "ws"))
            assert await ada.received(1) == [{"n": 1}]
            await ada.__aexit__()

    async def test_a_recovery_that_fails_is_accepted_and_then_closed_with_1008(self, service: Any) -> None:
        async with await client_of(service, "ada") as ada:
            await ada.cut()
            assert await refused(ada.recover(token="wrong")) == 1008
            known, ada.connection_id = ada.connection_id, "unknown"
            assert await refused(ada.recover()) == 1008
            ada.connection_id = known
            await ada.recover()

    async def test_a_recovery_takes_the_connection_over(self, service: Any) -> None:
        async with await client_of(service, "ada", ("g",)) as ada:
            old = PubSubClient(ada.url)
            old.socket, old._reader = ada.socket, ada._reader  # pyright: ignore[reportPrivateUsage]
            await ada.recover()
            assert await old.close_code() == 1008
            await service.send_to_group("g", {"n": 1}, content_type="application/json")
            assert await ada.received(1) == [{"n": 1}]

    async def test_a_recovery_outlives_the_access_token(self, service: Any, emulator: str) -> None:
        url = await url_for(service)
        async with PubSubClient(url) as ada:
            await ada.cut()
            expired = _token(f"{emulator}/client/hubs/{HUB}", exp=int(time.time()) - 60)
            ada.url = f"{url.split('?')[0]}?access_token={expired}"
            await ada.recover()
            with pytest.raises(InvalidStatus):
                await PubSubClient(ada.url).start(ada.url)

    async def test_a_mailbox_is_bounded(self, service: Any, database: Any) -> None:
        async with await client_of(service, "ada", ("g",)) as ada:
            await ada.cut()
            await asyncio.gather(
                *(service.send_to_group("g", {"n": n}, content_type="application/json") for n in range(1001))
            )
            assert await database.llen(f"wps:o:{ada.connection_id}") == 0
            assert await refused(ada.recover()) == 1008

    async def test_a_client_that_never_acknowledges_is_closed(self, service: Any) -> None:
        async with await client_of(service, "ada", ("g",)) as ada:
            await asyncio.gather(
                *(service.send_to_group("g", {"n": n}, content_type="application/json") for n in range(1001))
            )
            assert await ada.close_code() == 1008
            assert "acknowledged" in ada.notices[0]["message"]

    async def test_everything_in_redis_expires(self, service: Any, database: Any) -> None:
        ada = await client_of(service, "ada", ("g",), roles=["webpubsub.joinLeaveGroup"])
        async with ada, await client_of(service, "bob", ("g", "h")) as bob:
            await ada.ask("joinGroup", group="h")
            await service.add_user_to_group("later", "ada")
            await service.send_to_group("g", {"n": 1}, content_type="application/json")
            await bob.received(1)
            await ada.received(1)
            await ada.cut()
            keys = [key async for key in database.scan_iter("wps:*")]
            assert len(keys) >= 10
            assert {key: await database.ttl(key) for key in keys if not 0 < await database.ttl(key) <= 3600} == {}
            assert 0 < await database.ttl(f"wps:c:{ada.connection_id}") <= 60

    async def test_a_client_that_leaves_properly_leaves_nothing(self, service: Any, database: Any) -> None:
        async with await client_of(service, "ada", ("g",)) as ada:
            await service.send_to_group("g", {"n": 1}, content_type="application/json")
            await ada.received(1)
        await _until(lambda: database.keys("wps:*"), [])


class TestPermissions:
    async def test_without_a_role_a_client_only_listens(self, service: Any) -> None:
        async with await client_of(service, "ada", ("g",)) as ada:
            for kind in ("joinGroup", "leaveGroup", "sendToGroup"):
                answer = await ada.ask(kind, group="g", dataType="json", data=1)
                assert (answer["success"], answer["error"]["name"]) == (False, "Forbidden")
            await service.send_to_group("g", {"n": 1}, content_type="application/json")
            assert await ada.received(1) == [{"n": 1}]

    async def test_a_role_for_one_group_is_for_that_group(self, service: Any) -> None:
        roles = ["webpubsub.joinLeaveGroup.g", "webpubsub.sendToGroup.g"]
        async with await client_of(service, "ada", roles=roles) as ada, await client_of(service, "bob", ("g",)) as bob:
            assert (await ada.ask("joinGroup", group="g"))["success"]
            assert not (await ada.ask("joinGroup", group="gg"))["success"]
            await ada.ask("sendToGroup", group="g", dataType="json", data={"n": 1}, noEcho=True)
            await ada.ask("sendToGroup", group="g", dataType="json", data={"n": 2})
            assert not (await ada.ask("sendToGroup", group="h", dataType="json", data=1))["success"]
            assert await bob.received(2) == [{"n": 1}, {"n": 2}]
            assert await ada.received(1) == [{"n": 2}]
            assert bob.messages[0]["fromUserId"] == "ada"
            assert (await ada.ask("leaveGroup", group="g"))["success"]

    async def test_a_repeated_ack_id_is_carried_out_once(self, service: Any) -> None:
        async with await client_of(service, "ada", ("g",), roles=["webpubsub.sendToGroup"]) as ada:
            await ada.ask("sendToGroup", group="g", dataType="json", data=1, ackId=7)
            again = await ada.ask("sendToGroup", group="g", dataType="json", data=1, ackId=7)
            assert again["error"]["name"] == "Duplicate"
            await ada.ask("sendToGroup", group="g", dataType="json", data=2)
            assert await ada.received(2) == [1, 2]

    async def test_roles_are_kept_over_a_recovery(self, service: Any) -> None:
        async with await client_of(service, "ada", roles=["webpubsub.joinLeaveGroup.g"]) as ada:
            await ada.cut()
            await ada.recover()
            assert (await ada.ask("joinGroup", group="g"))["success"]
            assert not (await ada.ask("joinGroup", group="h"))["success"]

    async def test_an_event_without_a_handler_fails(self, service: Any) -> None:
        async with await client_of(service) as ada:
            assert not (await ada.ask("event", event="x", dataType="text", data="y"))["success"]

    @pytest.mark.parametrize("text", RUBBISH, ids=lambda text: repr(text)[:40])
    async def test_rubbish_ends_the_connection(self, service: Any, text: str | bytes) -> None:
        async with await client_of(service) as ada:
            await ada.socket.send(text)
            assert await ada.close_code() == 1008


class TestTokens:
    @pytest.mark.parametrize(
        "claims",
        [
            {"aud": f"http://127.0.0.1/client/hubs/{HUB}x"},
            {"aud": f"http://127.0.0.1/api/hubs/{HUB}/:send"},
            {"aud": None},
            {"aud": ["http://127.0.0.1/client/hubs/kanban"]},
            {"exp": 1},
            {"exp": None},
        ],
        ids=str,
    )
    async def test_a_client_needs_a_token_for_this_hub(
        self, emulator: str, database: Any, claims: dict[str, Any]
    ) -> None:
        good = {"aud": f"http://127.0.0.1/client/hubs/{HUB}"}
        url = f"{emulator.replace('http', 'ws')}/client/hubs/{HUB}?access_token="
        async with PubSubClient(url + _token(**good)):
            pass
        with pytest.raises(InvalidStatus, match="401"):
            await PubSubClient("").start(url + _token(**(good | claims)))

    async def test_another_key_or_no_signature_opens_nothing(self, emulator: str, database: Any) -> None:
        claims = {"aud": f"http://127.0.0.1/client/hubs/{HUB}", "exp": int(time.time()) + 60}
        url = f"{emulator.replace('http', 'ws')}/client/hubs/{HUB}?access_token="
        for token in ("", jwt.encode(claims, "x" * 32, "HS256"), jwt.encode(claims, "", "none")):
            with pytest.raises(InvalidStatus, match="401"):
                await PubSubClient("").start(url + token)

    async def test_an_unknown_subprotocol_is_refused(self, service: Any) -> None:
        with pytest.raises(InvalidStatus, match="400"):
            await (await client_of(service, protocol="protobuf.webpubsub.azure.v1")).__aenter__()

    async def test_a_service_token_is_good_for_one_address(self, emulator: str, database: Any) -> None:
        path = f"/api/hubs/{HUB}/:send"
        assert (await _post(emulator, path)).status_code == 202
        for audience in (f"{emulator}/api/hubs/{HUB}/groups/g/:send", f"{emulator}/client/hubs/{HUB}", None):
            assert (await _post(emulator, path, audience=audience)).status_code == 401
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.post(emulator + path, json={})).status_code == 401

    async def test_the_service_generates_client_tokens(self, service: Any, emulator: str) -> None:
        query = "?userId=ada&group=g&group=h&role=webpubsub.joinLeaveGroup&minutesToExpire=5"
        answer = await _post(emulator, f"/api/hubs/{HUB}/:generateToken{query}")
        token = answer.json()["token"]
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["exp"] - claims["iat"] == 300
        async with PubSubClient(f"{emulator.replace('http', 'ws')}/client/hubs/{HUB}?access_token={token}") as ada:
            await service.send_to_group("h", {"n": 1}, content_type="application/json")
            assert await ada.received(1) == [{"n": 1}]
            assert (await ada.ask("joinGroup", group="x"))["success"]


class TestClosing:
    async def test_closing_a_users_connections_tells_them_why_and_for_good(self, service: Any) -> None:
        async with await client_of(service, "ada") as ada, await client_of(service, "bob") as bob:
            await service.close_user_connections("ada", reason="Removed from the team")
            assert await ada.close_code() == 1008
            assert ada.notices == [{"type": "system", "event": "disconnected", "message": "Removed from the team"}]
            assert await refused(ada.recover()) == 1008
            assert await service.connection_exists(bob.connection_id)
            assert not await service.connection_exists(ada.connection_id)

    async def test_a_connection_closed_while_it_was_cut_cannot_be_recovered(self, service: Any) -> None:
        async with await client_of(service, "ada", ("g",)) as ada:
            await ada.cut()
            await service.close_group_connections("g")
            assert await refused(ada.recover()) == 1008

    async def test_everyone_but_some_can_be_closed(self, service: Any) -> None:
        async with await client_of(service, "ada") as ada, await client_of(service, "bob") as bob:
            await service.close_all_connections(excluded=[bob.connection_id])
            assert await ada.close_code() == 1008
            await service.close_connection(bob.connection_id)
            assert await bob.close_code() == 1008


async def test_health_follows_redis() -> None:
    async with Valkey() as own, serve(create_app(own.url, KEY)) as url, httpx.AsyncClient(trust_env=False) as http:
        assert (await http.head(f"{url}/api/health")).status_code == 200
        await own.child.stop()
        assert (await http.get(f"{url}/api/health")).status_code == 503


def _token(aud: Any, exp: Any = 4_102_444_800) -> str:
    return jwt.encode({name: value for name, value in (("aud", aud), ("exp", exp)) if value}, KEY, "HS256")


async def _post(emulator: str, path: str, audience: str | None = "", content: bytes = b"{}") -> httpx.Response:
    token = _token(emulator + path if audience == "" else audience)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.post(emulator + path, content=content, headers=headers)


async def _until(look: Callable[[], Awaitable[Any]], expected: Any) -> None:
    found = None
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            while (found := await look()) != expected:
                await asyncio.sleep(0.01)
    assert found == expected


async def _start(valkey: Valkey, port: int) -> asyncio.subprocess.Process:
    env = {**os.environ, "REDIS_URL": valkey.url, "WEB_PUBSUB_ACCESS_KEY": KEY}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "local.pubsub", str(port), env=env)
    async with asyncio.timeout(20), httpx.AsyncClient(trust_env=False) as http:
        while True:
            with suppress(httpx.TransportError):
                if (await http.get(f"http://127.0.0.1:{port}/api/health")).status_code == 200:
                    return process
            await asyncio.sleep(0.05)
