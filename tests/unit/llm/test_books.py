"""The books when what they lean on is away, and when a process dies."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import orjson
import pytest

from shared.core import ids, usage
from shared.core.clock import Clock
from shared.core.errors import Invalid, Unavailable
from shared.core.ports import Doc
from shared.llm.bill import Bill
from shared.llm.body import Asked
from shared.llm.books import Books
from shared.llm.ledger import Op, Seed, Settle, Uncountable, Verdict, Withdraw
from shared.llm.models import BROKEN_OFF, Call
from tests.fakes import FakeDocuments, FakeLedger
from tests.fakes.upstream import FakeUpstream
from tests.unit.llm.world import RUN, TEAM, World, scripted

BODY = b'{"model": "claude-sonnet-5-5", "max_tokens": 100}'


async def bill(world: World, max_tokens: int = 100) -> Bill:
    caller = await world.keys.authenticate([("x-api-key", await world.run_token())])
    request = Call("POST", "/v1/messages", "", [], BODY)
    wanted = Asked("claude-sonnet-5-5", streamed=True, max_tokens=max_tokens)
    return Bill(caller, request, wanted, wanted.model, world.clock)


async def answered_bill(world: World) -> Bill:
    """One that is settled, and whose record is sent."""
    answered = await bill(world)
    await world.books.admit(answered)
    world.books.settle(answered)
    await world.books.close()
    return answered


class TestAdmit:
    async def test_what_cannot_be_counted_is_refused_and_those_beside_it_are_let_in(self):
        world, _ = scripted()
        world.fail_open = True
        books = world.another_books()
        bills = [await bill(world), await bill(world, 10**17), await bill(world)]
        first, odd, last = await asyncio.gather(*map(books.admit, bills), return_exceptions=True)
        assert isinstance(odd, Uncountable)
        assert (first, last) == (None, None)
        assert all(each.enforced for each in bills)


class TestRecords:
    async def test_of_long_names_go_in_messages_that_fit(self):
        world, _ = scripted()
        for number in range(130):
            named = await bill(world)
            named.report.model = f"{number:03d}" + "\N{ROCKET}" * 197
            world.books.settle(named)
        recorded = await world.recorded()
        assert [record["model"][:3] for record in recorded] == [f"{number:03d}" for number in range(130)]
        sent = [len(message["records"]) for message in world.queues.bodies("usage")]
        assert max(sent) > 30, "as many as fit"
        for message in world.queues.bodies("usage"):
            await world.recorder.record(message)
        assert (await usage.team_usage(world.documents, TEAM)).requests == 0
        assert (await usage.team_usage(world.documents, TEAM)).failed_requests == 130


class WatchedLedger(FakeLedger):
    """`asked`: what it was asked, reached or not. `error`: what it raises instead. `most`: times before it is away."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.asked: list[list[Op]] = []
        self.error: BaseException | None = None
        self.most: int | None = None

    async def apply(self, ops: Sequence[Op]) -> list[Verdict | Uncountable]:
        self.asked.append(list(ops))
        if self.error:
            raise self.error
        if self.most is not None and len(self.asked) > self.most:
            raise Unavailable("Redis does not answer.")
        return await super().apply(ops)


def watched() -> tuple[World, WatchedLedger, Books]:
    world, _ = scripted()
    world.ledger = ledger = WatchedLedger(world.clock)
    return world, ledger, world.another_books()


async def settled_unheard(world: World, ledger: FakeLedger, books: Books) -> Bill:
    """One that is let in, and whose settlement reaches nobody."""
    unheard = await bill(world)
    ledger.down = False
    await books.admit(unheard)
    unheard.status = BROKEN_OFF
    ledger.down = True
    books.settle(unheard)
    await books.close()
    return unheard


async def told(world: World, ledger: FakeLedger, books: Books) -> None:
    """A ledger that has forgotten everything is back, and hears what it was not told."""
    ledger.down = ledger.silent = False
    ledger.flush()
    await ledger.apply([Seed(subject, {}, {}) for subject in (await bill(world)).hold.subjects])
    await books.admit(await bill(world))
    await books.close()


