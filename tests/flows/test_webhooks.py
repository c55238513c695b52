"""The webhook that starts agents: signed, fresh, once per move."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest

from local.cloud import LocalCloud
from shared.adapters.file_secrets import FileSecrets
from shared.adapters.standard_webhooks import StandardWebhooks
from tests.flows.world import (
    Json,
    Person,
    board_of,
    events_of,
    finished_run,
    make_card,
    make_workspace,
    move,
    problem,
    runs_of,
    started_run,
    stored,
)


class Hook:
    """The webhook of a workspace's agent, and what signs for it."""

    def __init__(self, person: Person, agent_id: str, secret: str) -> None:
        self.person, self.agent_id, self.secret = person, agent_id, secret

    def signed(self, body: bytes, moment: datetime | None = None, secret: str | None = None) -> dict[str, str]:
        moment = moment or datetime.now(UTC)
        return StandardWebhooks().headers(secret or self.secret, f"msg-{time.time_ns()}", moment, body)

    async def send(self, body: bytes, headers: dict[str, str], agent_id: str | None = None) -> httpx.Response:
        path = f"/api/agents/{agent_id or self.agent_id}/webhook"
        return await self.person.request(
            "POST", path, content=body, headers={**headers, "content-type": "application/json"}
        )


@pytest.fixture(scope="module")
async def place(ada: Person) -> Json:
    return await make_workspace(ada, "Hooked")


@pytest.fixture(scope="module")
async def hook(ada: Person, place: Json, cloud: LocalCloud) -> Hook:
    agent_id = (await board_of(ada, place["board_id"]))["agents"]["agent_id"]
    async with stored(cloud) as documents:
        agent = await documents.get(f"portal/agent/{agent_id}", "agent")
    assert agent is not None
    secret = await FileSecrets(cloud.data).get(agent.body["secret_name"])
    assert secret is not None
    return Hook(ada, agent_id, secret)


@pytest.fixture(scope="module")
async def moved(ada: Person, place: Json) -> tuple[Json, Json]:
    """The event of a move, and the run that it started, which is over."""
    card = await make_card(ada, place["board_id"], "Moved", "This card says nothing to do.")
    await move(ada, card["id"], "progress")
    run = await finished_run(ada, (await started_run(ada, card["id"]))["id"])
    events = await events_of(ada, f"boards/{place['board_id']}")
    event = next(e for e in events if e["type"] == "card.moved" and e["data"]["card"]["id"] == card["id"])
    return event, run


class TestWebhook:
    async def test_of_a_move_that_was_heard_gives_the_same_run(self, hook: Hook, moved: tuple[Json, Json]):
        event, run = moved
        body = orjson.dumps(event)
        for _ in range(3):
            answer = await hook.send(body, hook.signed(body))
            assert answer.status_code == 202
            assert answer.json()["run_id"] == run["id"]
        assert len(await runs_of(hook.person, run["card_id"])) == 1
        assert (await hook.person.get(f"/api/runs/{run['id']}"))["status"] == run["status"]

    async def test_with_a_forged_signature_is_refused(self, hook: Hook, moved: tuple[Json, Json]):
        body = orjson.dumps(moved[0])
        other = "whsec_" + "QUJD" * 8
        assert problem(await hook.send(body, hook.signed(body, secret=other)))["status"] == 401

    async def test_with_a_changed_body_is_refused(self, hook: Hook, moved: tuple[Json, Json]):
        body = orjson.dumps(moved[0])
        assert problem(await hook.send(body + b" ", hook.signed(body)))["status"] == 401

    @pytest.mark.parametrize("minutes", [-6, 6, -60 * 24])
    async def test_from_another_time_is_refused(self, hook: Hook, moved: tuple[Json, Json], minutes: int):
        body = orjson.dumps(moved[0])
        headers = hook.signed(body, datetime.now(UTC) + timedelta(minutes=minutes))
        assert problem(await hook.send(body, headers))["status"] == 401

    @pytest.mark.parametrize(
        "changed",
        [
            {"webhook-signature": ""},
            {"webhook-signature": "v1,"},
            {"webhook-signature": "v1,@@@"},
            {"webhook-signature": "nonsense"},
            {"webhook-timestamp": "soon"},
            {"webhook-timestamp": ""},
            {"webhook-id": ""},
            {"webhook-id": "another"},
        ],
    )
    async def test_with_broken_headers_is_refused(self, hook: Hook, moved: tuple[Json, Json], changed: dict[str, str]):
        body = orjson.dumps(moved[0])
        assert problem(await hook.send(body, hook.signed(body) | changed))["status"] == 401

    async def test_without_headers_is_refused(self, hook: Hook):
        assert problem(await hook.send(b"{}", {}))["status"] == 401

    async def test_of_garbage_without_a_signature_is_401(self, hook: Hook):
        for body in (b"", b"\xff\x00", b"{", b"x" * 100_000):
            answer = await hook.send(
                body, {"webhook-id": "1", "webhook-timestamp": "1", "webhook-signature": "v1,eA=="}
            )
            assert problem(answer)["status"] in (400, 401), body[:10]

    @pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"null", b"7", b'"x"', b"{}", b'{"type": "card.moved"}'])
    async def test_of_signed_garbage_is_400(self, hook: Hook, body: bytes):
        assert problem(await hook.send(body, hook.signed(body)))["status"] == 400

    async def test_of_a_signed_body_that_is_no_text_is_400(self, hook: Hook):
        import base64
        import hashlib
        import hmac

        stamp = str(int(time.time()))
        key = base64.b64decode(hook.secret.removeprefix("whsec_"))
        mac = hmac.new(key, b"m1." + stamp.encode() + b".\xff\xfe", hashlib.sha256).digest()
        headers = {
            "webhook-id": "m1",
            "webhook-timestamp": stamp,
            "webhook-signature": "v1," + base64.b64encode(mac).decode(),
        }
        assert problem(await hook.send(b"\xff\xfe", headers))["status"] in (400, 401)

    @pytest.mark.parametrize("agent_id", ["unknown", "agent_w0000000000_default", "%2e%2e", "a" * 300])
    async def test_for_an_unknown_agent_is_401(self, hook: Hook, moved: tuple[Json, Json], agent_id: str):
        body = orjson.dumps(moved[0])
        assert problem(await hook.send(body, hook.signed(body), agent_id))["status"] == 401

    async def test_for_another_agent_is_401(self, hook: Hook, workspace: Json, moved: tuple[Json, Json]):
        other = (await board_of(hook.person, workspace["board_id"]))["agents"]["agent_id"]
        body = orjson.dumps(moved[0])
        assert problem(await hook.send(body, hook.signed(body), other))["status"] == 401

    @pytest.mark.parametrize("change", ["board", "type", "column", "card"])
    async def test_of_what_starts_nothing_says_why(self, hook: Hook, moved: tuple[Json, Json], change: str):
        event: Json = orjson.loads(orjson.dumps(moved[0])) | {"id": f"other-{change}"}
        data: dict[str, Any] = event["data"]
        match change:
            case "board":
                data["board_id"] = "board_w0000000000"
            case "type":
                event["type"] = "card.updated"
            case "column":
                data["card"]["column_id"] = "ready"
            case _:
                data["card"]["id"] = data["card"]["id"][:-4] + "0000"
        body = orjson.dumps(event)
        answer = await hook.send(body, hook.signed(body))
        assert answer.status_code == 202
        assert answer.json()["run_id"] is None
        assert answer.json()["reason"]
