"""Every Ledger adapter keeps the same promises."""

import asyncio
import time
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from local.free_ports import free_port
from local.valkey import Valkey
from shared.adapters.redis_ledger import RedisLedger
from shared.core import ids
from shared.core.errors import Unavailable
from shared.llm.ledger import (
    Admit,
    Amounts,
    Done,
    Forget,
    Hold,
    Kind,
    Lapsed,
    Ledger,
    Op,
    Refused,
    Renew,
    Rule,
    Seed,
    Settle,
    Uncountable,
    Unreached,
    Unseeded,
    Verdict,
    Withdraw,
)
from tests.contracts.conftest import missing_valkey
from tests.fakes import FakeLedger
from tests.requires import require

LEASE = 0.3
PERIODS = ("total", "2026-11", "2026-11-25")


@pytest.fixture
def lease() -> float:
    return LEASE


@pytest.fixture
def subject() -> str:
    return f"key/{ids.random_text()}"


def hold(*subjects: str, usd: int = 0, tokens: int = 0, streams: int = 0, record: str = "record") -> Hold:
    return Hold(ids.sortable(), subjects, Amounts(micro_usd=usd, input_tokens=tokens, streams=streams), record)


def budget(subject: str, limit: int, period: str = "total") -> Rule:
    return Rule(subject, "spend", limit, period)


async def one(ledger: Ledger, op: Op) -> Verdict:
    [verdict] = await ledger.apply([op])
    assert not isinstance(verdict, Uncountable)
    return verdict


async def seeded(ledger: Ledger, subject: str, minute: dict[Kind, int] | None = None, **spent: int) -> None:
    assert await one(ledger, Seed(subject, spent, minute or {})) == Done()


def settled(held: Hold, usd: int = 0, tokens: int = 0, output: int = 0) -> Settle:
    return Settle(held, Amounts(usd, tokens, output), PERIODS, "final")


def estimated(held: Hold, usd: int = 0, tokens: int = 0, output: int = 0) -> Settle:
    return replace(settled(held, usd, tokens, output), estimated=True)


async def refused(ledger: Ledger, op: Admit) -> Refused:
    verdict = await one(ledger, op)
    assert isinstance(verdict, Refused), verdict
    return verdict


async def is_open(ledger: Ledger, *rules: Rule) -> bool:
    """Whether another call would be let in; it is withdrawn again."""
    held = hold(*{rule.subject for rule in rules})
    verdict = await one(ledger, Admit(held, rules))
    await one(ledger, Withdraw(held))
    return verdict == Done()


class TestSeed:
    async def test_a_subject_counts_nothing_before(self, ledger, subject):
        other = subject + "x"
        await seeded(ledger, other)
        admit = Admit(hold(subject, other, usd=1), (budget(subject, 9),))
        assert await one(ledger, admit) == Unseeded((subject,))
        assert await is_open(ledger, Rule(other, "requests", 1))

    async def test_it_begins_with_what_was_spent(self, ledger, subject):
        await seeded(ledger, subject, total=2**40, **{"2026-11": 5})
        verdict = await refused(ledger, Admit(hold(subject), (budget(subject, 2**40),)))
        assert (verdict.used, verdict.held) == (2**40, 0)
        assert await is_open(ledger, budget(subject, 6, "2026-11"), budget(subject, 1, "2026-11-25"))

    async def test_one_that_counts_stays_as_it_is(self, ledger, subject):
        await seeded(ledger, subject, total=7)
        await seeded(ledger, subject, total=1)
        assert (await refused(ledger, Admit(hold(subject), (budget(subject, 7),)))).used == 7

    async def test_the_last_minute_counts(self, ledger, subject):
        await seeded(ledger, subject, {"requests": 60})
        assert (await refused(ledger, Admit(hold(subject), (Rule(subject, "requests", 60),)))).used == 60


