import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core.clock import ManualClock
from shared.core.errors import PlatformError, Unavailable
from shared.llm.breaker import Breaker
from shared.llm.routes import Provider, Route, Routes, Target
from shared.llm.routing import Router
from shared.llm.routing import whole as read_whole
from shared.llm.upstream import NoAnswer, NotSent, Outgoing
from tests.fakes.upstream import FakeUpstream, Script, message

OK = Script.json(message())
OVERLOADED = Script.json({"type": "error", "error": {"type": "overloaded_error", "message": "!"}}, 529)


class Stage:
    """A router between fakes. `slept`: the pauses it made."""

    def __init__(
        self, *scripts: Sequence[Script | PlatformError], weights: Sequence[int] = (), seed: int = 1, **provider: float
    ) -> None:
        self.clock = ManualClock()
        self.slept: list[float] = []
        self.upstreams = {name: FakeUpstream(list(script)) for name, script in zip("abc", scripts, strict=False)}
        drawn = weights or [0] * len(scripts)
        targets = [
            Target(provider=name, model=f"{name}-model", weight=weight)
            for name, weight in zip(self.upstreams, drawn, strict=True)
        ]
        providers = {name: Provider.model_validate(provider) for name in self.upstreams}
        self.router = Router(
            Routes(providers=providers, models={"fast": Route(targets=tuple(targets))}),
            self.upstreams,
            self.clock,
            self._sleep,
            random.Random(seed),
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)

    async def ask(self, streamed: bool = False, team: str = "") -> tuple[str, int, int]:
        """Who answered, with what status, after how many tries that were given up."""
        body = b'{"model": "fast", "messages": []}'
        request, given_up = Outgoing("POST", "/v1/messages", "", (), body, streamed, team), list[None]()
        routed = await self.router.send(request, "fast", lambda: given_up.append(None))
        whole: bool | None = None
        try:
            await read_whole(routed.incoming)
            whole = True
        except Unavailable:
            whole = False
            raise
        finally:
            routed.close(whole)
        return routed.target.provider, routed.incoming.status, len(given_up)

    @property
    def asked(self) -> str:
        return " ".join(f"{name}{len(each.requests)}" for name, each in self.upstreams.items())


class TestFallback:
    async def test_the_first_target_answers_under_its_own_model_name(self):
        stage = Stage([OK], [OK])
        assert await stage.ask() == ("a", 200, 0)
        assert orjson.loads(stage.upstreams["a"].requests[0].body)["model"] == "a-model"
        assert stage.asked == "a1 b0"

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 529])
    async def test_an_error_that_another_may_not_have_goes_on(self, status: int):
        stage = Stage([Script.json({}, status)], [OK])
        assert await stage.ask() == ("b", 200, 0)
        assert (stage.slept, stage.upstreams["a"].ended) == ([], 1)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 413])
    async def test_an_error_of_the_callers_is_the_answer(self, status: int):
        stage = Stage([Script.json({}, status)], [OK])
        assert await stage.ask() == ("a", status, 0)
        assert stage.asked == "a1 b0"

    async def test_a_provider_that_cannot_be_reached_is_passed_over(self):
        stage = Stage([NotSent("down")], [OK])
        assert await stage.ask() == ("b", 200, 0)

    async def test_the_last_error_answer_passes_when_nobody_does_better(self):
        stage = Stage([OVERLOADED], [NotSent("down")])
        assert await stage.ask() == ("a", 529, 0)
        assert stage.asked == "a2 b2"

    async def test_with_no_answer_at_all_the_reason_is_told(self):
        stage = Stage([NotSent("a is down")], [NotSent("b is down")])
        with pytest.raises(Unavailable, match="b is down"):
            await stage.ask()


class TestWhatMayHaveBeenBilled:
    async def test_a_call_that_is_no_stream_is_never_sent_again(self):
        stage = Stage([NoAnswer("silence")], [OK])
        with pytest.raises(NoAnswer):
            await stage.ask()
        assert stage.asked == "a1 b0"

    async def test_a_stream_that_did_not_begin_goes_on_and_is_counted(self):
        stage = Stage([NoAnswer("silence")], [OK])
        assert await stage.ask(streamed=True) == ("b", 200, 1)

    async def test_a_stream_is_sent_to_each_target_once(self):
        stage = Stage([NoAnswer("silence")], [OVERLOADED])
        assert await stage.ask(streamed=True) == ("b", 529, 1)
        assert stage.asked == "a1 b1"

    async def test_a_stream_that_nobody_began_tells_that_it_was_sent(self):
        stage = Stage([NoAnswer("silence")], [NotSent("down")])
        with pytest.raises(NoAnswer):
            await stage.ask(streamed=True)

    async def test_what_breaks_off_after_its_head_is_not_tried_again(self):
        stage = Stage([Script(steps=[b"{", Unavailable("cut")])], [OK])
        with pytest.raises(Unavailable, match="cut"):
            await stage.ask()
        assert stage.asked == "a1 b0"


