import asyncio
import gzip
import re
from dataclasses import replace
from typing import Any

import orjson
import pytest

from shared.core.errors import BadRequest, Forbidden, PaymentRequired, PlatformError, RateLimited, Unavailable
from shared.llm.gateway import Gateway
from shared.llm.models import Call
from shared.llm.routes import Provider, Route, Routes, Target
from shared.llm.sse import PING
from shared.llm.upstream import NoAnswer, NotSent
from tests.fakes.upstream import FakeUpstream, Script, message, sse, stream_events
from tests.unit.llm.world import CARD, RUN, TEAM, World, call, read, scripted

SPENT = f"run/{RUN}"
EVENTS = sse(*stream_events(cache_read_input_tokens=1000, cache_creation_input_tokens=100))
COST = 10 * 2 + 12 * 10 + 100 + 250
SILENT = Script()


async def ask(gateway: Gateway, request: Call) -> tuple[int, bytes]:
    async with gateway.messages(request) as answer:
        return answer.status, b"".join(await read(answer))


class TestUsage:
    async def test_a_stream_is_passed_on_and_its_figures_sent(self):
        world, _ = scripted(Script.stream(*EVENTS))
        token = await world.run_token()
        assert await ask(world.gateway, call(token)) == (200, b"".join(EVENTS))
        assert await world.spent(SPENT) == COST
        (sent,) = await world.recorded()
        _, record = await world.key()
        assert sent | {"id": ""} == {
            "id": "",
            "team_id": TEAM,
            "run_id": RUN,
            "card_id": CARD,
            "sandbox_id": None,
            "key_id": record.key_id,
            "model": "claude-sonnet-5-5",
            "input_tokens": 10,
            "output_tokens": 12,
            "cache_read_tokens": 1000,
            "cache_write_tokens": 100,
            "cost_micro_usd": COST,
            "charged_micro_usd": COST,
            "estimated": False,
            "time": "2026-01-01T00:00:00.000Z",
            "duration_ms": 0,
            "first_byte_ms": 0,
            "status": 200,
        }

    async def test_a_call_tells_the_router_whose_it_is(self):
        world, upstream = scripted()
        await ask(world.gateway, call(await world.run_token()))
        assert [sent.team_id for sent in upstream.requests] == [TEAM]

    async def test_each_answer_has_an_id_of_its_own(self):
        world, _ = scripted()
        token = await world.run_token()
        for _ in range(3):
            await ask(world.gateway, call(token))
        assert len({sent["id"] for sent in await world.recorded()}) == 3

    async def test_an_error_of_the_model_service_costs_nothing(self):
        world, _ = scripted(Script.json({"type": "error"}, status=529))
        assert (await ask(world.gateway, call(await world.run_token())))[0] == 529
        assert await world.spent(SPENT) == 0
        (sent,) = await world.recorded()
        assert (sent["status"], sent["cost_micro_usd"], sent["charged_micro_usd"]) == (529, 0, 0)

    async def test_a_call_made_at_the_end_of_another_meets_what_that_cost(self):
        world, upstream = scripted(Script.stream(*EVENTS))
        token = await world.run_token(cap=COST)
        async with world.gateway.messages(call(token)) as answer:
            assert answer.chunks
            async for chunk in answer.chunks:
                if b"message_stop" in chunk:
                    with pytest.raises(PaymentRequired):
                        await ask(world.gateway, call(token))
        assert len(upstream.requests) == 1

    async def test_a_client_that_leaves_pays_for_what_was_reported(self):
        world, upstream = scripted(Script.stream(*EVENTS[:3], 60.0))
        async with world.gateway.messages(call(await world.run_token())) as answer:
            assert answer.chunks
            for _ in range(3):
                await anext(answer.chunks)
        assert upstream.ended == 1
        (sent,) = await world.recorded()
        assert (sent["input_tokens"], sent["output_tokens"], sent["status"]) == (10, 1, 499)

    async def test_a_cancelled_call_is_billed_though_the_request_is_gone(self):
        world, upstream = scripted(Script.stream(*EVENTS[:2], 60.0))
        work = asyncio.create_task(ask(world.gateway, call(await world.run_token())))
        await upstream.fell_silent.wait()
        work.cancel()
        await asyncio.wait({work})
        assert upstream.ended == 1
        assert [sent["status"] for sent in await world.recorded()] == [499]
        assert await world.spent(SPENT) >= 10 * 2

    async def test_leaving_before_any_report_still_counts_against_the_cap(self):
        world, upstream = scripted(Script(steps=[60.0]))
        body = orjson.dumps({"model": "claude-sonnet-5-5", "x": "y" * 4000})
        work = asyncio.create_task(ask(world.gateway, call(await world.run_token(), body)))
        await upstream.fell_silent.wait()
        work.cancel()
        await asyncio.wait({work})
        assert await world.spent(SPENT) >= 2000
        assert (await world.recorded())[0]["input_tokens"] == 0

    async def test_an_answer_without_usage_still_counts_against_the_cap(self):
        world, _ = scripted(Script.json({"type": "message"}))
        await ask(world.gateway, call(await world.run_token()))
        assert await world.spent(SPENT) > 0

    @pytest.mark.parametrize(("model", "cost"), [("claude-sonnet-5-5", 0), ("nobody-knows", None)])
    async def test_without_usage_the_cost_of_a_model_without_a_price_is_not_known(self, model: str, cost: int | None):
        world, _ = scripted(Script.json({"type": "message"}))
        await ask(world.gateway, call(await world.run_token(), orjson.dumps({"model": model})))
        assert [sent["cost_micro_usd"] for sent in await world.recorded()] == [cost]

    async def test_a_stream_that_never_told_its_prompt_is_charged_for_one(self):
        world, _ = scripted(Script.stream(*EVENTS[1:]))
        body = orjson.dumps({"model": "claude-sonnet-5-5", "stream": True, "x": "y" * 4000})
        await ask(world.gateway, call(await world.run_token(), body))
        (sent,) = await world.recorded()
        assert (sent["input_tokens"], sent["output_tokens"], sent["status"]) == (0, 12, 200)
        assert await world.spent(SPENT) == pytest.approx(1000 * 2 + 12 * 10, rel=0.02)

    @pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
    async def test_an_answer_that_cannot_be_read_is_one_that_broke_off(self, kind: str):
        world, upstream = scripted(Script(200, [("content-type", kind), ("content-encoding", "br")], [b"x"]))
        with pytest.raises(Unavailable, match="not asked for: br"):
            await ask(world.gateway, call(await world.run_token()))
        assert upstream.ended == 1
        assert [sent["status"] for sent in await world.recorded()] == [502]
        assert await world.spent(SPENT) > 0

    async def test_an_error_passes_in_any_encoding(self):
        headers = [("content-type", "application/json"), ("content-encoding", "br")]
        world, _ = scripted(Script(400, headers, [b"x"]))
        assert await ask(world.gateway, call(await world.run_token())) == (400, b"x")
        assert await world.spent(SPENT) == 0

    async def test_with_the_queue_down_usage_is_recorded_at_once(self):
        world, _ = scripted()
        token = await world.run_token()
        world.queues.down = True
        await ask(world.gateway, call(token))
        await world.books.close()
        total = await world.documents.get(f"usage/{TEAM}", "total")
        assert total
        assert total.body["output_tokens"] == 12


