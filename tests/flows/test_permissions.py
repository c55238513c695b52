"""Nobody reaches into another team: by any operation with any credential and role, by queue, blob or live event.

What each shall answer is worked out from the table of permissions (permissions.py has a line for each operation).
"""

import asyncio
import base64
import json
import re
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import httpx
import jwt
import orjson
import pytest
from azure.storage.blob.aio import ContainerClient
from redis.asyncio import Redis
from websockets.exceptions import InvalidStatus

from functions.queues import QUEUES
from local.cloud import LocalCloud
from shared.adapters.file_secrets import FileSecrets
from shared.adapters.jwt_tokens import JwtTokens
from shared.core import deliveries, ids
from shared.core.clock import SystemClock, iso
from shared.core.permissions import Role
from tests.contracts.pubsub_client import PLAIN, RELIABLE, PubSubClient
from tests.flows.matrix import MARK, Matrix, Place, bearer, furnished, signed, under_way
from tests.flows.permissions import OPERATIONS, VARIANTS, Caller
from tests.flows.queues import Queues, incidents
from tests.flows.world import Json, Person, events_of, make_card
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)

BLOBS = {
    r"runs/run_[^/]+/diff\.json": "GET /api/runs/{run_id}/diff",
    r"teams/[^/]+/compose\.json": None,
}
"""Every kind of blob, and the one operation that shows it."""

GROUPS = {"user": "whose name it has", "team": "its members"}
"""Every kind of group of live events, `<kind>.<id>`, and who is in it."""


@pytest.fixture(scope="module")
async def matrix(cloud: LocalCloud, ada: Person, bob: Person, grace: Person) -> AsyncGenerator[Matrix]:
    places = await asyncio.gather(furnished(cloud, ada, "Ada"), furnished(cloud, bob, "Bob"))
    async with httpx.AsyncClient(base_url=cloud.api_url, timeout=60, trust_env=False) as http:
        made = Matrix(cloud, *places, grace, http)
        yield made
    await made.outsiders()


@pytest.fixture(scope="module")
async def forged(matrix: Matrix, cloud: LocalCloud) -> dict[str, str]:
    ada = matrix.ada.person
    session, user = ada.session["access_token"], ada.id
    head, payload, signature = session.split(".")
    public = (await ada.get("/api/auth/jwks"))["keys"][0]
    claims = jwt.decode(session, options={"verify_signature": False})
    no_algorithm = base64.urlsafe_b64encode(orjson.dumps({"alg": "none", "typ": "JWT", "kid": public["kid"]}))
    return {
        "refresh token": ada.session["refresh_token"],
        "expired": await signed(cloud, "api", user, timedelta(hours=1)),
        "from the future": await signed(cloud, "api", user, -timedelta(hours=1)),
        "nobody's": await signed(cloud, "api", "u0000000000000000"),
        "for another audience": await signed(cloud, "web", user),
        "unsigned": f"{no_algorithm.decode().rstrip('=')}.{payload}.",
        "signature cut off": f"{head}.{payload}.",
        "another signature": f"{head}.{payload}.{signature[:-4]}AAAA",
        "signed with the public key": jwt.encode(claims, public["x"], "HS256", headers={"kid": public["kid"]}),
        "of another issuer": await JwtTokens(FileSecrets(cloud.data), "https://elsewhere.invalid", SystemClock()).sign(
            "api", user, {}, 900
        ),
        "made-up api token": f"kbp_{user}_0000000000_{'0' * 40}",
        "made-up model key": f"kvk_{'0' * 48}",
        "not a token": "x.y.z",
        "not text": "\u00e9",
    }


class TestMap:
    async def test_has_a_line_for_every_operation_and_no_other(self, ada: Person):
        """A route that nobody judged fails here, and a line whose route is gone."""
        described = (await ada.get("/api/openapi.json"))["paths"]
        operations = {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}
        assert operations - OPERATIONS.keys() == set(), "give each a line in tests/flows/permissions.py"
        assert OPERATIONS.keys() - operations == set(), "gone from the API: remove the line"
        assert {operation for operation, _ in VARIANTS} <= operations

    async def test_has_an_example_for_every_parameter(self, matrix: Matrix):
        parameters = {name for operation in OPERATIONS for name in re.findall(r"\{(\w+)\}", operation)}
        assert parameters <= matrix.ada.names.keys()


