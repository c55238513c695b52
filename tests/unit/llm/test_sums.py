"""Sums of usage against the model service's own count."""

import random
from collections import Counter, defaultdict
from contextlib import suppress

import orjson
import pytest

from shared.core import usage
from shared.core.errors import Unavailable
from shared.llm.upstream import Incoming, Outgoing
from tests.fakes.upstream import Played, message, sse, stream_events
from tests.unit.llm.world import TEAM, World, call, read

REQUESTS = 10_000
RUNS = [f"run_{TEAM}_{number:04d}" for number in range(7)]
MODELS = ("claude-sonnet-5-5", "claude-haiku-5-5", "demo-1", "llama-9")
STREAM = [("content-type", "text/event-stream")]
JSON = [("content-type", "application/json")]


class CountingUpstream:
    """Answers at random, and keeps count of what it told: whole answers, streams, streams that break off, errors."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.total: Counter[str] = Counter()
        self.by_model: defaultdict[str, Counter[str]] = defaultdict(Counter)

    async def send(self, request: Outgoing) -> Incoming:
        model = orjson.loads(request.body)["model"]
        told = {
            "input_tokens": self._dice.randrange(1, 5000),
            "cache_read_input_tokens": self._dice.choice((0, self._dice.randrange(100_000))),
            "cache_creation_input_tokens": self._dice.choice((0, self._dice.randrange(5000))),
        }
        output = self._dice.randrange(1, 2000)
        match self._dice.choice(("json", "json", "stream", "stream", "stream", "cut", "error")):
            case "json":
                self._count(model, told, output)
                return Played(200, JSON, [orjson.dumps(message(model, **told, output_tokens=output))])
            case "stream":
                self._count(model, told, output)
                events = sse(*stream_events(("a", "b"), model, output, **told))
                return Played(200, STREAM, list(events))
            case "cut":
                self._count(model, told, 1)
                events = sse(*stream_events(("a", "b"), model, output, **told))
                return Played(200, STREAM, [*events[:3], Unavailable("It broke off.")])
            case _:
                return Played(529, JSON, [b'{"type": "error"}'])

    async def close(self) -> None:
        pass

    def _count(self, model: str, told: dict[str, int], output: int) -> None:
        for counter in (self.total, self.by_model[model]):
            counter["requests"] += 1
            counter["input_tokens"] += told["input_tokens"]
            counter["cache_read_tokens"] += told["cache_read_input_tokens"]
            counter["cache_write_tokens"] += told["cache_creation_input_tokens"]
            counter["output_tokens"] += output


@pytest.mark.timeout(300)
async def test_sums_over_10_000_random_requests_are_the_model_services_own_count():
    dice = random.Random(11)
    upstream = CountingUpstream(dice)
    world = World(upstream)
    tokens = [await world.run_token(cap=10**12, run=run) for run in RUNS]
    by_run: Counter[str] = Counter()
    for number in range(REQUESTS):
        place = dice.randrange(len(RUNS))
        by_run[RUNS[place]] += 1
        body = orjson.dumps({"model": dice.choice(MODELS), "max_tokens": 2000})
        with suppress(Unavailable):
            async with world.gateway.messages(call(tokens[place], body)) as answer:
                await read(answer)
        if number % 100 == 0:
            world.clock.advance(870)  # all in all a day, more or less
            await world.books.close()
    await world.books.close()
    for sent in world.queues.bodies("usage"):
        await world.recorder.record(sent)
        if dice.random() < 0.1:
            await world.recorder.record(sent)
    total = (await usage.team_usage(world.documents, TEAM)).model_dump()
    told = {name: upstream.total[name] for name in upstream.total}
    assert {name: total[name] for name in told} == told
    assert total["unpriced_requests"] == upstream.by_model["llama-9"]["requests"]
    cells = await usage.cells(world.documents, TEAM, "2026-01-01", "2026-01-03")
    for model, counted in upstream.by_model.items():
        assert {name: sum(cell[name] for cell in cells if cell["model"] == model) for name in counted} == counted
    for run in await usage.usage_by_run(world.documents, TEAM):
        assert run.usage.requests + run.usage.failed_requests == by_run[run.run_id]
    days = await usage.usage_by_day(world.documents, TEAM)
    assert sum(day.usage.output_tokens for day in days) == upstream.total["output_tokens"]
    spent = [(await usage.spent(world.documents, TEAM, f"run/{run}"))["total"] for run in RUNS]
    assert sum(spent) == (await usage.spent(world.documents, TEAM, f"team/{TEAM}"))["total"]