class TestBudget:
    async def test_what_is_held_counts_until_it_is_settled(self, ledger, subject):
        await seeded(ledger, subject)
        first, rule = hold(subject, usd=60), budget(subject, 100)
        assert await one(ledger, Admit(first, (rule,))) == Done()
        verdict = await refused(ledger, Admit(hold(subject, usd=41), (rule,)))
        assert (verdict.rule, verdict.used, verdict.held) == (rule, 0, 60)
        assert await one(ledger, settled(first, usd=20)) == Done()
        assert await one(ledger, Admit(hold(subject, usd=80), (rule,))) == Done()

    async def test_a_lone_call_may_pass_it_and_none_after(self, ledger, subject):
        await seeded(ledger, subject)
        first, rule = hold(subject, usd=500), budget(subject, 100)
        assert await one(ledger, Admit(first, (rule,))) == Done()
        await one(ledger, settled(first, usd=150))
        assert (await refused(ledger, Admit(hold(subject, usd=0), (rule,)))).used == 150

    async def test_each_period_is_counted(self, ledger, subject):
        await seeded(ledger, subject)
        await one(ledger, Admit(first := hold(subject, usd=5), ()))
        await one(ledger, settled(first, usd=5))
        for period in PERIODS:
            assert not await is_open(ledger, budget(subject, 5, period))
        assert await is_open(ledger, budget(subject, 5, "2026-12"))

    async def test_of_several_rules_the_first_broken_is_told_and_nothing_is_held(self, ledger, subject):
        other = subject + "x"
        await seeded(ledger, subject)
        await seeded(ledger, other, total=9)
        rules = (budget(subject, 10), Rule(subject, "requests", 1), budget(other, 9))
        assert (await refused(ledger, Admit(hold(subject, other, usd=10), rules))).rule == rules[2]
        assert await one(ledger, Admit(hold(subject, usd=10), rules[:2])) == Done()

    async def test_calls_at_once_cannot_pass_it_together(self, ledger, subject):
        await seeded(ledger, subject)
        asked = [Admit(hold(subject, usd=10), (budget(subject, 100),)) for _ in range(50)]
        verdicts = await asyncio.gather(*(one(ledger, admit) for admit in asked))
        assert verdicts.count(Done()) == 10

    async def test_repeating_an_operation_changes_nothing(self, ledger, subject):
        await seeded(ledger, subject)
        admit = Admit(hold(subject, usd=60), (budget(subject, 100),))
        assert await ledger.apply([admit, admit]) == [Done(), Done()]
        await ledger.apply([settled(admit.hold, usd=60)] * 3)
        assert (await refused(ledger, Admit(hold(subject), (budget(subject, 60),)))).used == 60

    async def test_what_comes_again_or_late_when_the_record_is_safe_changes_nothing(self, ledger, subject):
        await seeded(ledger, subject)
        admit = Admit(hold(subject, usd=60, streams=1), ())
        settle, forget = settled(admit.hold, usd=50), Forget((admit.hold.id,))
        await ledger.apply([admit, settle, forget])
        for late in (settle, Renew(admit.hold), admit, Withdraw(admit.hold), replace(settle, estimated=True), forget):
            assert await ledger.apply([late, forget]) == [Done(), Done()]
        verdict = await refused(ledger, Admit(hold(subject), (budget(subject, 50),)))
        assert (verdict.used, verdict.held) == (50, 0)
        assert await is_open(ledger, Rule(subject, "streams", 1))

    async def test_what_was_withdrawn_never_was(self, ledger, subject):
        await seeded(ledger, subject)
        rules = (budget(subject, 10), Rule(subject, "requests", 1), Rule(subject, "streams", 1))
        admit = Admit(hold(subject, usd=60, streams=1), rules)
        assert await ledger.apply([admit, Withdraw(admit.hold), Withdraw(admit.hold)]) == [Done()] * 3
        assert await one(ledger, admit._replace(hold=hold(subject, usd=60, streams=1))) == Done()

    async def test_spending_without_a_hold_counts_all_the_same(self, ledger, subject):
        await seeded(ledger, subject)
        await one(ledger, settled(hold(subject, usd=7), usd=3))
        assert (await refused(ledger, Admit(hold(subject), (budget(subject, 3),)))).used == 3


class TestUncountable:
    @pytest.mark.parametrize("usd", [2**53 + 2, 10**19])
    async def test_what_cannot_be_counted_fails_alone_and_changes_nothing(self, ledger, subject, usd):
        await seeded(ledger, subject)
        rules = (budget(subject, 10), Rule(subject, "requests", 3))
        before, after = (Admit(hold(subject, usd=1), rules) for _ in range(2))
        odd = Admit(hold(subject, usd=usd), (rules[1],))
        verdicts = await ledger.apply([before, odd, Renew(odd.hold), settled(odd.hold, usd=usd), after])
        assert [type(verdict) for verdict in verdicts] == [Done, *[Uncountable] * 3, Done]
        verdict = await refused(ledger, Admit(hold(subject, usd=9), rules))
        assert (verdict.rule, verdict.used, verdict.held) == (rules[0], 0, 2)