class TestOperation:
    async def test_asks_who_is_there(self, matrix: Matrix):
        await matrix.refusals([Caller("nobody", "", "nobody")])

    async def test_knows_a_forged_credential(self, matrix: Matrix, forged: dict[str, str]):
        await matrix.refusals([Caller(name, f"Bearer {token}", "forged") for name, token in forged.items()])

    async def test_hides_both_teams_from_a_platform_admin(self, matrix: Matrix):
        await matrix.outsiders()
        await matrix.grace.renew()
        await matrix.judge([Caller("platform admin", bearer(matrix.grace), "person", matrix.grace.id, {}, True)])

    async def test_is_for_the_owner(self, matrix: Matrix):
        ada = matrix.ada
        await ada.person.renew()
        await matrix.judge([Caller("owner (founder)", bearer(ada.person), "person", ada.owner, {ada.team: Role.OWNER})])

    @pytest.mark.parametrize("role", [None, *Role])
    async def test_goes_by_the_role(self, matrix: Matrix, role: Role | None):
        callers = await matrix.bob_with(role)
        before = await matrix.ada.at_rest()
        await matrix.judge(callers)
        if role in (None, Role.VIEWER):
            assert await matrix.ada.snapshot() == before

    async def test_takes_the_token_of_its_own_run_only(self, matrix: Matrix):
        callers = [
            Caller(f"token of {place.team}'s {'live' if run == place.live_run else 'finished'} run",
                   f"Bearer {token}", "run", run=run, alive=run == place.live_run)
            for place in matrix.places
            for run, token in place.run_tokens.items()
        ]  # fmt: skip
        over, live = [c for c in callers if not c.alive], [c for c in callers if c.alive]
        await matrix.refusals(over)
        for place in matrix.places:  # those who may have stopped all agents of their team
            await under_way(matrix.cloud, place.workspace["id"], place.names["run_id"], place.live_run)
        await matrix.judge(live)

    async def test_takes_a_model_key_for_models_only(self, matrix: Matrix):
        await matrix.judge(Caller(f"key of {place.team}", f"Bearer {place.key}", "key") for place in matrix.places)

    async def test_does_nothing_for_a_run_that_is_over(self, matrix: Matrix):
        """What was left of the run's money stays unspent, whoever kept the token."""
        ada = matrix.ada
        before, run = await ada.at_rest(), ada.names["run_id"]
        headers = {"authorization": f"Bearer {ada.run_tokens[run]}"}
        for operation, rule in OPERATIONS.items():
            if rule.kind in ("run", "model"):
                method, path = operation.split(" ")
                answer = await matrix.http.request(method, path.format(**ada.names), json=rule.body, headers=headers)
                if operation.endswith("/events"):
                    assert answer.json() == {"stop": True, "comments": []}
                elif operation.endswith("/complete"):
                    assert answer.json()["status"] == "succeeded"
                else:
                    assert answer.status_code == (409 if rule.kind == "run" else 401), operation
        assert await ada.snapshot() == before

    async def test_is_judged_in_thousands_of_cases(self, matrix: Matrix, capsys: pytest.CaptureFixture[str]):
        with capsys.disabled():
            print(f"\npermissions: {len(OPERATIONS)} operations, {matrix.cases} cases")
        assert matrix.cases > 40 * len(OPERATIONS)