class TestUnanswered:
    """Tries that were sent and never answered may have been billed: each is charged a prompt."""

    BODY = orjson.dumps({"model": "fast", "stream": True, "x": "y" * 40_000})
    PROMPT = 10_000 * 2

    def world(self, *scripts: Script | PlatformError) -> World:
        fakes = [FakeUpstream([script], silent=script is SILENT) for script in scripts]
        upstreams = dict(zip("abc", fakes, strict=True))
        targets = tuple(Target(provider=name, model="claude-sonnet-5-5") for name in upstreams)
        routes = Routes(providers={name: Provider() for name in upstreams}, models={"fast": Route(targets=targets)})
        return World(upstreams["a"], routes=routes, others=upstreams)

    async def charged(self, world: World) -> float:
        (sent,) = await world.recorded()
        assert await world.spent(SPENT) == sent["charged_micro_usd"]
        return sent["charged_micro_usd"] / self.PROMPT

    async def test_when_nobody_answers_all_are_charged(self):
        world = self.world(NoAnswer("silence"), NoAnswer("silence"), NoAnswer("silence"))
        with pytest.raises(NoAnswer):
            await ask(world.gateway, call(await world.run_token(), self.BODY))
        assert await self.charged(world) == pytest.approx(3, abs=0.1)

    async def test_one_that_was_not_sent_is_not(self):
        world = self.world(NoAnswer("silence"), NotSent("gone"), NoAnswer("silence"))
        with pytest.raises(NoAnswer):
            await ask(world.gateway, call(await world.run_token(), self.BODY))
        assert await self.charged(world) == pytest.approx(2, abs=0.1)

    async def test_nor_is_one_that_answered_with_an_error(self):
        world = self.world(NoAnswer("silence"), NoAnswer("silence"), Script.json({}, 529))
        assert (await ask(world.gateway, call(await world.run_token(), self.BODY)))[0] == 529
        assert await self.charged(world) == pytest.approx(2, abs=0.1)

    async def test_leaving_during_the_third_charges_three(self):
        world = self.world(NoAnswer("silence"), NoAnswer("silence"), SILENT)
        work = asyncio.create_task(ask(world.gateway, call(await world.run_token(), self.BODY)))
        async with asyncio.timeout(10):
            while not world.others["c"].requests:
                await asyncio.sleep(0.01)
        work.cancel()
        await asyncio.wait({work})
        assert await self.charged(world) == pytest.approx(3, abs=0.1)


