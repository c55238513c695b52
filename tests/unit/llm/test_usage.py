import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from shared.core import usage
from shared.core.errors import Exists, Invalid, Stale
from shared.core.ports import Doc, Op, Put
from shared.core.resources import Usage
from shared.llm.service import UsageRecorder
from tests.fakes.documents import FakeDocuments
from tests.fakes.upstream import FakeUpstream
from tests.unit.llm.world import CARD, RUN, TEAM, World, scripted


def used(id: str = "0001", **changes: Any) -> dict[str, Any]:
    return {
        "id": id,
        "team_id": TEAM,
        "run_id": RUN,
        "card_id": CARD,
        "sandbox_id": None,
        "key_id": f"key_{TEAM}_0123456789abcdef",
        "model": "demo-1",
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_read_tokens": 3,
        "cache_write_tokens": 4,
        "cost_micro_usd": 1_500,
        "charged_micro_usd": 1_600,
        "estimated": False,
        "time": "2026-01-01T00:00:00.000Z",
        "duration_ms": 5,
        "first_byte_ms": 1,
        "status": 200,
    } | changes


def message(*records: dict[str, Any], version: int | None = 1) -> dict[str, Any]:
    return {"version": version, "records": list(records)}


class Interleaved(FakeDocuments):
    """As a store that takes its time."""

    refused = 0

    async def get(self, partition: str, id: str) -> Doc | None:
        await asyncio.sleep(0)
        return await super().get(partition, id)

    async def commit(self, partition: str, ops: Sequence[Op]) -> dict[str, str]:
        await asyncio.sleep(0)
        try:
            return await super().commit(partition, ops)
        except (Exists, Stale):
            self.refused += 1
            raise


_NAMES = {"e": "estimate", "t": "truth"}


async def kept(world: World) -> dict[str, Any]:
    """Everything that is known of the team's usage."""
    return {doc.id: doc.body for doc in await world.documents.query(usage.partition(TEAM)) if "outbox" not in doc.id}


@pytest.fixture
def world() -> World:
    return scripted()[0]


