"""Sends a call to one provider after the other until one answers; nothing that may have been billed is sent twice."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from shared.core.clock import Clock
from shared.core.errors import Unavailable
from shared.core.log import Log
from shared.llm import headers
from shared.llm.body import with_model
from shared.llm.breaker import Breaker
from shared.llm.routes import Provider, Route, Routes, Target
from shared.llm.upstream import Incoming, NoAnswer, Outgoing, Upstream

log = Log(__name__)

_FIRST_PAUSE = 0.5
_LARGEST_ANSWER = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Routed:
    """The answer, who gave it, and how many earlier tries, given up unanswered, may have been billed all the same."""

    incoming: Incoming
    target: Target
    given_up: int = 0


class _Lane:
    """One provider as calls see it: with its room, its breaker and what it refuses."""

    def __init__(self, name: str, provider: Provider, upstream: Upstream, clock: Clock) -> None:
        self._name = name
        self._upstream = upstream
        self._most = provider.concurrent
        self._refused = provider.without_betas
        self._breaker = Breaker(provider.breaker_failures, provider.breaker_seconds, clock)
        self._under_way = 0

    @asynccontextmanager
    async def open(self, request: Outgoing) -> AsyncGenerator[Incoming]:
        """Raises Unavailable without sending when there is no room, or the provider is left alone."""
        self._require_room()
        self._under_way += 1
        probe, healthy, learned = self._breaker.begin(), None, False
        try:
            async with self._upstream.open(self._without_refused(request)) as incoming:
                learned = True
                self._breaker.end(probe, incoming.status < 500)
                yield incoming
        except Unavailable:
            healthy = False
            raise
        finally:
            if not learned:
                self._breaker.end(probe, healthy)
            self._under_way -= 1

    def _without_refused(self, request: Outgoing) -> Outgoing:
        if not self._refused:
            return request
        return replace(request, headers=headers.without_betas(request.headers, self._refused))

    def _require_room(self) -> None:
        if wait := self._breaker.wait():
            raise Unavailable(f"Provider {self._name} keeps failing. Try again in a moment.", retry_after=wait)
        if self._most and self._under_way >= self._most:
            raise Unavailable(f"Provider {self._name} has no room for more calls. Try again.", retry_after=1)


class _Tries:
    """What has come of a call so far: the last error answer, or the reason there is none."""

    def __init__(self) -> None:
        self.given_up = 0
        self._answer: Routed | None = None
        self._error = Unavailable("No provider was asked.")
        self._waits: list[float] = []

    def answered(self, answer: Routed) -> None:
        self._answer = answer
        self._waits.append(headers.retry_after(answer.incoming.headers))

    def failed(self, error: Unavailable) -> None:
        if not isinstance(self._error, NoAnswer):
            self._error = error
        self._waits.append(error.retry_after or 0)

    def wait(self) -> float:
        """The shortest that some target asked for since last time."""
        waits, self._waits = self._waits, []
        return min(waits)

    def result(self) -> Routed:
        if self._answer:
            return replace(self._answer, given_up=self.given_up)
        raise self._error


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

    @asynccontextmanager
    async def open(self, request: Outgoing, model: str) -> AsyncGenerator[Routed]:
        """The first answer that no other target could better: any but 429 and 5xx; else the last of those.

        Raises NotFound for a model without a route, Unavailable where nobody answered. What was sent and not answered
        goes on to the next target only if it asked for a stream, which begins before the model does its work.
        """
        route = self.routes.find(model)
        async with AsyncExitStack() as stack:
            yield await self._answer(stack, route, request, model)

    @asynccontextmanager
    async def ask(self, provider: str, request: Outgoing) -> AsyncGenerator[Incoming]:
        """One provider, once."""
        async with self._lanes[provider].open(request) as incoming:
            yield incoming

    async def close(self) -> None:
        for provider in self._providers.values():
            await provider.close()

    async def _answer(self, stack: AsyncExitStack, route: Route, request: Outgoing, model: str) -> Routed:
        tries = _Tries()
        for repetition in range(self.routes.retries + 1):
            if repetition and (tries.given_up or not await self._paused(repetition, tries.wait())):
                break
            for target in self._order(route):
                try:
                    answer = await self._try(stack, target, _addressed(request, target, model))
                except NoAnswer as error:
                    tries.given_up += 1
                    if not request.streamed:
                        raise
                    tries.failed(error)
                except Unavailable as error:
                    tries.failed(error)
                else:
                    if not _passes(answer.status):
                        return Routed(answer, target, tries.given_up)
                    tries.answered(Routed(answer, target))
                    log.info("llm.provider_refused", provider=target.provider, status=answer.status)
        return tries.result()

    async def _try(self, stack: AsyncExitStack, target: Target, request: Outgoing) -> Incoming:
        """An answer kept open in `stack`; one that may be bettered is read to its end, and frees its room."""
        incoming = await stack.enter_async_context(self._lanes[target.provider].open(request))
        if not _passes(incoming.status):
            return incoming
        try:
            body = await whole(incoming.chunks)
        finally:
            await stack.aclose()
        return Incoming(incoming.status, incoming.headers, once(body))

    def _order(self, route: Route) -> list[Target]:
        targets = list(route.targets)
        if any(target.weight for target in targets):
            (first,) = self._random.choices(targets, [target.weight for target in targets])
            targets.remove(first)
            targets.insert(0, first)
        return targets

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


async def whole(chunks: AsyncIterator[bytes]) -> bytes:
    """All of an answer that is no stream."""
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > _LARGEST_ANSWER:
            raise Unavailable("The model service sent an answer over 64 MB. Ask for a stream instead.")
        parts.append(chunk)
    return b"".join(parts)


async def once(body: bytes) -> AsyncIterator[bytes]:
    """An answer that is whole already, as its chunks."""
    yield body