class TestCap:
    @pytest.mark.parametrize(
        ("cap", "told"), [(COST, "$0.0005"), (50, "$0.000050"), (1, "$0.000001"), (100, "$0.0001"), (0, "$0.00")]
    )
    async def test_at_the_cap_the_next_call_is_refused_without_reaching_the_model(self, cap, told):
        world, upstream = scripted(Script.stream(*EVENTS))
        await ask(world.gateway, call(await world.run_token(cap=COST)))
        token = await world.run_token(cap=cap)
        told = f"run's spend cap of {re.escape(told)} is used up .* RUN_SPEND_CAP_USD"
        with pytest.raises(PaymentRequired, match=told):
            await ask(world.gateway, call(token))
        assert len(upstream.requests) == 1

    async def test_calls_at_once_cannot_pass_it_together(self):
        """Each of them alone would: the model answers after all have been checked."""
        world, upstream = scripted(Script.stream(0.05, *EVENTS))
        token = await world.run_token(cap=COST)
        body = b'{"model": "claude-sonnet-5-5", "max_tokens": 40, "stream": true}'
        answers = await asyncio.gather(
            *(ask(world.gateway, call(token, body)) for _ in range(20)), return_exceptions=True
        )
        assert len(upstream.requests) == 1
        refused = [answer for answer in answers if isinstance(answer, RateLimited)]
        assert len(refused) == 19
        assert await world.spent(SPENT) == COST
        with pytest.raises(PaymentRequired):
            await ask(world.gateway, call(token, body))

    @pytest.mark.parametrize("limit", [{}, {"max_tokens": None}, {"max_tokens": -1}])
    async def test_calls_without_a_limit_cannot_pass_it_together(self, limit: dict[str, Any]):
        """Anthropic refuses these; other services answer them."""
        world, upstream = scripted(Script.stream(0.05, *EVENTS))
        token, body = await world.run_token(cap=4096 * 10), orjson.dumps({"model": "claude-sonnet-5-5"} | limit)
        calls = (ask(world.gateway, call(token, body)) for _ in range(20))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert len(upstream.requests) == 1
        assert sum(isinstance(answer, RateLimited) for answer in answers) == 19

    @pytest.mark.parametrize(
        ("asked", "times", "more"),
        [
            ({"speed": "fast"}, 6, 0),
            ({"inference_geo": "us"}, 1.1, 0),
            ({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]}, 1, 30_000),
        ],
    )
    async def test_what_makes_a_call_dearer_is_held_too(self, asked: dict[str, Any], times: float, more: int):
        held: list[int] = []
        for field in (asked, {"metadata": asked}):
            world, _ = scripted(Script.stream(*EVENTS))
            body = orjson.dumps({"model": "claude-sonnet-5-5", "max_tokens": 10_000} | field)
            async with world.gateway.messages(call(await world.run_token(), body)):
                held.append(world.ledger.subjects[SPENT].held)
        assert held[0] == pytest.approx(held[1] * times + more, rel=0.01)

    async def test_a_prompt_that_may_be_written_to_a_cache_cannot_cost_more_than_is_held(self):
        prompt = {"role": "user", "content": [{"type": "text", "text": "x" * 8000, "cache_control": {"ttl": "1h"}}]}
        body = orjson.dumps({"model": "claude-sonnet-5-5", "max_tokens": 10, "messages": [prompt]})
        tokens = len(body) // 2
        told = message(input_tokens=0, output_tokens=10, cache_creation={"ephemeral_1h_input_tokens": tokens})
        world, _ = scripted(Script.json(told))
        await ask(world.gateway, call(await world.run_token(), body))
        assert await world.spent(SPENT) == await self.held_for(body) > tokens * 2

    @staticmethod
    async def held_for(body: bytes) -> int:
        world, _ = scripted(Script.stream(*EVENTS))
        async with world.gateway.messages(call(await world.run_token(), body)):
            return world.ledger.subjects[SPENT].held

    async def test_a_dearer_mode_is_charged_where_nothing_was_reported(self):
        for speed, cost in (("standard", 2000), ("fast", 12_000)):
            world, _ = scripted(NoAnswer("silence"))
            body = orjson.dumps({"model": "claude-sonnet-5-5", "speed": speed, "x": "y" * 4000})
            with pytest.raises(NoAnswer):
                await ask(world.gateway, call(await world.run_token(), body))
            assert await world.spent(SPENT) == pytest.approx(cost, rel=0.02)

    async def test_calls_at_once_are_let_through_while_there_is_room(self):
        world, upstream = scripted(Script.stream(0.05, *EVENTS))
        token, body = await world.run_token(), b'{"model": "claude-sonnet-5-5", "max_tokens": 12}'
        await asyncio.gather(*(ask(world.gateway, call(token, body)) for _ in range(20)))
        assert len(upstream.requests) == 20

    async def test_what_broke_off_holds_nothing_back(self):
        world, upstream = scripted(NotSent("gone"), NotSent("gone"), Script.stream(*EVENTS))
        token, body = await world.run_token(cap=COST * 9), b'{"model": "claude-sonnet-5-5", "max_tokens": 1000000}'
        with pytest.raises(Unavailable):
            await ask(world.gateway, call(token, body))
        assert (await ask(world.gateway, call(token, body)))[0] == 200
        assert len(upstream.requests) == 3

    async def test_runs_have_caps_of_their_own(self):
        world, _ = scripted()
        await ask(world.gateway, call(await world.run_token(cap=1)))
        assert (await ask(world.gateway, call(await world.run_token(cap=1, run=f"run_{TEAM}_0002"))))[0] == 200

    async def test_a_keys_budget_counts_for_its_runs_together(self):
        world, _ = scripted()
        key, record = await world.key()
        await world.keys.change(record.key_hash, lambda _: {"budget": {"month_usd": 0.000001}})
        await ask(world.gateway, call(await world.run_token()))
        for credential in (key, await world.run_token(run=f"run_{TEAM}_0002")):
            with pytest.raises(PaymentRequired, match="key's budget per month of"):
                await ask(world.gateway, call(credential))

    async def test_without_redis_nothing_is_spent(self):
        world, upstream = scripted()
        token = await world.run_token()
        world.ledger.down = True
        with pytest.raises(Unavailable):
            await ask(world.gateway, call(token))
        assert upstream.requests == []

    async def test_what_could_not_be_counted_is_counted_before_the_next_call(self):
        world, _ = scripted(Script.stream(*EVENTS))
        token = await world.run_token(cap=COST)
        async with world.gateway.messages(call(token)) as answer:
            world.ledger.down = True
            await read(answer)
        await world.books.close()
        world.ledger.down = False
        with pytest.raises(PaymentRequired):
            await ask(world.gateway, call(token))