class TestRetries:
    async def test_the_second_try_comes_after_a_pause_with_jitter(self):
        pauses: set[float] = set()
        for seed in range(20):
            stage = Stage([OVERLOADED, OK], seed=seed)
            assert await stage.ask() == ("a", 200, 0)
            pauses.update(stage.slept)
        assert len(pauses) == 20
        assert all(0.25 <= pause <= 0.5 for pause in pauses)

    async def test_retry_after_is_waited_for(self):
        stage = Stage([Script.json({}, 429, [("retry-after", "3")]), OK])
        assert await stage.ask() == ("a", 200, 0)
        assert 3.25 <= stage.slept[0] <= 3.5

    @pytest.mark.parametrize("said", ["Mon, 01 Jan 99999999999 00:00:00 GMT", "soon", "-1", "1.2.3"])
    async def test_what_says_no_time_is_nothing(self, said: str):
        stage = Stage([Script.json({}, 429, [("retry-after", said)]), OK])
        assert await stage.ask() == ("a", 200, 0)
        assert stage.slept[0] <= 0.5

    async def test_a_longer_wait_is_the_clients(self):
        stage = Stage([Script.json({}, 429, [("retry-after", "7")]), OK])
        assert await stage.ask() == ("a", 429, 0)
        assert stage.slept == []

    async def test_the_target_that_is_back_first_decides(self):
        busy = Script.json({}, 429, [("retry-after", "60")])
        stage = Stage([busy], [OVERLOADED, OK])
        assert await stage.ask() == ("b", 200, 0)
        assert stage.slept[0] < 1


class TestWeights:
    @settings(max_examples=10)
    @given(weights=st.lists(st.integers(0, 5), min_size=3, max_size=3).filter(any))
    def test_calls_are_shared_by_weight_and_never_reach_one_without(self, weights: list[int]):
        drawn = asyncio.run(_drawn(weights))
        for name, weight in zip("abc", weights, strict=True):
            assert abs(drawn[name] / 400 - weight / sum(weights)) < 0.15
            assert weight or not drawn[name]

    async def test_the_others_follow_in_order(self):
        stage = Stage([OK], [OVERLOADED], [OVERLOADED], weights=[0, 0, 1])
        assert await stage.ask() == ("a", 200, 0)
        assert stage.asked == "a1 b0 c1"


async def _drawn(weights: Sequence[int]) -> Counter[str]:
    stage = Stage([OK], [OK], [OK], weights=weights)
    return Counter([(await stage.ask())[0] for _ in range(400)])


class TestRoom:
    async def test_a_full_provider_is_passed_over_and_has_room_again(self):
        stage = Stage([Script(steps=[60.0])], [OK], concurrent=1)
        busy = asyncio.create_task(stage.ask())
        await asyncio.sleep(0.01)
        assert await stage.ask() == ("b", 200, 0)
        busy.cancel()
        await asyncio.wait({busy})
        stage.upstreams["a"].scripts = [OK]
        assert await stage.ask() == ("a", 200, 0)

    async def test_with_all_full_the_client_is_asked_to_come_back(self):
        stage = Stage([Script(steps=[60.0])], concurrent=1)
        busy = asyncio.create_task(stage.ask())
        await asyncio.sleep(0.01)
        with pytest.raises(Unavailable, match="no room") as refusal:
            await stage.ask()
        assert refusal.value.retry_after == 1
        busy.cancel()
        await asyncio.wait({busy})