class TestPerMinute:
    async def test_requests_are_let_in_as_the_minute_passes(self, ledger, subject):
        await seeded(ledger, subject)
        rule = Rule(subject, "requests", 300)
        verdicts = await ledger.apply([Admit(hold(subject), (rule,)) for _ in range(302)])
        assert [type(verdict) for verdict in verdicts[-3:]] in ([Done, Refused, Refused], [Done, Done, Refused])
        last = verdicts[-1]
        assert isinstance(last, Refused)
        assert 0 < last.retry_after <= 0.4
        await asyncio.sleep(last.retry_after + 0.05)
        assert await one(ledger, Admit(hold(subject), (rule,))) == Done()

    async def test_input_is_taken_in_advance_and_corrected(self, ledger, subject):
        await seeded(ledger, subject)
        first, rule = hold(subject, tokens=1_000_000), Rule(subject, "input_tokens", 1000)
        assert await one(ledger, Admit(first, (rule,))) == Done()
        assert (await refused(ledger, Admit(hold(subject), (rule,)))).retry_after > 50_000
        await one(ledger, settled(first, tokens=500))
        assert await one(ledger, Admit(hold(subject), (rule,))) == Done()

    async def test_output_is_taken_when_it_is_known(self, ledger, subject):
        await seeded(ledger, subject)
        first, rule = hold(subject), Rule(subject, "output_tokens", 1000)
        assert await one(ledger, Admit(first, (rule,))) == Done()
        assert await is_open(ledger, rule)
        await one(ledger, settled(first, output=3000))
        assert 115 < (await refused(ledger, Admit(hold(subject), (rule,)))).retry_after < 121

    async def test_a_limit_of_none_lets_nothing_in(self, ledger, subject):
        await seeded(ledger, subject)
        assert (await refused(ledger, Admit(hold(subject), (Rule(subject, "requests", 0),)))).retry_after > 0


class TestStreams:
    async def test_only_so_many_run_at_a_time(self, ledger, subject):
        await seeded(ledger, subject)
        rule = Rule(subject, "streams", 2)
        running = [hold(subject, streams=1) for _ in range(2)]
        assert await ledger.apply([Admit(held, (rule,)) for held in running]) == [Done(), Done()]
        assert (await refused(ledger, Admit(hold(subject, streams=1), (rule,)))).used == 2
        assert await one(ledger, Admit(hold(subject), (rule,))) == Done()
        await one(ledger, settled(running[0]))
        assert await one(ledger, Admit(hold(subject, streams=1), (rule,))) == Done()


