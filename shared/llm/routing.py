"""Sends a call to one provider after the other until one answers; nothing that may have been billed is sent twice."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from shared.core.clock import Clock
from shared.core.errors import Unavailable
from shared.core.log import Log
from shared.llm import headers
from shared.llm.body import with_model
from shared.llm.breaker import Breakers
from shared.llm.routes import Provider, Route, Routes, Target
from shared.llm.upstream import Incoming, NoAnswer, Outgoing, Upstream, Whole

log = Log(__name__)

_FIRST_PAUSE = 0.5
_LARGEST_ANSWER = 64 * 1024 * 1024


class _Lane:
    """One provider as calls see it: with its room, its breakers and what it refuses."""

    def __init__(self, name: str, provider: Provider, upstream: Upstream, clock: Clock) -> None:
        self._name = name
        self._upstream = upstream
        self._most = provider.concurrent
        self._refused = provider.without_betas
        self._breakers = Breakers(provider.breaker_failures, provider.breaker_seconds, clock)
        self._under_way = 0

    async def send(self, request: Outgoing) -> Incoming:
        """What is returned must be given to `end`. Raises Unavailable without sending when there is no room, or the
        provider is left alone."""
        self._require_room(request.team_id)
        self._under_way += 1
        probe, healthy = self._breakers.begin(request.team_id), None
        try:
            incoming = await self._upstream.send(self._without_refused(request))
            healthy = self._health(incoming, probe)
        except BaseException as error:
            healthy = False if isinstance(error, Unavailable) else None
            self._under_way -= 1
            raise
        finally:
            self._breakers.end(request.team_id, probe, healthy)
        return incoming

    def end(self, incoming: Incoming, team_id: str, whole: bool | None = None) -> None:
        """`whole`: False when the answer broke off, None when nobody waited for its end."""
        incoming.close()
        self._under_way -= 1
        if incoming.status < 500:
            self._breakers.end(team_id, False, whole)

    def _health(self, incoming: Incoming, probe: bool) -> bool | None:
        """An answer that begins shows that a provider is back, but not that it can end one."""
        return False if incoming.status >= 500 else True if probe else None

    def _without_refused(self, request: Outgoing) -> Outgoing:
        if not self._refused:
            return request
        return replace(request, headers=headers.without_betas(request.headers, self._refused))

    def _require_room(self, team_id: str) -> None:
        if wait := self._breakers.wait(team_id):
            raise Unavailable(f"Provider {self._name} keeps failing. Try again in a moment.", retry_after=wait)
        if self._most and self._under_way >= self._most:
            raise Unavailable(f"Provider {self._name} has no room for more calls. Try again.", retry_after=1)


class Routed(NamedTuple):
    """The answer, and who gave it."""

    incoming: Incoming
    target: Target
    lane: _Lane | None = None
    team_id: str = ""

    def close(self, whole: bool | None = None) -> None:
        """Ends the request. `whole`: False when the answer broke off, None when nobody waited for its end."""
        if self.lane:
            self.lane.end(self.incoming, self.team_id, whole)


class _Tries:
    """What has come of a call so far: the last error answer, or the reason there is none."""

    def __init__(self) -> None:
        self._answer: Routed | None = None
        self._error: Unavailable | None = None
        self._waits: list[float] = []

    def answered(self, answer: Routed) -> None:
        self._answer = answer
        self._waits.append(headers.retry_after(answer.incoming.headers))

    def failed(self, error: Unavailable) -> None:
        if not self.unanswered:
            self._error = error
        self._waits.append(error.retry_after or 0)

    @property
    def unanswered(self) -> bool:
        """Whether it was sent in vain."""
        return isinstance(self._error, NoAnswer)

    def wait(self) -> float:
        """The shortest that some target asked for since last time."""
        waits, self._waits = self._waits, []
        return min(waits)

    def result(self) -> Routed:
        if self._answer:
            return self._answer
        raise self._error or Unavailable("No provider was asked.")


class Router:
    """`providers`: the upstream of each of the routes' providers. Breakers and room are this process's own."""

    def __init__(
        self,
        routes: Routes,
        providers: Mapping[str, Upstream],
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self.routes = routes
        self._providers = providers
        self._lanes = {
            name: _Lane(name, provider, providers[name], clock) for name, provider in routes.providers.items()
        }
        self._sleep = sleep
        self._random = rng or random.Random()

    async def send(self, request: Outgoing, model: str, gave_up: Callable[[], None] = lambda: None) -> Routed:
        """The first answer that no other target could better: any but 429 and 5xx; else the last of those. Close it.

        `gave_up` is told of each try that was sent and not answered, which may have been billed all the same.
        Raises NotFound for a model without a route, Unavailable where nobody answered. What was sent and not answered
        goes on to the next target only if it asked for a stream, which begins before the model does its work.
        """
        route = self.routes.find(model)
        tries = _Tries()
        for repetition in range(self.routes.retries + 1):
            if repetition and (tries.unanswered or not await self._paused(repetition, tries.wait())):
                break
            for target in self._order(route):
                try:
                    routed = await self._try(target, _addressed(request, target, model))
                except NoAnswer as error:
                    gave_up()
                    if not request.streamed:
                        raise
                    tries.failed(error)
                except Unavailable as error:
                    tries.failed(error)
                else:
                    if routed.lane:
                        return routed
                    tries.answered(routed)
                    log.info("llm.provider_refused", provider=target.provider, status=routed.incoming.status)
        return tries.result()

    async def ask(self, provider: str, request: Outgoing) -> Routed:
        """One provider, once."""
        lane = self._lanes[provider]
        return Routed(await lane.send(request), Target(provider=provider), lane, request.team_id)

    async def close(self) -> None:
        for provider in self._providers.values():
            await provider.close()

    async def _try(self, target: Target, request: Outgoing) -> Routed:
        """An answer that may be bettered is read to its end, and frees its room."""
        lane = self._lanes[target.provider]
        incoming = await lane.send(request)
        if not _passes(incoming.status):
            return Routed(incoming, target, lane, request.team_id)
        try:
            body = await whole(incoming)
        except BaseException:
            lane.end(incoming, request.team_id)
            raise
        lane.end(incoming, request.team_id, True)
        return Routed(Whole(incoming.status, incoming.headers, body), target)

    def _order(self, route: Route) -> Sequence[Target]:
        if not any(route.weights):
            return route.targets
        (first,) = self._random.choices(route.targets, route.weights)
        others = list(route.targets)
        others.remove(first)
        return [first, *others]

    async def _paused(self, repetition: int, asked: float) -> bool:
        """Waits as long as was asked for, and somewhat more, so that not all come back at once. False: too long."""
        longest = self.routes.longest_wait_seconds
        if asked > longest:
            return False
        pause = _FIRST_PAUSE * 2 ** (repetition - 1)
        await self._sleep(min(asked + pause * self._random.uniform(0.5, 1), longest + pause))
        return True


def _passes(status: int) -> bool:
    """Whether another target, or another time, may do better. The provider has billed nothing."""
    return status == 429 or status >= 500


def _addressed(request: Outgoing, target: Target, model: str) -> Outgoing:
    if not target.model or target.model == model:
        return request
    return replace(request, body=with_model(request.body, target.model))


async def whole(incoming: Incoming) -> bytes:
    """All of an answer that is no stream."""
    body = await incoming.read() or b""
    parts: list[bytes] = [body] if body else []
    size = len(body)
    while body:
        body = await incoming.read() or b""
        size += len(body)
        if size > _LARGEST_ANSWER:
            raise Unavailable("The model service sent an answer over 64 MB. Ask for a stream instead.")
        parts.append(body)
    return b"".join(parts)