class TestPassThrough:
    async def test_the_body_and_query_go_on_as_they_came(self):
        world, upstream = scripted()
        body = b'{ "model":"claude-x",\n "unknown_field" : {"a":1.50}, "stream": false }'
        await ask(world.gateway, call(await world.run_token(), body))
        assert (upstream.requests[0].body, upstream.requests[0].query) == (body, "beta=true")

    async def test_the_callers_credentials_and_cookies_stay_here(self):
        world, upstream = scripted()
        private = [("authorization", "Bearer x"), ("cookie", "c=1"), ("x-forwarded-for", "10.0.0.1"), ("host", "h")]
        headers = [*private, ("anthropic-beta", "a,b"), ("anthropic-beta", "c"), ("anthropic-version", "2023-06-01")]
        await ask(world.gateway, call(await world.run_token(), headers=headers))
        assert upstream.requests[0].headers == [*headers[4:], ("accept-encoding", "identity")]

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"model": 3}', b'{"model": ""}'])
    async def test_a_request_without_a_model_is_refused_here(self, body: bytes):
        world, upstream = scripted()
        with pytest.raises(BadRequest):
            await ask(world.gateway, call(await world.run_token(), body))
        assert upstream.requests == []

    async def test_a_model_service_that_does_not_answer_is_an_error_of_ours(self):
        world, _ = scripted(NotSent("down"))
        with pytest.raises(Unavailable):
            await ask(world.gateway, call(await world.run_token()))
        assert [(sent["status"], sent["charged_micro_usd"]) for sent in await world.recorded()] == [(0, 0)]


