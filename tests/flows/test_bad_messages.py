"""Messages that nobody should have sent: each is an incident within a minute, and none is tried for ever."""

import base64
import time
from collections.abc import AsyncGenerator

import orjson
import pytest
from azure.core.exceptions import HttpResponseError

from functions.queues import QUEUES
from local.cloud import LocalCloud
from tests.flows.queues import Queues, incidents
from tests.flows.world import Json, Person
from tests.waiting import until

LARGEST = 48 * 1024
WITHIN = 60
"""Seconds until an incident shows."""

NO_JSON: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"not JSON",
    "half of JSON": b'{"version": 1, "task_id"',
    "no object": b"[1, 2]",
    "a number": b"1",
    "null": b"null",
    "no UTF-8": b'{"version": "\xff\xfe"}',
    "half a character": b'{"version": "\\ud800"}',
    "not a number": b'{"version": NaN}',
    "no end of numbers": b'{"version": -Infinity}',
    "a number out of range": b'{"version": 1e999}',
    "nested without end": b'{"version": ' + b"[" * 20_000,
    "nested deeper than it can be kept": b'{"version": ' + b"[" * 300 + b"]" * 300 + b"}",
    "the largest that fits": b"x" * LARGEST,
    "the largest, of what must be escaped": b"\x01" * LARGEST,
}
NO_MESSAGE: dict[str, Json] = {
    "no fields": {},
    "another version": {"version": 99},
    "no version": {"task_id": "01jd3x5w9k8z7y6x5w4v", "run_id": "run_w0123456789_1", "epoch": 1},
    "a version of another type": {"version": "1"},
    "true for a version": {"version": True},
    "a number beyond all others": {"version": 10**18, "epoch": 2**63},
    "the version alone": {"version": 1},
    "ids of another type": {"version": 1, "task_id": 5, "run_id": ["x"], "epoch": {}},
    "ids that are paths": {"version": 1, "task_id": "../../portal", "run_id": "run_../../x_1", "epoch": 1},
    "control characters": {"version": 1, "task_id": "a\x00b\r\n", "run_id": "\x1b[31m", "epoch": 1},
    "text without end": {"version": 1, "task_id": "x" * 40_000, "run_id": "y", "epoch": 1},
    "an event that is none": {"version": 1, "undelivered": {"type": "card.moved"}, "reason": "x"},
    "an event of no kind": {"version": 1, "url": "http://localhost", "secret_name": "webhook-w0123456789", "event": {}},
}


@pytest.fixture(scope="module")
async def queues(cloud: LocalCloud) -> AsyncGenerator[Queues]:
    async with Queues.of(cloud) as client:
        yield client


class TestBadMessage:
    @pytest.mark.parametrize("queue", QUEUES)
    async def test_is_an_incident_within_a_minute_and_gone_from_its_queue(
        self, grace: Person, queues: Queues, queue: str
    ):
        before = len(await incidents(grace, queue))
        began = time.monotonic()
        await queues.send_text(queue, "this is not base64!")
        for content in NO_JSON.values():
            await queues.send_bytes(queue, content)
        await queues.send(queue, *NO_MESSAGE.values())
        sent = 1 + len(NO_JSON) + len(NO_MESSAGE)

        async def all_there() -> list[Json] | None:
            found = await incidents(grace, queue)
            assert len(found) <= before + sent
            return found[before:] if len(found) == before + sent else None

        found = await until(all_there, within=WITHIN - (time.monotonic() - began), every=0.5)
        assert time.monotonic() - began < WITHIN
        await queues.emptied(queue)
        await queues.emptied(f"{queue}-poison")
        assert all(queue in item["reason"] for item in found)
        bodies = [item["body"] for item in found]
        for name, body in NO_MESSAGE.items():
            assert any(orjson.dumps(body) == orjson.dumps(kept) for kept in bodies), name
        raw = [body["raw"] for body in bodies if body.keys() == {"raw"}]
        assert len(raw) == 1 + len(NO_JSON)
        assert {"this is not base64!", "not JSON", "[1, 2]", '{"version": NaN}'} <= set(raw)
        assert max(map(len, raw)) <= 8_000

    async def test_too_large_for_a_queue_is_refused_by_the_queue(self, queues: Queues):
        with pytest.raises(HttpResponseError) as refused:
            await queues.send_text("provisioning", base64.b64encode(b"x" * (LARGEST + 1)).decode())
        assert refused.value.status_code == 413

    async def test_is_seen_by_platform_admins_only(self, ada: Person, grace: Person, queues: Queues):
        assert (await ada.refused("GET", "/api/incidents"))["status"] == 404
        await queues.send("usage", {"version": 98})

        async def there() -> Json | None:
            return next((item for item in await incidents(grace, "usage") if item["body"] == {"version": 98}), None)

        incident = await until(there, within=WITHIN, every=0.2)
        assert (await ada.refused("POST", f"/api/incidents/{incident['id']}/replay"))["status"] == 404

    async def test_that_cannot_be_read_cannot_be_sent_again_and_is_dismissed(self, grace: Person, queues: Queues):
        await queues.send_text("usage", "neither base64 nor JSON")

        async def there() -> Json | None:
            found = await incidents(grace, "usage")
            return next((item for item in found if item["body"] == {"raw": "neither base64 nor JSON"}), None)

        incident = await until(there, within=WITHIN, every=0.2)
        path = f"/api/incidents/{incident['id']}"
        refusal = await grace.refused("POST", f"{path}/replay")
        assert (refusal["status"], "Dismiss" in refusal["detail"]) == (409, True)
        await grace.delete(path)
        assert not await there()
        assert (await grace.refused("DELETE", path))["status"] == 404