class TestRedisAway:
    async def test_a_call_that_nobody_was_asked_about_leaves_nothing_to_be_told(self):
        world, ledger, books = watched()
        ledger.down = True
        with pytest.raises(Unavailable):
            await books.admit(await bill(world))
        ledger.down = False
        await books.admit(await bill(world))
        await books.close()
        assert not any(isinstance(op, Withdraw) for ops in ledger.asked for op in ops)

    @pytest.mark.parametrize("leave", [False, True])
    async def test_20_000_refused_calls_push_out_no_settlement(self, leave: bool):
        world, ledger, books = watched()
        settled = await settled_unheard(world, ledger, books)
        ledger.down, ledger.silent = False, True
        refused = await bill(world)
        for _ in range(100):
            tries = [asyncio.create_task(books.admit(refused)) for _ in range(200)]
            await asyncio.sleep(0)
            if leave:
                assert all(each.cancel() for each in tries)
            await asyncio.gather(*tries, return_exceptions=True)
        await books.close()
        await told(world, ledger, books)
        assert ledger.subjects[f"run/{RUN}"].spent["total"] == settled.settlement().used.micro_usd > 0

    async def test_what_is_owed_is_told_in_parts_and_none_of_them_again(self):
        world, ledger, books = watched()
        bills = [await bill(world) for _ in range(500)]
        await asyncio.gather(*(books.admit(each) for each in bills))
        ledger.down = True
        for each in bills:
            books.settle(each)
        await books.close()
        ledger.down, ledger.asked, ledger.most = False, [], 3
        with pytest.raises(Unavailable):
            await books.admit(await bill(world))
        failed, ledger.most = ledger.asked.pop(), None
        await books.admit(await bill(world))
        await books.close()
        assert max(len(ops) for ops in [*ledger.asked, failed]) <= 128
        told = [op.hold.id for ops in ledger.asked for op in ops if isinstance(op, Settle)]
        assert told == [each.id for each in bills]

    @pytest.mark.parametrize("in_parts", [False, True])
    async def test_a_settlement_without_an_answer_counts_once_though_its_record_is_safe(self, in_parts):
        world, ledger, books = watched()
        answered = await bill(world)
        await books.admit(answered)
        ledger.down, ledger.silent = in_parts, True
        answered.status = BROKEN_OFF
        books.settle(answered)
        await books.close()
        if in_parts:  # it was owed, and is told now
            ledger.down = False
            with pytest.raises(Unavailable):
                await books.admit(await bill(world))
        ledger.silent = False
        another = world.another_books()
        for message in world.queues.bodies("usage"):
            await another.record(message)
        await another.close()
        assert answered.id not in ledger.calls
        await books.admit(await bill(world))  # which tells first what nobody answered
        await books.close()
        assert ledger.subjects[f"run/{RUN}"].spent["total"] == answered.settlement().used.micro_usd > 0

    async def test_what_cannot_be_counted_keeps_nothing_else_from_being_told(self):
        world, ledger, books = watched()
        odd = await bill(world)
        await books.admit(odd)
        odd.status = BROKEN_OFF
        odd.report.message({"model": "claude-sonnet-5-5", "usage": {"output_tokens": 10**16}})
        ledger.down = True
        books.settle(odd)
        await books.close()
        settled = await settled_unheard(world, ledger, books)
        await told(world, ledger, books)
        assert ledger.subjects[f"run/{RUN}"].spent["total"] == settled.settlement().used.micro_usd > 0

    @pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
    async def test_what_goes_wrong_on_the_way_pushes_out_no_settlement(self, error):
        world, ledger, books = watched()
        settled = await settled_unheard(world, ledger, books)
        ledger.down, ledger.error = False, error()
        with pytest.raises(error):
            await books.admit(await bill(world))
        ledger.error = None
        await told(world, ledger, books)
        assert ledger.subjects[f"run/{RUN}"].spent["total"] == settled.settlement().used.micro_usd > 0