class TestStranger:
    async def test_is_shown_their_own_things_only(self, matrix: Matrix):
        await matrix.outsiders()
        for operation, rule in OPERATIONS.items():
            if rule.kind == "signed in" and operation.startswith("GET") and "{" not in operation:
                shown = json.dumps(await matrix.bob.person.get(operation.split(" ")[1]))
                assert not [text for text in matrix.ada.hidden[1:] if text in shown], operation

    async def test_gets_nothing_of_others_into_their_own_team(self, matrix: Matrix):
        await matrix.outsiders()
        ada, bob = matrix.ada, matrix.bob
        person, team, board = bob.person, f"/api/teams/{bob.team}", f"/api/boards/{bob.names['board_id']}"
        card = f"/api/cards/{(await make_card(person, bob.names['board_id'], 'Mine'))['id']}"
        before, theirs = await ada.at_rest(), ada.names
        for method, path, body, status in (
            ("PATCH", f"{team}/members/{theirs['user_id']}", {"role": "viewer"}, 404),
            ("DELETE", f"{team}/members/{theirs['user_id']}", None, 404),
            ("DELETE", f"{team}/invitations/{theirs['invitation_id']}", None, 404),
            ("PATCH", f"{board}/columns/{theirs['column_id']}", {"name": "Mine"}, 404),
            ("DELETE", f"{board}/columns/{theirs['column_id']}", None, 404),
            ("POST", f"{board}/cards", {"title": "x", "column_id": theirs["column_id"]}, 404),
            ("POST", f"{card}/move", {"column_id": theirs["column_id"]}, 404),
            ("PATCH", card, {"assignee_id": theirs["user_id"]}, 422),
            ("POST", f"{board}/cards", {"title": "x", "assignee_id": theirs["user_id"]}, 422),
        ):
            assert (await person.refused(method, path, body))["status"] == status, path
        moved = await person.post(f"{card}/move", {"column_id": "ready", "before_id": theirs["card_id"]})
        assert MARK not in str(moved)
        assert await ada.snapshot() == before

    async def test_is_not_given_another_persons_answer_for_the_same_key(self, matrix: Matrix):
        await matrix.outsiders()
        path, key = f"/api/boards/{matrix.ada.names['board_id']}/cards", {"idempotency-key": "the-same"}
        await matrix.ada.person.post(path, {"title": MARK}, **key)
        assert (await matrix.bob.person.refused("POST", path, {"title": MARK}, **key))["status"] == 404


# -- live events ------------------------------------------------------------------------------------


def claims_of(url: str) -> Json:
    return jwt.decode(url.rpartition("access_token=")[2], options={"verify_signature": False})