class TestLease:
    async def test_a_call_that_nobody_renews_is_told_once_a_lease(self, ledger, subject):
        await seeded(ledger, subject)
        held = hold(subject, subject + "x", usd=5, tokens=2**40, streams=1, record='{"a": 1}')
        await seeded(ledger, subject + "x")
        await one(ledger, Admit(held, ()))
        assert await ledger.lapsed(10) == []
        await asyncio.sleep(LEASE + 0.05)
        assert await ledger.lapsed(10) == [Lapsed(held.id, '{"a": 1}', held)]
        assert await ledger.lapsed(10) == []
        assert not await is_open(ledger, budget(subject, 1), budget(subject, 0))
        await ledger.apply([settled(held, usd=5), Forget((held.id,))])
        assert (await refused(ledger, Admit(hold(subject), (budget(subject, 5),)))).used == 5

    async def test_one_admitted_after_its_withdrawal_holds_nothing_and_never_lapses(self, ledger, subject):
        await seeded(ledger, subject)
        rules = (budget(subject, 10), Rule(subject, "requests", 1), Rule(subject, "streams", 1))
        late = hold(subject, usd=60, streams=1)
        await ledger.apply([Withdraw(late), Withdraw(late)])
        await ledger.apply([Admit(late, rules), Renew(late)])
        other = hold(subject, usd=10, streams=1)
        assert await one(ledger, Admit(other, rules)) == Done()
        await ledger.apply([settled(other, usd=10), Forget((other.id,))])
        for _ in range(3):
            await asyncio.sleep(LEASE + 0.05)
            assert await ledger.lapsed(10) == []

    async def test_one_settled_after_its_withdrawal_counts_once(self, ledger, subject):
        await seeded(ledger, subject)
        late = hold(subject, usd=60)
        await ledger.apply([Withdraw(late), settled(late, usd=7), Admit(late, ()), settled(late, usd=7)])
        verdict = await refused(ledger, Admit(hold(subject), (budget(subject, 7),)))
        assert (verdict.used, verdict.held) == (7, 0)

    async def test_many_withdrawn_keep_no_lapsed_one_waiting(self, ledger, subject):
        await seeded(ledger, subject)
        await ledger.apply([Withdraw(hold(subject)) for _ in range(25)])
        await one(ledger, Admit(held := hold(subject), ()))
        await asyncio.sleep(LEASE + 0.05)
        assert [told.id for told in await ledger.lapsed(10)] == [held.id]

    async def test_a_renewed_one_lives_on(self, ledger, subject):
        await seeded(ledger, subject)
        await one(ledger, Admit(held := hold(subject), ()))
        for _ in range(3):
            await asyncio.sleep(LEASE / 2)
            await one(ledger, Renew(held))
            assert await ledger.lapsed(10) == []

    async def test_one_that_is_held_anew_by_a_renewal_is_told_with_all_it_holds(self, ledger, subject):
        held = hold(subject, usd=60, tokens=7)
        await one(ledger, Renew(held))
        await asyncio.sleep(LEASE + 0.05)
        assert await ledger.lapsed(10) == [Lapsed(held.id, held.record, held)]

    async def test_a_settled_record_is_told_until_it_is_forgotten(self, ledger, subject):
        await seeded(ledger, subject)
        await ledger.apply([Admit(held := hold(subject), ()), settled(held)])
        await asyncio.sleep(LEASE + 0.05)
        assert await ledger.lapsed(10) == [Lapsed(held.id, "final")]
        await one(ledger, Forget((held.id,)))
        await asyncio.sleep(LEASE + 0.05)
        assert await ledger.lapsed(10) == []

    @pytest.mark.parametrize("forgotten", [False, True])
    async def test_the_truth_takes_the_place_of_an_estimate(self, ledger, subject, forgotten):
        kinds: tuple[Kind, ...] = ("input_tokens", "output_tokens")
        await seeded(ledger, subject)
        held = hold(subject, usd=500, tokens=500_000)
        await one(ledger, Admit(held, tuple(Rule(subject, kind, 1000) for kind in kinds)))
        await ledger.apply([estimated(held, usd=500, tokens=500_000, output=500_000)] * 2)
        for kind in kinds:
            assert (await refused(ledger, Admit(hold(subject), (Rule(subject, kind, 1000),)))).used > 499_000
        if forgotten:
            await one(ledger, Forget((held.id,)))
        await ledger.apply([Renew(held), *[settled(held, usd=7, tokens=300, output=400)] * 2, Forget((held.id,))])
        verdict = await refused(ledger, Admit(hold(subject), (budget(subject, 7),)))
        assert (verdict.used, verdict.held) == (7, 0)
        for kind, most in zip(kinds, (300, 400), strict=True):
            assert await is_open(ledger, Rule(subject, kind, most + 10))
            verdict = await refused(ledger, Admit(hold(subject), (Rule(subject, kind, most),)))
            assert most - 10 < verdict.used <= most

    async def test_an_estimate_takes_the_place_of_nothing_but_a_hold(self, ledger, subject):
        await seeded(ledger, subject)
        truth, withdrawn, unknown = hold(subject, usd=9), hold(subject, usd=9), hold(subject, usd=9)
        await ledger.apply([Admit(truth, ()), settled(truth, usd=2), Withdraw(withdrawn)])
        await ledger.apply([estimated(each, usd=9) for each in (truth, withdrawn, unknown)])
        verdict = await refused(ledger, Admit(hold(subject), (budget(subject, 2),)))
        assert (verdict.used, verdict.held) == (2, 0)

    async def test_an_estimated_record_is_told_until_it_is_forgotten(self, ledger, subject):
        await seeded(ledger, subject)
        await ledger.apply([Admit(held := hold(subject, usd=1), ()), estimated(held, usd=1)])
        await asyncio.sleep(LEASE / 4 + 0.05)
        assert await ledger.lapsed(10) == [Lapsed(held.id, "final")]
        await one(ledger, Forget((held.id,)))
        await asyncio.sleep(LEASE + 0.05)
        assert await ledger.lapsed(10) == []

    async def test_a_call_whose_record_is_safe_is_held_until_it_is_settled(self, ledger, subject):
        await seeded(ledger, subject)
        await ledger.apply([Admit(held := hold(subject, usd=60), ()), Forget((held.id,))])
        assert (await refused(ledger, Admit(hold(subject, usd=41), (budget(subject, 100),)))).held == 60
        await ledger.apply([settled(held, usd=5), Forget((held.id,))])
        verdict = await refused(ledger, Admit(hold(subject), (budget(subject, 5),)))
        assert (verdict.used, verdict.held) == (5, 0)

    async def test_of_a_subject_that_was_forgotten_alone_no_less_than_nothing_is_held(
        self, ledger, subject, request: pytest.FixtureRequest
    ):
        await seeded(ledger, subject)
        rules = (budget(subject, 100), Rule(subject, "streams", 1))
        under_way = [hold(subject, usd=60, streams=1) for _ in range(2)]
        await ledger.apply([Admit(each, ()) for each in under_way])
        if isinstance(ledger, FakeLedger):
            del ledger.subjects[subject]
        else:
            async with Redis.from_url(request.getfixturevalue("valkey_url")) as admin:
                assert await admin.delete(f"llm:{{llm}}:{subject}") == 1
        await ledger.apply([settled(under_way[0]), Withdraw(under_way[1])])
        await seeded(ledger, subject)
        assert await one(ledger, Admit(hold(subject, usd=60, streams=1), rules)) == Done()
        assert (await refused(ledger, Admit(hold(subject, usd=41), rules))).held == 60
        assert (await refused(ledger, Admit(hold(subject, streams=1), rules[1:]))).used == 1

    async def test_renewing_what_was_forgotten_holds_it_again(self, ledger, subject):
        await one(ledger, Renew(held := hold(subject, usd=60)))
        await seeded(ledger, subject)
        assert (await refused(ledger, Admit(hold(subject, usd=41), (budget(subject, 100),)))).held == 60
        await one(ledger, settled(held, usd=1))
        assert await one(ledger, Admit(hold(subject, usd=41), (budget(subject, 100),))) == Done()