class TestRecord:
    async def test_run_card_day_and_team_add_up(self, world: World):
        await world.recorder.record(message(used("0001")))
        await world.recorder.record(message(used("0002", run_id=f"run_{TEAM}_0002")))
        await world.recorder.record(message(used("0003", run_id=None, card_id=None, time="2026-01-01T23:59:59.999Z")))
        one = Usage(
            input_tokens=1, output_tokens=2, cache_read_tokens=3, cache_write_tokens=4, requests=1, cost_usd=0.0015
        )
        assert await usage.run_usage(world.documents, TEAM, RUN) == one
        assert (await usage.card_usage(world.documents, TEAM, CARD)).requests == 2
        assert (await usage.team_usage(world.documents, TEAM)).cost_usd == 0.0045
        assert [day.date for day in await usage.usage_by_day(world.documents, TEAM)] == ["2026-01-01"]
        by_run = await usage.usage_by_run(world.documents, TEAM)
        assert [(run.run_id, run.card_id) for run in by_run] == [(f"run_{TEAM}_0002", CARD), (RUN, CARD)]

    async def test_nothing_used_yet_reads_as_zeros(self, world: World):
        assert await usage.run_usage(world.documents, TEAM, RUN) == Usage()

    async def test_a_message_that_comes_twice_counts_once(self, world: World):
        await world.recorder.record(message(used()))
        await world.recorder.record(message(used()))
        assert (await usage.team_usage(world.documents, TEAM)).requests == 1
        assert len(await world.events.read(f"run/{RUN}")) == 1

    @pytest.mark.parametrize(
        "order", ["et", "te", "eett", "tete", "etet"], ids=lambda order: "-".join(_NAMES[each] for each in order)
    )
    @pytest.mark.parametrize("together", ["one message", "messages", "at once"])
    async def test_the_truth_takes_the_place_of_an_estimate_once(self, world: World, order: str, together: str):
        estimate = used("0002", model="demo-2", output_tokens=500, charged_micro_usd=9_000, status=0, estimated=True)
        told = {"e": estimate, "t": used("0002", charged_micro_usd=1_600)}
        await world.recorder.record(message(used("0001"), used("0003", time="2026-01-02T00:00:00.000Z")))
        records = [told[each] for each in order]
        messages = [message(*records)] if together == "one message" else [message(record) for record in records]
        if together == "at once":
            await asyncio.gather(*(UsageRecorder(world.store).record(each) for each in messages))
        for each in messages:
            await world.recorder.record(each)
        right = scripted()[0]
        await right.recorder.record(message(used("0001"), used("0003", time="2026-01-02T00:00:00.000Z")))
        await right.recorder.record(message(told["t"]))
        assert await kept(world) == await kept(right)
        last = (await world.events.read(f"run/{RUN}"))[-1]
        assert last["data"]["usage"] == (await usage.run_usage(right.documents, TEAM, RUN)).model_dump()

    async def test_a_failed_call_that_was_estimated_costs_nothing(self, world: World):
        await world.recorder.record(message(used("0001", estimated=True, status=0, cost_micro_usd=None)))
        assert (await usage.team_usage(world.documents, TEAM)).unpriced_requests == 1
        nothing = dict.fromkeys(("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"), 0)
        await world.recorder.record(message(used("0001", status=529, cost_micro_usd=0, charged_micro_usd=0, **nothing)))
        assert await usage.team_usage(world.documents, TEAM) == Usage(failed_requests=1)
        charged = await usage.spent(world.documents, TEAM, f"run/{RUN}")
        assert charged == {"total": 0, "2026-01-01": 0, "2026-01": 0}

    @pytest.mark.parametrize("processes", [1, 8])
    async def test_messages_at_the_same_time_all_count(self, processes: int):
        documents = Interleaved()
        world = World(FakeUpstream([]), documents=documents)
        recorders = [UsageRecorder(world.store) for _ in range(processes)] * (8 // processes)
        sent = [message(used(f"{n:04d}")) for n in range(8)]
        await asyncio.gather(*(recorder.record(each) for recorder, each in zip(recorders, sent, strict=True)))
        assert (await usage.team_usage(world.documents, TEAM)).requests == 8
        assert (documents.refused == 0) == (processes == 1), "one process does not get in its own way"

    async def test_the_run_tells_its_totals(self, world: World):
        await world.recorder.record(message(used("0001")))
        await world.recorder.record(message(used("0002")))
        events = await world.events.read(f"run/{RUN}")
        assert [(e["type"], e["data"]["usage"]["output_tokens"]) for e in events] == [
            ("usage.recorded", 2),
            ("usage.recorded", 4),
        ]
        assert [group for group, _ in world.realtime.published] == [f"team.{TEAM}"] * 2

    @pytest.mark.parametrize(
        "changes",
        [
            {"input_tokens": None},
            {"input_tokens": -1},
            {"input_tokens": 2**60},
            {"input_tokens": 1.5},
            {"output_tokens": "1"},
            {"status": True},
            {"more": 1},
            {"team_id": 5},
            {"team_id": "../t"},
            {"id": "a/b"},
            {"id": ""},
            {"time": "yesterday"},
            {"time": "2026-01-01"},
            {"time": "2026-01-01T00:00:00.000"},
            {"time": "20260101T000000.000Z"},
            {"run_id": "run_../../x"},
            {"model": "m" * 10_000},
            {"cost_micro_usd": -1},
            {"charged_micro_usd": None},
        ],
    )
    async def test_an_unknown_shape_is_an_error(self, world: World, changes: dict[str, Any]):
        with pytest.raises(Invalid):
            await world.recorder.record(message(used(**changes)))
        assert (await usage.team_usage(world.documents, TEAM)).requests == 0

    @pytest.mark.parametrize(
        "body", [message(used(), version=2), message(used(), version=None), message(), {"version": 1}]
    )
    async def test_an_unknown_message_is_an_error(self, world: World, body: dict[str, Any]):
        with pytest.raises(Invalid):
            await world.recorder.record(body)

    @pytest.mark.parametrize(
        "changes",
        [
            {"run_id": "run_t9999999999_0001"},
            {"card_id": "card_w9999999999_0001"},
            {"key_id": "key_t9999999999_0123456789abcdef"},
            {"team_id": "t9999999999", "key_id": "key_t9999999999_0123456789abcdef"},
        ],
    )
    async def test_what_another_team_used_is_not_counted(self, world: World, changes: dict[str, Any]):
        await world.documents.commit("portal/team/t9999999999", [Put("team", {"scope": "w9999999999"})])
        with pytest.raises(Invalid):
            await world.recorder.record(message(used(**changes)))
        for team in (TEAM, "t9999999999"):
            assert (await usage.team_usage(world.documents, team)).requests == 0
        assert await world.events.read("run/run_t9999999999_0001") == []

    async def test_what_a_team_used_that_is_gone_is_dropped(self, world: World):
        gone = {"team_id": "t8888888888", "key_id": "key_t8888888888_0123456789abcdef", "run_id": None, "card_id": None}
        await world.recorder.record(message(used(**gone)))
        assert await world.documents.query("usage/t8888888888") == []

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"time": "2025-12-01T00:00:00.000Z"}, "days old"),
            ({"run_id": "run_t9999999999_0001"}, "not of their team"),
            ({"charged_micro_usd": 2**60}, "charged_micro_usd"),
            ({"team_id": "t7777777777", "key_id": "key_t7777777777_01", "time": "2025-12-01T00:00:00.000Z"}, "days"),
        ],
    )
    async def test_one_that_is_not_valid_keeps_no_other_from_being_counted(
        self, world: World, changes: dict[str, Any], why: str
    ):
        other = {"team_id": "t9999999999", "key_id": "key_t9999999999_01", "run_id": None, "card_id": None}
        for team in ("t9999999999", "t7777777777"):
            await world.documents.commit(f"portal/team/{team}", [Put("team", {"scope": team})])
        with pytest.raises(Invalid, match=why) as refusal:
            await world.recorder.record(message(used("0001"), used("0002", **changes), used("0003", **other)))
        assert (await usage.team_usage(world.documents, TEAM)).requests == 1
        assert (await usage.team_usage(world.documents, "t9999999999")).requests == 1
        assert [name in refusal.value.detail for name in ("0001", "0002", "0003")] == [False, True, False]

    async def test_what_is_no_record_at_all_keeps_no_other_from_being_counted(self, world: World):
        with pytest.raises(Invalid):
            await world.recorder.record({"version": 1, "records": [5, used("0001"), {}]})
        assert (await usage.team_usage(world.documents, TEAM)).requests == 1

    async def test_ids_are_forgotten_after_a_week_and_older_messages_refused(self, world: World):
        await world.recorder.record(message(used("0001")))
        world.clock.advance(8 * 24 * 3600)
        await world.recorder.record(message(used("0002", time="2026-01-09T00:00:00.000Z")))
        assert [doc.id for doc in await world.documents.query(f"usage/{TEAM}", "record/")] == ["record/0002"]
        with pytest.raises(Invalid, match="days old"):
            await world.recorder.record(message(used("0001")))
        assert (await usage.team_usage(world.documents, TEAM)).requests == 2