class TestGroup:
    async def test_is_joined_by_those_it_is_for(self, matrix: Matrix):
        await matrix.outsiders()
        for person in (matrix.ada.person, matrix.bob.person, matrix.grace):
            connection = await person.get("/api/realtime/negotiate")
            teams = [f"team.{team['id']}" for team in (await person.get("/api/teams"))["items"]]
            assert connection["groups"] == [f"user.{person.id}", *teams]
            claims = claims_of(connection["url"])
            assert claims["webpubsub.group"] == connection["groups"]
            assert claims["sub"] == person.id
            assert not claims.get("role")

    async def test_is_of_a_kind_that_is_known(self, matrix: Matrix):
        """A kind of group that nobody judged fails here."""
        async with matrix.ada.person.watching(), matrix.bob.person.watching(), matrix.grace.watching():
            redis: Any = Redis.from_url(matrix.cloud.valkey.url, decode_responses=True)
            found = [key.rpartition(":g:")[2] async for key in redis.scan_iter("wps:h:*:g:*")]
            await redis.aclose()
        assert {f"team.{matrix.ada.team}", f"user.{matrix.bob.owner}"} <= set(found)
        assert {group.partition(".")[0] for group in found} == GROUPS.keys()

    @pytest.mark.parametrize("protocol", [RELIABLE, PLAIN])
    async def test_takes_nothing_from_clients(self, matrix: Matrix, protocol: str):
        await matrix.outsiders()
        url = (await matrix.bob.person.get("/api/realtime/negotiate"))["url"]
        own, foreign = f"team.{matrix.bob.team}", f"team.{matrix.ada.team}"
        async with PubSubClient(url, protocol) as socket:
            for group in (own, foreign, f"user.{matrix.ada.owner}", f"user.{matrix.bob.owner}", "team.*", "any"):
                for kind in ("joinGroup", "leaveGroup", "sendToGroup"):
                    answer = await socket.ask(kind, group=group, dataType="json", data={"forged": True})
                    assert (answer["success"], answer["error"]["name"]) == (False, "Forbidden"), (kind, group)
            assert not (await socket.ask("event", event="any", dataType="json", data={}))["success"]

    async def test_is_not_joined_by_a_changed_address(self, matrix: Matrix):
        await matrix.outsiders()
        url = (await matrix.bob.person.get("/api/realtime/negotiate"))["url"]
        address, _, token = url.rpartition("access_token=")
        forged = claims_of(url) | {"webpubsub.group": [f"team.{matrix.ada.team}"], "role": ["webpubsub.sendToGroup"]}
        payload = base64.urlsafe_b64encode(orjson.dumps(forged)).decode().rstrip("=")
        head, _, signature = token.split(".")
        unsigned = base64.urlsafe_b64encode(b'{"alg": "none"}').decode().rstrip("=")
        for changed in (f"{head}.{payload}.{signature}", f"{unsigned}.{payload}.", jwt.encode(forged, "x", "HS256")):
            with pytest.raises(InvalidStatus) as refused:
                await PubSubClient(f"{address}access_token={changed}").start(f"{address}access_token={changed}")
            assert refused.value.response.status_code == 401

    async def test_is_not_sent_to_without_the_services_key(self, matrix: Matrix):
        url = (await matrix.ada.person.get("/api/realtime/negotiate"))["url"]
        client_token = url.rpartition("access_token=")[2]
        send = f"{matrix.cloud.realtime_url}/api/hubs/kanban/groups/team.{matrix.ada.team}/:send"
        async with matrix.ada.person.watching() as socket:
            for token in (None, client_token, matrix.ada.person.session["access_token"]):
                headers = {"authorization": f"Bearer {token}"} if token else {}
                answer = await matrix.http.post(send, params={"api-version": "2024-12-01"}, json={}, headers=headers)
                assert answer.status_code == 401
            card = await make_card(matrix.ada.person, matrix.ada.names["board_id"], "Real")
            (first,) = await socket.received(1)
            assert first["data"]["card"]["id"] == card["id"]

    async def test_shows_strangers_nothing(self, matrix: Matrix):
        await matrix.outsiders()
        ada, bob = matrix.ada, matrix.bob
        async with ada.person.watching() as hers, bob.person.watching() as his, matrix.grace.watching() as graces:
            card = await make_card(ada.person, ada.names["board_id"], MARK)
            await ada.person.post(f"/api/cards/{card['id']}/comments", {"body": MARK})
            await ada.person.post(f"/api/boards/{ada.names['board_id']}/columns", {"name": MARK})
            await hers.received(3)
            own = await make_card(bob.person, bob.names["board_id"], "Own")
            seen = await his.received(1)
            assert [event["data"]["card"]["id"] for event in seen] == [own["id"]]
            assert len(his.messages) == 1
            assert graces.messages == []


# -- blobs ------------------------------------------------------------------------------------------


class TestBlob:
    async def test_is_of_a_kind_that_is_known(self, matrix: Matrix):
        """A kind of blob that nobody judged fails here."""
        found = await _blobs(matrix.cloud)
        kinds = {kind for kind in BLOBS for name in found if re.fullmatch(kind, name)}
        assert kinds == BLOBS.keys()
        assert [name for name in found if not any(re.fullmatch(kind, name) for kind in BLOBS)] == []
        assert {operation for operation in BLOBS.values() if operation} <= OPERATIONS.keys()

    async def test_is_not_reached_by_a_path_of_ones_own(self, matrix: Matrix):
        await matrix.outsiders()
        mine, theirs = matrix.bob.names["run_id"], matrix.ada.names["run_id"]
        for name in (
            *(theirs, f"{mine}%2F..%2F{theirs}", f"{mine}/../{theirs}", f"..%2Fruns%2F{theirs}", f"{theirs}%00"),
            *(f"{mine}%5C..%5C{theirs}", "%2e%2e", f".%2F{theirs}", f"{mine}%0A", f"%252e%252e%252f{theirs}"),
            *("run_" + "x" * 5_000, f"{theirs.upper()}", f"run__{theirs}", "run_%C3%A9_1", "%FF%FE"),
        ):
            answer = await matrix.bob.person.request("GET", f"/api/runs/{name}/diff")
            assert answer.status_code == 404, name
            assert MARK not in answer.text

    async def test_and_queue_and_table_are_closed_to_strangers(self, matrix: Matrix):
        ports = matrix.cloud.ports
        for address in (
            f"http://127.0.0.1:{ports.blobs}/devstoreaccount1/blobs/runs/{matrix.ada.names['run_id']}/diff.json",
            f"http://127.0.0.1:{ports.blobs}/devstoreaccount1/blobs?restype=container&comp=list",
            *(f"http://127.0.0.1:{ports.queues}/devstoreaccount1/{queue}/messages" for queue in QUEUES),
            f"http://127.0.0.1:{ports.tables}/devstoreaccount1/documents()",
        ):
            answer = await matrix.http.get(address)
            assert answer.status_code in (401, 403, 404), address
            assert MARK not in answer.text