@pytest.mark.parametrize(("state", "error"), [("down", Unreached), ("silent", Unavailable)])
async def test_while_it_is_away_the_fake_is_unavailable(subject, state, error):
    ledger = FakeLedger()
    setattr(ledger, state, True)
    with pytest.raises(Unavailable) as refusal:
        await ledger.apply([Forget((subject,))])
    assert type(refusal.value) is error
    with pytest.raises(error):
        await ledger.lapsed(1)


class TestRedisLedger:
    async def test_two_connections_share_it(self, redis, valkey_url, subject):
        other = RedisLedger(valkey_url)
        await seeded(redis, subject, total=5)
        assert (await refused(other, Admit(hold(subject), (budget(subject, 5),)))).used == 5
        await other.close()

    async def test_nobody_listening_is_unavailable_within_seconds(self):
        ledger = RedisLedger(f"redis://127.0.0.1:{free_port()}/0")
        start = time.monotonic()
        with pytest.raises(Unreached):
            await ledger.apply([Forget(("x",))])
        with pytest.raises(Unreached):
            await ledger.lapsed(1)
        assert time.monotonic() - start < 5
        await ledger.close()

    async def test_a_server_that_never_answers_is_unavailable_within_seconds(self):
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            ledger = RedisLedger(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            start = time.monotonic()
            with pytest.raises(Unavailable) as refusal:
                await ledger.lapsed(1)
            assert not isinstance(refusal.value, Unreached)
            assert time.monotonic() - start < 6
            await ledger.close()

    async def test_a_restarted_server_is_found_again_and_has_forgotten(self, subject):
        require(not missing_valkey(), missing_valkey())
        async with Valkey() as server:
            ledger = RedisLedger(server.url)
            await seeded(ledger, subject, total=5)
            port = server.port
        with pytest.raises(Unavailable):
            await ledger.lapsed(1)
        async with Valkey(port=port):
            await asyncio.sleep(1.1)
            assert await one(ledger, Admit(hold(subject), ())) == Unseeded((subject,))
        await ledger.close()

    async def test_one_that_became_a_replica_is_unavailable_and_left(self, subject):
        require(not missing_valkey(), missing_valkey())
        async with Valkey() as server, Redis.from_url(server.url) as admin:
            ledger = RedisLedger(server.url)
            await seeded(ledger, subject)
            await admin.replicaof("127.0.0.1", free_port())
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await ledger.apply([Admit(hold(subject), ())])
                await asyncio.sleep(0.05)
                assert len(await admin.client_list(_type="normal")) == 1
            await admin.replicaof("NO", "ONE")
            assert await one(ledger, Admit(hold(subject), ())) == Done()
            await ledger.close()

    async def test_one_without_memory_is_unavailable(self, subject):
        require(not missing_valkey(), missing_valkey())
        async with Valkey() as server, Redis.from_url(server.url) as admin:
            ledger = RedisLedger(server.url)
            await seeded(ledger, subject)
            await admin.config_set("maxmemory", 1)
            with pytest.raises(Unavailable):
                await ledger.apply([Admit(hold(subject), ())])
            await admin.config_set("maxmemory", 0)
            assert await one(ledger, Admit(hold(subject), ())) == Done()
            await ledger.close()

    @pytest.mark.parametrize("kept", ["o", "orecord", "o5\nrecord", 'o[["key/x"],[1,2]]\nrecord'])
    async def test_a_call_whose_hold_cannot_be_read_lapses_and_is_dropped_like_any_other(
        self, redis, valkey_url, subject, kept
    ):
        await seeded(redis, subject)
        await one(redis, Admit(held := hold(subject, usd=5), ()))
        async with Redis.from_url(valkey_url) as admin:
            await admin.hset("llm:{llm}:calls", held.id, kept)
            await asyncio.sleep(LEASE + 0.05)
            [told] = await redis.lapsed(10)
            assert told.hold == Hold(held.id, (), Amounts(), kept[1:])
            await redis.apply([estimated(told.hold), Forget((held.id,))])
            assert await admin.hget("llm:{llm}:calls", held.id) == b"x[0,0,0]"
            await asyncio.sleep(LEASE + 0.05)
        assert await redis.lapsed(10) == []

    async def test_a_subject_in_use_lives_on(self, redis, valkey_url, subject):
        key, day = f"llm:{{llm}}:{subject}", 24 * 3600
        await seeded(redis, subject)
        async with Redis.from_url(valkey_url) as admin:
            for hours, lives in ((23, 100), (25, 2 * day)):
                await admin.hset(key, "seeded", str(round((time.time() - hours * 3600) * 1000)))
                await admin.expire(key, 100)
                await one(redis, Admit(hold(subject), ()))
                assert lives - 20 <= await admin.ttl(key) <= lives
            assert time.time() - int(await admin.hget(key, "seeded") or 0) / 1000 < 60

    async def test_nothing_of_a_forgotten_subject_is_left_for_ever(self, redis, valkey_url, subject):
        key = f"llm:{{llm}}:{subject}"
        await seeded(redis, subject)
        held = [hold(subject, usd=5, streams=1) for _ in range(3)]
        await redis.apply([Admit(each, ()) for each in held])
        async with Redis.from_url(valkey_url) as admin:
            await admin.delete(key)
            await redis.apply([Withdraw(held[0]), settled(held[1], usd=4)])
            assert await admin.exists(key) == 0
            await redis.apply([Renew(hold(subject, usd=1))])
            assert await admin.ttl(key) > 0

    async def test_it_works_again_after_close(self, redis, subject):
        await seeded(redis, subject)
        await redis.close()
        assert await one(redis, Admit(hold(subject), ())) == Done()

    @pytest.mark.parametrize("text", ["", "nonsense", "http://x"])
    async def test_an_address_that_is_none_says_which_setting(self, text):
        with pytest.raises(Unreached, match="REDIS_URL"):
            await RedisLedger(text).lapsed(1)