class TestModels:
    @pytest.mark.parametrize(
        "field",
        [
            {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5"}]},
            {"fallbacks": [{"model": "claude-opus-5"}]},
        ],
    )
    async def test_no_other_is_asked_by_the_way(self, field: dict[str, Any]):
        world, upstream = scripted(Script.json(message()))
        key, record = await world.key()
        await world.keys.change(record.key_hash, lambda _: {"models": ["claude-haiku-4-5"]})
        body = orjson.dumps({"model": "claude-haiku-4-5"} | field)
        with pytest.raises(Forbidden, match="claude-haiku-4-5"):
            await ask(world.gateway, call(key, body))
        assert upstream.requests == []


class TestBrokenStream:
    @pytest.mark.parametrize("rest", [b"", b"event: content", b'event: message_stop\ndata: {"type": "mess'])
    async def test_one_that_ends_before_it_is_whole_is_one_that_broke_off(self, rest: bytes):
        world, _ = scripted(Script.stream(*EVENTS[:-1], rest))
        _, body = await ask(world.gateway, call(await world.run_token()))
        assert body.startswith(b"".join(EVENTS[:-1]) + b"event: error\ndata: ")
        assert [sent["status"] for sent in await world.recorded()] == [502]

    @pytest.mark.parametrize("end", [b"\n\n", b""])
    async def test_what_breaks_after_its_end_is_whole(self, end: bytes):
        stream = b"".join(EVENTS).rstrip(b"\n") + end
        world, _ = scripted(Script.stream(stream, Unavailable("It broke off.")))
        assert (await ask(world.gateway, call(await world.run_token())))[1] == stream
        assert [sent["status"] for sent in await world.recorded()] == [200]

    async def test_whoever_leaves_with_the_services_error_has_seen_it_break_off(self):
        world, _ = scripted(Script.stream(b"".join(sse({"type": "error", "error": {}})), 9))
        async with world.gateway.messages(call(await world.run_token())) as answer:
            assert answer.chunks
            await anext(answer.chunks)
        assert [sent["status"] for sent in await world.recorded()] == [502]

    async def test_an_error_may_come_as_events(self):
        (error,) = sse({"type": "error", "error": {}})
        headers = [("content-type", "text/event-stream"), ("content-encoding", "br")]
        world, _ = scripted(Script(400, headers, [error]))
        assert await ask(world.gateway, call(await world.run_token())) == (400, error)
        assert [sent["charged_micro_usd"] for sent in await world.recorded()] == [0]

    async def test_a_content_type_may_be_in_capitals(self):
        world, _ = scripted(replace(Script.stream(*EVENTS), headers=[("content-type", "Text/Event-Stream")]))
        assert (await ask(world.gateway, call(await world.run_token())))[1] == b"".join(EVENTS)

    async def test_what_the_service_says_of_it_itself_is_all(self):
        (error,) = sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
        world, _ = scripted(Script.stream(*EVENTS[:3], error))
        _, body = await ask(world.gateway, call(await world.run_token()))
        assert body == b"".join(EVENTS[:3]) + error
        assert [sent["status"] for sent in await world.recorded()] == [502]

    async def test_half_a_message_is_no_answer(self):
        world, _ = scripted(Script(200, steps=[orjson.dumps(message())[:-20]]))
        with pytest.raises(Unavailable):
            await ask(world.gateway, call(await world.run_token()))
        assert [sent["status"] for sent in await world.recorded()] == [502]

    async def test_between_events_the_client_gets_an_error_event(self):
        world, _ = scripted(Script.stream(*EVENTS[:3], Unavailable("It broke off.")))
        _, body = await ask(world.gateway, call(await world.run_token()))
        assert body.startswith(b"".join(EVENTS[:3]))
        last = body.removeprefix(b"".join(EVENTS[:3]))
        assert last.startswith(b"event: error\ndata: ")
        error = {"type": "error", "error": {"type": "api_error", "message": "It broke off."}}
        assert orjson.loads(last.split(b"data: ")[1]) == error
        assert [sent["status"] for sent in await world.recorded()] == [502]

    async def test_inside_an_event_the_half_is_left_out(self):
        world, _ = scripted(Script.stream(*EVENTS[:3], b"event: content", Unavailable("It broke off.")))
        _, body = await ask(world.gateway, call(await world.run_token()))
        assert body.removeprefix(b"".join(EVENTS[:3])).startswith(b"event: error\n")
        assert [sent["status"] for sent in await world.recorded()] == [502]


async def test_closing_waits_for_the_books():
    world, _ = scripted(Script.json(message()))
    await ask(world.gateway, call(await world.run_token()))
    await world.gateway.close()
    assert len(world.usage()) == 1


class TestPings:
    """On streams that are silent, between their events."""

    async def told(self, *steps: bytes | float | Unavailable, interval: float = 0.02, **script: Any) -> list[bytes]:
        world = World(FakeUpstream([replace(Script.stream(*steps), **script)]), ping_seconds=interval)
        async with world.gateway.messages(call(await world.run_token())) as answer:
            return await read(answer)

    async def told_before_the_end(self, *steps: bytes | float, interval: float = 0.02) -> list[bytes]:
        *before, end = await self.told(*steps, EVENTS[-1], interval=interval)
        assert end == EVENTS[-1]
        return before

    async def test_a_silent_stream_is_pinged_between_events(self):
        got = await self.told_before_the_end(b"data: 1\n\n", 0.07, b"data: 2\n\n")
        assert (got[0], got[-1]) == (b"data: 1\n\n", b"data: 2\n\n")
        assert 1 <= got.count(PING) <= 4

    async def test_silence_before_the_first_event_is_pinged(self):
        assert PING in await self.told(0.05, b"data: 1\n\n")

    @pytest.mark.parametrize("part", [b"data: 1\n", b"data: 1", b"data: 1\r\n", b"data: 1\r\n\r"])
    async def test_never_inside_an_event(self, part: bytes):
        got = await self.told_before_the_end(part, 0.06, b"\n\n")
        assert PING in got
        assert [chunk for chunk in got if chunk is not PING] == [part + b"\n\n"]

    async def test_a_lively_stream_is_left_alone(self):
        steps = [b"data: 1\n\n", 0.001] * 20
        assert await self.told_before_the_end(*steps, interval=5) == [b"data: 1\n\n"] * 20

    @pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
    async def test_a_stream_without_a_last_end_passes_whole(self, end: bytes):
        stream = b"".join(EVENTS).rstrip(b"\n") + end
        assert b"".join(await self.told(stream)) == stream

    async def test_a_break_comes_after_the_last_whole_event(self):
        first, last = await self.told(b"data: 1\n\ndata: 2", Unavailable("gone"))
        assert first == b"data: 1\n\n"
        assert last.startswith(b"event: error\n")

    async def test_compressed_bytes_are_never_pinged(self):
        headers = [("content-type", "text/event-stream"), ("content-encoding", "gzip")]
        packed = gzip.compress(b"".join(EVENTS))
        assert await self.told(packed[:9], 0.06, packed[9:], headers=headers) == [packed[:9], packed[9:]]