class TestCircuit:
    async def test_a_failing_provider_is_left_alone_until_one_call_finds_it_back(self):
        stage = Stage([OVERLOADED], [OK], breaker_failures=3, breaker_seconds=30)
        for _ in range(5):
            assert (await stage.ask())[0] == "b"
        assert stage.asked == "a3 b5"
        stage.clock.advance(30)
        assert (await stage.ask())[0] == "b"
        assert stage.asked == "a4 b6"
        stage.clock.advance(30)
        stage.upstreams["a"].scripts = [OK]
        assert (await stage.ask())[0] == "a"
        assert (await stage.ask())[0] == "a"

    async def test_one_whose_answers_keep_breaking_off_is_left_alone_too(self):
        cut = Script(steps=[b"{", Unavailable("cut")])
        stage = Stage([cut], [OK], breaker_failures=3, breaker_seconds=30)
        for _ in range(3):
            with pytest.raises(Unavailable, match="cut"):
                await stage.ask()
        assert await stage.ask() == ("b", 200, 0)
        assert stage.asked == "a3 b1"

    async def test_so_does_one_team_whose_answers_break_off(self):
        cut = Script(steps=[b"{", Unavailable("cut")])
        stage = Stage([cut, cut, cut, OK], breaker_failures=3, breaker_seconds=30)
        for _ in range(3):
            with pytest.raises(Unavailable, match="cut"):
                await stage.ask(team="t1")
        with pytest.raises(Unavailable, match="keeps failing"):
            await stage.ask(team="t1")
        assert (await stage.ask(team="t2"))[1] == 200

    async def test_a_whole_answer_makes_up_for_those(self):
        cut = Script(steps=[b"{", Unavailable("cut")])
        stage = Stage([cut, cut, OK, cut, cut, OK], breaker_failures=3, breaker_seconds=30)
        for expected in (False, False, True) * 2:
            with nullcontext() if expected else pytest.raises(Unavailable, match="cut"):
                await stage.ask()

    async def test_what_one_team_sends_shuts_it_off_for_that_team_alone(self):
        broken = Script.json({"type": "error", "error": {"type": "api_error", "message": "!"}}, 500)
        stage = Stage([broken] * 3 + [OK], breaker_failures=3, breaker_seconds=30)
        stage.router.routes = stage.router.routes.model_copy(update={"retries": 0})
        for _ in range(3):
            assert (await stage.ask(team="t1"))[1] == 500
        for _ in range(3):
            assert (await stage.ask(team="t2"))[1] == 200
            with pytest.raises(Unavailable, match="keeps failing"):
                await stage.ask(team="t1")
        stage.clock.advance(30)
        assert (await stage.ask(team="t1"))[1] == 200

    async def test_alone_it_answers_at_once_with_when_to_come_back(self):
        stage = Stage([NotSent("down")], breaker_failures=2, breaker_seconds=30)
        with pytest.raises(NotSent):
            await stage.ask()
        with pytest.raises(Unavailable, match="keeps failing") as refusal:
            await stage.ask()
        assert refusal.value.retry_after == pytest.approx(30)
        assert stage.asked == "a2"

    def test_half_open_lets_one_call_through(self):
        clock = ManualClock()
        breaker = Breaker(1, 30, clock)
        breaker.end(breaker.begin(), healthy=False)
        clock.advance(30)
        assert breaker.wait() == 0
        probe = breaker.begin()
        assert breaker.wait() > 0
        breaker.end(probe, healthy=True)
        assert breaker.wait() == 0

    async def test_a_client_that_leaves_frees_the_probe_and_says_nothing(self):
        stage = Stage([OVERLOADED], [OK], breaker_failures=1, breaker_seconds=30)
        await stage.ask()
        stage.clock.advance(30)
        stage.upstreams["a"].silent = True
        probing = asyncio.create_task(stage.ask())
        await asyncio.sleep(0.01)
        assert (await stage.ask())[0] == "b"
        probing.cancel()
        await asyncio.wait({probing})
        stage.upstreams["a"].silent = False
        assert stage.asked == "a2 b2"
        assert (await stage.ask())[0] == "b"
        assert (await stage.ask())[0] == "b"
        assert stage.asked == "a3 b4"

    @given(calls=st.lists(st.tuples(st.booleans(), st.floats(0, 40)), max_size=60), most=st.integers(1, 4))
    def test_it_is_open_just_when_the_last_calls_failed(self, calls: list[tuple[bool, float]], most: int):
        """Against a model in words: so many failures in a row shut it for 30 seconds from the last of them."""
        clock = ManualClock()
        breaker = Breaker(most, 30, clock)
        row, shut = 0, clock.now()
        for healthy, passed in calls:
            assert (breaker.wait() > 0) == (row >= most and clock.now() < shut)
            if breaker.wait() == 0:
                breaker.end(breaker.begin(), healthy)
                row = 0 if healthy else row + 1
                shut = clock.now() + timedelta(seconds=30)
            clock.advance(passed)