async def _blobs(cloud: LocalCloud) -> list[str]:
    if cloud.settings["STORE"] == "tinydb":
        root = cloud.data / "blobs"
        return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    async with ContainerClient.from_connection_string(cloud.azurite.connection_string, "blobs") as container:
        return [blob.name async for blob in container.list_blobs()]


# -- queues -----------------------------------------------------------------------------------------


async def moved(place: Place) -> Json:
    """The event of the move that started this team's run."""
    events = await events_of(place.person, f"boards/{place.names['board_id']}")
    return next(event for event in events if event["type"] == "card.moved" and event["data"]["from_column"])


def _with(event: Json, **data: Any) -> Json:
    """A new event, so that nothing knows it by its id."""
    fresh = {name: value for name, value in event.items() if name != "sequence"} | {"id": ids.sortable()}
    return fresh | {"data": event["data"] | data}


async def foreign_messages(queue: str, mine: Place, theirs: Place, api_url: str) -> list[Json]:
    """Whatever mixes `mine` with `theirs` in a message of this queue. A queue without such messages fails."""
    event, of_mine, of_theirs = await moved(theirs), mine.names, theirs.names
    their_card_here = _with(event, team_id=mine.team, board_id=of_mine["board_id"])
    match queue:
        case "provisioning":
            return [{"version": 1, "task_id": of_theirs["task_id"], "epoch": 1, "team_id": mine.team}]
        case "agent-runs":
            other_team = {"version": 1, "run_id": theirs.live_run, "epoch": 1, "team_id": mine.team}
            lost = {"version": 1, "reason": "x", "undelivered": their_card_here}
            return [other_team, lost]
        case "webhooks":
            url = f"{api_url}/api/agents/{of_mine['agent_id']}/webhook"
            secret = deliveries.secret_name(mine.workspace["id"])
            message = {"version": 1, "url": url, "secret_name": secret}
            return [message | {"event": their_card_here}, message | {"event": _with(event)}]
        case "usage":
            used = {"id": ids.sortable(), "team_id": theirs.team, "run_id": None, "card_id": None, "sandbox_id": None}
            used |= {"key_id": f"key_{theirs.team}_0123456789abcdef", "model": "demo-1", "cost_micro_usd": 10**9}
            used |= {f"{kind}_tokens": 10**6 for kind in ("input", "output", "cache_read", "cache_write")}
            used |= {"charged_micro_usd": 10**9, "estimated": False}
            used |= {"time": iso(SystemClock().now()), "duration_ms": 1, "first_byte_ms": 1, "status": 200}
            key = {"key_id": f"key_{mine.team}_0123456789abcdef"}
            mixed = [used | key, used | {"run_id": mine.live_run}, used | {"card_id": of_mine["card_id"]}]
            return [{"version": 1, "records": [record]} for record in mixed]
        case _:
            raise AssertionError(f"say what a message on {queue!r} could mix of two teams")


class TestQueue:
    @pytest.mark.parametrize("queue", QUEUES)
    async def test_takes_no_message_that_mixes_two_teams(self, matrix: Matrix, queue: str):
        await matrix.outsiders()
        before = [await place.at_rest() for place in matrix.places]
        known = len(await incidents(matrix.grace, queue))
        messages = await foreign_messages(queue, matrix.bob, matrix.ada, matrix.cloud.api_url)
        messages += await foreign_messages(queue, matrix.ada, matrix.bob, matrix.cloud.api_url)
        async with Queues.of(matrix.cloud) as queues:
            await queues.send(queue, *messages)

            async def refused() -> bool:
                return len(await incidents(matrix.grace, queue)) == known + len(messages)

            await until(refused, within=60, every=0.3)
            await queues.emptied(f"{queue}-poison")
        assert [await place.snapshot() for place in matrix.places] == before
