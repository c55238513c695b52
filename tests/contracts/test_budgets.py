"""What budgets promise, on the fake and on Redis: many streams at once, cuts, crashes and a Redis that forgets."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from shared.adapters.redis_ledger import RedisLedger
from shared.core import ids, usage
from shared.core.clock import SystemClock
from shared.core.errors import PaymentRequired, RateLimited, Unavailable
from shared.core.ports import Json
from shared.core.store import Store
from shared.llm import allowances
from shared.llm.bill import Bill
from shared.llm.body import Asked
from shared.llm.books import Books
from shared.llm.ledger import Admit, Ledger, Refused, Rule
from shared.llm.models import Budget, Call, Caller, KeyRecord, RateLimits, Scope
from shared.llm.service import UsageRecorder
from tests.fakes import FakeDocuments, FakeEventLog, FakeLedger, FakeQueues, FakeRealtime

LEASE = 1.0
MODEL = "claude-haiku-4-5"
INPUT, OUTPUT = 1, 5
"""Micro-USD a token."""
STREAMS = 200


@pytest.fixture
def lease() -> float:
    return LEASE


async def flush(ledger: Ledger, url: str) -> None:
    if isinstance(ledger, FakeLedger):
        ledger.flush()
    else:
        async with Redis.from_url(url) as admin:
            await admin.flushdb()


@dataclass
class Process:
    """One that takes calls; when it is dead, what it had under way is settled by nobody."""

    books: Books
    dead: bool = False

    def die(self) -> None:
        self.dead = True
        if self.books._renewing:
            self.books._renewing.cancel()


@dataclass
class Company:
    """A team with a key and a budget, the processes that serve it, and the model service that counts for itself."""

    ledger: Ledger
    budget: Budget
    rates: RateLimits = field(default_factory=RateLimits)
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    spent: int = 0
    """By the model service's own count, in micro-USD."""
    largest: int = 0
    """The largest reservation."""
    admitted: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self.team = ids.new_team()
        self.documents, self.queues = FakeDocuments(), FakeQueues()
        self.documents.partitions[f"portal/team/{self.team}"] = {"team": ("v0", orjson.dumps({"scope": self.team}))}
        self.store = Store(self.documents, FakeEventLog(), FakeQueues(), FakeRealtime(), SystemClock())
        self.recorder = UsageRecorder(self.store)
        key = KeyRecord(
            key_id=ids.scoped("key", self.team, "0123456789abcdef"),
            key_hash="",
            team_id=self.team,
            name="K",
            shown="",
            scope=Scope(kind="team", id=self.team),
            created_at="",
            budget=self.budget,
            rates=self.rates,
        )
        self.caller = Caller(self.team, key.key_id, allowances=tuple(allowances.of_key(key)))
        self.consumed, self.consumer = 0, self.process().books

    def process(self) -> Process:
        books = Books(self.ledger, self.documents, self.queues, self.recorder, SystemClock(), renew_seconds=LEASE / 4)
        return Process(books)

    def bill(self, prompt: int = 100, max_tokens: int = 100) -> Bill:
        call = Call("POST", "/v1/messages", "", [], b"x" * prompt)
        wanted = Asked(MODEL, streamed=True, max_tokens=max_tokens)
        return Bill(self.caller, call, wanted, MODEL, SystemClock())

    async def stream(self, process: Process) -> None:
        """Calls one after another until the budget is used up. Each ends well, is cut, is left, or dies with its
        process."""
        while not process.dead:
            size = self.dice.randrange(40, 400)
            bill = self.bill(size, self.dice.randrange(20, 200))
            try:
                await process.books.admit(bill)
            except PaymentRequired:
                self.refused += 1
                return
            except RateLimited:
                await asyncio.sleep(self.dice.uniform(0.05, 0.3))
                continue
            self.admitted += 1
            self.largest = max(self.largest, bill.hold.amounts.micro_usd)
            await self._answered(bill, size // 2, process)
            if not process.dead:
                process.books.settle(bill)

    async def _answered(self, bill: Bill, prompt: int, process: Process) -> None:
        tokens = self.dice.randrange(1, 20)
        end = self.dice.choice(("well", "well", "cut", "left"))
        self.spent += prompt * INPUT
        head = {"model": MODEL, "usage": {"input_tokens": prompt, "output_tokens": 0}}
        bill.report.event(b"", orjson.dumps({"type": "message_start", "message": head}))
        for _ in range(tokens):
            await asyncio.sleep(self.dice.uniform(0, 0.004))
            if process.dead:
                return
            self.spent += OUTPUT
            bill.report.event(b"", b'{"type":"content_block_delta"}')
        bill.status = {"well": 200, "cut": 502, "left": 499}[end]
        if end == "well":
            bill.report.event(b"", orjson.dumps({"type": "message_delta", "usage": {"output_tokens": tokens}}))
            bill.report.event(b"", b'{"type":"message_stop"}')

    async def record(self) -> None:
        """Usage messages become records."""
        messages = self.queues.bodies("usage")
        for message in messages[self.consumed :]:
            await self.consumer.record(message)
        self.consumed = len(messages)

    async def records(self) -> int:
        return len(await self.documents.query(usage.partition(self.team), "record/"))

    async def charged(self) -> int:
        return (await usage.spent(self.documents, self.team, f"key/{self.caller.key_id}"))["total"]


async def recording(company: Company) -> None:
    """The queue's consumer, some way behind."""
    for _ in count():
        await asyncio.sleep(company.dice.uniform(0, 0.05))
        await company.record()


async def told(company: Company, process: Process) -> int:
    """What the ledger says is spent, once it was asked for the key."""
    bill = company.bill()
    with pytest.raises(PaymentRequired):
        await process.books.admit(bill)
    rule = Rule(f"key/{company.caller.key_id}", "spend", 0, "total")
    [verdict] = await company.ledger.apply([Admit(bill.hold, (rule,))])
    assert isinstance(verdict, Refused)
    return verdict.used


async def reconciling(process: Process) -> None:
    """The timer: without it, what a dead process held is held for ever."""
    for _ in count():
        await asyncio.sleep(LEASE / 2)
        await process.books.reconcile()


async def test_while_redis_is_silent_all_are_refused_in_seconds():
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        ledger = RedisLedger(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        company = Company(ledger, Budget())
        books, start = company.process().books, time.monotonic()
        tries = [books.admit(company.bill()) for _ in range(1000)]
        told = await asyncio.gather(*tries, return_exceptions=True)
        assert time.monotonic() - start < 15  # one after the other they would wait for half a minute
        assert {type(each) for each in told} == {Unavailable}
        await ledger.close()


@asynccontextmanager
async def while_going_on(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_200_streams_with_cuts_and_crashes_stay_within_the_budget_and_one_reservation(ledger: Ledger):
    budget = 60_000
    company = Company(ledger, Budget(month_usd=budget / 1_000_000))
    processes = [company.process() for _ in range(4)]
    async with while_going_on(recording(company), reconciling(processes[2])):
        work = [asyncio.create_task(company.stream(processes[place % 4])) for place in range(STREAMS)]
        while company.admitted < STREAMS // 2:
            await asyncio.sleep(0.01)
            assert not any(each.done() for each in work)
        processes[0].die()
        processes[1].die()
        await asyncio.gather(*work)
        assert company.spent <= budget + company.largest
        await asyncio.sleep(LEASE * 2)
    for process in processes:
        await process.books.close()
    await company.record()
    assert company.refused > 0
    assert await company.records() == company.admitted
    assert company.spent <= await company.charged() <= budget + company.largest
    assert await told(company, processes[3]) == await company.charged()


async def test_a_redis_that_forgets_counts_on_from_the_records(ledger: Ledger, request: pytest.FixtureRequest):
    url = request.getfixturevalue("valkey_url") if isinstance(ledger, RedisLedger) else ""
    budget = 60_000
    company = Company(ledger, Budget(total_usd=budget / 1_000_000))
    process = company.process()
    async with while_going_on(recording(company), reconciling(process)):
        work = [asyncio.create_task(company.stream(process)) for _ in range(STREAMS)]
        for _ in range(4):
            await asyncio.sleep(0.1)
            await flush(ledger, url)
        await asyncio.gather(*work)
        await process.books.close()
    await company.record()
    assert await company.records() == company.admitted
    assert company.spent == await company.charged() <= budget + company.largest
    await flush(ledger, url)
    assert await told(company, company.process()) == company.spent


async def test_calls_at_once_are_counted_anew_together(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    company = Company(ledger, Budget(total_usd=1000))
    process, readings = company.process(), 0
    records_since = usage.records_since

    async def read(*arguments: Any) -> Sequence[Json]:
        nonlocal readings
        readings += 1
        await asyncio.sleep(0.01)
        return await records_since(*arguments)

    monkeypatch.setattr(usage, "records_since", read)
    bills = [company.bill() for _ in range(STREAMS)]
    await asyncio.gather(*(process.books.admit(bill) for bill in bills))
    assert 1 <= readings <= 3
    for bill in bills:
        process.books.settle(bill)
    await process.books.close()


async def test_the_last_minute_is_counted_anew_too(ledger: Ledger, request: pytest.FixtureRequest):
    company = Company(ledger, Budget(), RateLimits(requests_per_minute=3))
    process = company.process()
    for _ in range(3):
        bill = company.bill()
        await process.books.admit(bill)
        process.books.settle(bill)
    await process.books.close()
    await company.record()
    await flush(ledger, request.getfixturevalue("valkey_url") if isinstance(ledger, RedisLedger) else "")
    with pytest.raises(RateLimited, match="3 is reached") as refusal:
        await company.process().books.admit(company.bill())
    assert 1 <= refusal.value.retry_after <= 60


async def test_of_concurrent_streams_only_so_many_are_let_in(ledger: Ledger):
    company = Company(ledger, Budget(), RateLimits(concurrent_streams=3))
    process, bills = company.process(), [company.bill() for _ in range(10)]
    verdicts = await asyncio.gather(*(process.books.admit(bill) for bill in bills), return_exceptions=True)
    assert [type(verdict) for verdict in verdicts].count(RateLimited) == 7
    for bill, verdict in zip(bills, verdicts, strict=True):
        if verdict is None:
            process.books.settle(bill)
    await process.books.admit(company.bill())


async def test_a_caller_who_leaves_while_asking_holds_nothing(ledger: Ledger):
    company = Company(ledger, Budget(), RateLimits(concurrent_streams=1))
    process = company.process()
    asking = asyncio.create_task(process.books.admit(company.bill()))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    await process.books.admit(company.bill())
    await process.books.close()


async def test_a_long_stream_lives_on_while_its_process_does(ledger: Ledger):
    company = Company(ledger, Budget(total_usd=1), RateLimits(concurrent_streams=1))
    process, other = company.process(), company.process()
    bill = company.bill()
    await process.books.admit(bill)
    await asyncio.sleep(LEASE * 1.5)
    assert await other.books.reconcile() == 0
    with pytest.raises(RateLimited):
        await other.books.admit(company.bill())
    process.books.settle(bill)
    await process.books.close()