class SlowDocuments(FakeDocuments):
    """`meanwhile` happens once, while sums are being read."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def get(self, partition: str, id: str) -> Doc | None:
        if self.meanwhile and partition == f"usage/{TEAM}":
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return await super().get(partition, id)


class TestSeed:
    """What a ledger counts that had forgotten everything."""

    async def used_bill(self, world: World) -> Bill:
        used = await bill(world)
        await world.books.admit(used)
        used.status = BROKEN_OFF
        world.books.settle(used)
        await world.books.close()
        return used

    async def seeded(self, world: World, *used: Bill) -> bool:
        """Whether exactly what these have used counts."""
        world.ledger.flush()
        await world.books.admit(await bill(world))
        charged = sum(each.settlement().used.micro_usd for each in used)
        assert charged > 0
        return world.ledger.subjects[f"run/{RUN}"].spent["total"] == charged

    async def recorded(self, world: World) -> None:
        for message in world.queues.bodies("usage"):
            await world.recorder.record(message)

    async def test_a_record_that_is_made_while_sums_are_read_counts_once(self):
        documents = SlowDocuments()
        world = World(FakeUpstream([]), documents=documents)
        used = await self.used_bill(world)
        documents.meanwhile = lambda: self.recorded(world)
        assert await self.seeded(world, used)
        assert documents.meanwhile is None

    async def test_a_call_that_ends_while_sums_are_read_counts_once(self):
        documents = SlowDocuments()
        world = World(FakeUpstream([]), documents=documents)
        first, used = await self.used_bill(world), []

        async def meanwhile() -> None:
            other = await bill(world)
            other.status = BROKEN_OFF
            world.books.settle(other)
            used.append(other)
            await world.recorder.record({"version": 1, "records": [orjson.loads(other.settlement().record)]})

        documents.meanwhile = meanwhile
        world.ledger.flush()
        await world.books.admit(await bill(world))
        charged = first.settlement().used.micro_usd + used[0].settlement().used.micro_usd
        assert world.ledger.subjects[f"run/{RUN}"].spent["total"] == charged

    async def test_a_call_that_began_long_ago_counts_once(self):
        world, _ = scripted()
        used = await bill(world)
        used.id = ids.sortable_at(world.clock.now())
        used.hold = replace(used.hold, id=used.id)
        await world.books.admit(used)
        world.clock.advance(300)
        used.status = BROKEN_OFF
        world.books.settle(used)
        await world.books.close()
        await self.recorded(world)
        assert await self.seeded(world, used)

    async def test_thousands_of_records_of_a_minute_count_once(self):
        world, _ = scripted()
        first = await self.used_bill(world)
        between = [ids.sortable() for _ in range(5000)]
        last = await self.used_bill(world)
        await self.recorded(world)
        row = first.settlement().record.encode()
        rows = world.documents.partitions[f"usage/{TEAM}"]
        rows |= {f"record/{each}": ("v0", row.replace(first.id.encode(), each.encode())) for each in between}
        assert await self.seeded(world, first, last)


class TestReconcile:
    async def test_a_call_whose_process_died_ends_as_one_record_of_all_it_may_have_used(self):
        world, _ = scripted()
        lost, survivor = await bill(world), world.another_books()
        await world.books.admit(lost)
        assert await survivor.reconcile() == 0
        world.clock.advance(61)
        assert await survivor.reconcile() == 1
        assert await survivor.reconcile() == 0
        (sent,) = world.usage()
        assert (sent["id"], sent["run_id"], sent["estimated"], sent["output_tokens"]) == (lost.id, RUN, True, 100)
        assert sent["charged_micro_usd"] == sent["cost_micro_usd"] == len(BODY) // 2 * 2 + 100 * 10
        assert await world.spent(f"run/{RUN}") == sent["charged_micro_usd"]

    @pytest.mark.parametrize("recorded", ["before it ends", "in order", "last first"])
    async def test_one_that_was_only_slow_counts_what_it_used(self, recorded):
        world, _ = scripted()
        slow, survivor = await bill(world), world.another_books()
        await world.books.admit(slow)
        world.clock.advance(61)
        assert await survivor.reconcile() == 1
        if recorded == "before it ends":
            await self.all_recorded(world, survivor)
        slow.status = 200
        slow.report.message({"model": "claude-haiku-4-5", "usage": {"input_tokens": 7, "output_tokens": 3}})
        world.books.settle(slow)
        await world.books.close()
        for _ in range(2):
            await self.all_recorded(world, survivor, backwards=recorded == "last first")
        truth = orjson.loads(slow.settlement().record)
        assert [doc.body for doc in await self.records(world, slow)] == [truth | {"duration_ms": 61_000}]
        assert not truth["estimated"]
        assert (await usage.run_usage(world.documents, TEAM, RUN)).output_tokens == 3
        charged = await usage.spent(world.documents, TEAM, f"run/{RUN}")
        assert set(charged.values()) == {truth["charged_micro_usd"]} == {await world.spent(f"run/{RUN}")}
        world.clock.advance(61)
        assert await survivor.reconcile() == 0

    @staticmethod
    async def all_recorded(world: World, books: Books, *, backwards: bool = False) -> None:
        for message in world.queues.bodies("usage")[:: -1 if backwards else 1]:
            await books.record(message)
        await books.close()

    async def test_a_record_whose_message_was_lost_with_its_reader_is_sent_once_more(self):
        world, _ = scripted()
        answered, survivor = await answered_bill(world), world.another_books()
        (first,) = world.queues.bodies("usage")
        world.clock.advance(16)
        assert await survivor.reconcile() == 1
        _, second = world.queues.bodies("usage")
        assert first == second
        await survivor.record(second)
        await world.books.record(first)
        await survivor.close()
        world.clock.advance(61)
        assert await survivor.reconcile() == 0
        assert len(await self.records(world, answered)) == 1

    async def test_what_was_recorded_is_not_sent_again(self):
        world, _ = scripted()
        await answered_bill(world)
        for message in world.queues.bodies("usage"):
            await world.books.record(message)
        await world.books.close()
        world.clock.advance(61)
        assert await world.another_books().reconcile() == 0

    async def test_a_record_nobody_can_take_is_an_incident_once(self):
        world, _ = scripted()
        await answered_bill(world)
        world.clock.advance(40 * 24 * 3600)
        with pytest.raises(Invalid, match="days old"):
            await world.books.record(world.queues.bodies("usage")[0])
        await world.books.close()
        assert await world.another_books().reconcile() == 0

    @pytest.mark.parametrize("queue_down", [False, True])
    async def test_a_record_of_another_shape_keeps_none_from_being_recorded(self, queue_down):
        world, _ = scripted()
        odd, lost, survivor = await bill(world), await bill(world), world.another_books()
        odd.hold = replace(odd.hold, record=odd.hold.record.replace('"duration_ms"', '"lasted"'))
        for each in (odd, lost):
            await world.books.admit(each)
        world.clock.advance(61)
        world.queues.down = queue_down
        assert await survivor.reconcile() == 2
        if queue_down:
            assert [doc.id for doc in await self.records(world, lost)] == [f"record/{lost.id}"]
            world.queues.down = False
            world.clock.advance(16)
            assert await survivor.reconcile() == 2
        for message in world.queues.bodies("usage"):
            with pytest.raises(Invalid, match=odd.id):
                await survivor.record(message)
        await survivor.close()
        assert [doc.id for doc in await self.records(world, lost)] == [f"record/{lost.id}"]
        assert world.ledger.subjects[f"run/{RUN}"].held == 0
        world.clock.advance(61)
        assert await survivor.reconcile() == 0

    @pytest.mark.parametrize(
        "text",
        ["", "{", "5", '{"usage": 5}', '{"id": "0001"}']
        + [
            f'{{"team_id": "t", "time": "2026-01-01T00:00:00Z", "output_tokens": {odd}}}'
            for odd in ("null", '"x"', "true")
        ],
    )
    async def test_a_call_with_no_record_at_all_is_charged_what_it_held_and_keeps_none_from_being_recorded(self, text):
        world, _ = scripted()
        odd, lost, survivor = await bill(world), await bill(world), world.another_books()
        odd.hold = replace(odd.hold, record=text)
        for each in (odd, lost):
            await world.books.admit(each)
        world.clock.advance(61)
        assert await survivor.reconcile() == 2
        assert [sent["id"] for sent in world.usage()] == [lost.id]
        await survivor.close()
        subject = world.ledger.subjects[f"run/{RUN}"]
        assert (subject.held, subject.streams) == (0, 0)
        most = sum(each.hold.amounts.micro_usd for each in (odd, lost))
        assert [subject.spent[period] for period in odd.periods] == [most] * 3
        world.clock.advance(61)
        assert [told.id for told in await world.ledger.lapsed(10)] == [lost.id]  # of which nobody took the message

    @staticmethod
    async def records(world: World, of: Bill) -> list[Doc]:
        return await world.documents.query(f"usage/{of.caller.team_id}", "record/")

    async def test_redis_away_is_tried_again_by_the_timer(self):
        world, _ = scripted()
        world.ledger.down = True
        assert await world.books.reconcile() == 0
