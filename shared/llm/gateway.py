"""The LLM gateway: checks who pays and whether they may, passes the call through untouched, records what it used."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import orjson

from shared.core import ids
from shared.core.clock import Clock, iso
from shared.core.errors import PlatformError, Unavailable
from shared.core.log import Log
from shared.core.messages import VERSION
from shared.core.ports import Json, Queues
from shared.llm import errors, headers, listing
from shared.llm.body import Asked, asked
from shared.llm.keys import Keys
from shared.llm.meter import Meter, Report
from shared.llm.models import LONGEST_MODEL, Answer, Call, Caller, Share, TokenCounts, UsageMessage
from shared.llm.prices import cost_micro_usd
from shared.llm.routing import Router, whole
from shared.llm.service import UsageRecorder
from shared.llm.spend import Spend
from shared.llm.sse import PING, with_pings
from shared.llm.upstream import Incoming, NoAnswer, Outgoing

log = Log(__name__)

_CLIENT_GONE = 499
_BROKEN_OFF = 502


class _Bill:
    """One answer while it is under way: what it used, and whether that was charged."""

    def __init__(self, caller: Caller, call: Call, model: str, max_tokens: int, clock: Clock) -> None:
        self.caller = caller
        self.report = Report(model)
        self.status = 0
        self.given_up = 0
        """Tries that were sent and never answered: they may have been billed."""
        self.charged = False
        self.most = cost_micro_usd([Share(model, TokenCounts(input=len(call.body) // 4, output=max_tokens))])
        """What it may cost: the whole body as fresh input, and all the output that was asked for."""
        self._clock = clock
        self._body_size = len(call.body)
        self._began = clock.now()
        self._first_byte_ms: int | None = None

    def first_byte(self) -> None:
        if self._first_byte_ms is None:
            self._first_byte_ms = self._elapsed()

    @property
    def due(self) -> bool:
        """Errors of the model service cost nothing; a call that never got an answer may have cost something."""
        return self._answered or self.given_up > 0

    @property
    def _answered(self) -> bool:
        return self.status in (_CLIENT_GONE, _BROKEN_OFF) or 200 <= self.status < 300

    def cap_micro_usd(self) -> int:
        """What caps are charged: never less than was reported, and never nothing for what broke off."""
        known = self.report.complete and not self.report.empty
        shares = self.report.shares() if known or not self._answered else self.report.at_least(self._body_size)
        prompt = Share(self.report.model, TokenCounts(input=self._body_size // 4))
        return cost_micro_usd([*shares, *[prompt] * self.given_up])

    def usage_message(self) -> UsageMessage:
        shares = self.report.shares()
        return UsageMessage(
            version=VERSION,
            id=ids.sortable(),
            team_id=self.caller.team_id,
            run_id=self.caller.run_id,
            card_id=self.caller.card_id,
            key_id=self.caller.key_id,
            model=self.report.model[:LONGEST_MODEL],
            input_tokens=_total(shares, "input"),
            output_tokens=_total(shares, "output"),
            cache_read_tokens=_total(shares, "cache_read"),
            cache_write_tokens=_total(shares, "cache_write"),
            cost_micro_usd=cost_micro_usd(shares),
            time=iso(self._clock.now()),
            duration_ms=self._elapsed(),
            first_byte_ms=self._elapsed() if self._first_byte_ms is None else self._first_byte_ms,
            status=self.status,
        )

    def _elapsed(self) -> int:
        return round((self._clock.now() - self._began).total_seconds() * 1000)


class Gateway:
    """`ping_seconds`: how long a stream may be silent before the client gets a ping event."""

    def __init__(
        self,
        keys: Keys,
        spend: Spend,
        router: Router,
        queues: Queues,
        recorder: UsageRecorder,
        clock: Clock,
        ping_seconds: float = 15,
    ) -> None:
        self._keys = keys
        self._spend = spend
        self._router = router
        self._queues = queues
        self._recorder = recorder
        self._clock = clock
        self._ping_seconds = ping_seconds
        self._settling: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def messages(self, call: Call) -> AsyncGenerator[Answer]:
        """POST /v1/messages. Leaving early ends the call upstream; what was used by then is billed."""
        caller = await self._keys.authenticate(call.headers)
        wanted = asked(call.body)
        priced_as = self._router.routes.find(wanted.model).targets[0].model or wanted.model
        bill = _Bill(caller, call, priced_as, wanted.max_tokens, self._clock)
        await self._spend.admit(caller.caps, bill.most)
        try:
            async with self._router.open(_outgoing(call, wanted), wanted.model) as routed:
                incoming = routed.incoming
                bill.given_up, bill.status = routed.given_up, incoming.status
                if incoming.header("content-type").startswith("text/event-stream"):
                    async with aclosing(self._stream(incoming, bill)) as chunks:
                        yield Answer(incoming.status, headers.back(incoming.headers), chunks)
                else:
                    body = await self._whole(incoming, bill)
                    yield Answer(incoming.status, headers.back(incoming.headers, len(body)), _once(body))
            if bill.status < 300 and not bill.report.complete:
                bill.status = _CLIENT_GONE
        except NoAnswer:
            bill.status = _BROKEN_OFF
            raise
        except (asyncio.CancelledError, GeneratorExit):
            if bill.status < 300 and not bill.report.complete:
                bill.status = _CLIENT_GONE
            raise
        finally:
            await self._detached(self._settle(bill))

    @asynccontextmanager
    async def count_tokens(self, call: Call) -> AsyncGenerator[Answer]:
        """POST /v1/messages/count_tokens, which costs nothing."""
        await self._keys.authenticate(call.headers)
        wanted = asked(call.body)
        async with self._router.open(_outgoing(call), wanted.model) as routed:
            yield await _passed_on(routed.incoming)

    @asynccontextmanager
    async def models(self, call: Call) -> AsyncGenerator[Answer]:
        """GET /v1/models: what the routes name; where they name none, what the provider of all models lists."""
        await self._keys.authenticate(call.headers)
        routes = self._router.routes
        if routes.named:
            yield _told(listing.page(routes, call.query))
        else:
            async with self._router.ask(listing.provider_of_all(routes), _outgoing(call)) as incoming:
                yield await _passed_on(incoming)

    @asynccontextmanager
    async def model(self, call: Call, name: str) -> AsyncGenerator[Answer]:
        """GET /v1/models/{name}. Raises NotFound for one without a route."""
        await self._keys.authenticate(call.headers)
        route = self._router.routes.find(name)
        if name in self._router.routes.named:
            yield _told(listing.description(name, route))
        else:
            async with self._router.ask(route.targets[0].provider, _outgoing(call)) as incoming:
                yield await _passed_on(incoming)

    async def close(self) -> None:
        """Waits until everything used is recorded."""
        while self._settling:
            await asyncio.wait(self._settling)
        await self._router.close()

    async def _stream(self, incoming: Incoming, bill: _Bill) -> AsyncGenerator[bytes]:
        """Charges before the end is passed on, so that a client's next call meets the raised count."""
        encoding = incoming.header("content-encoding")
        meter = Meter(bill.report, encoding, streamed=True)
        source = incoming.chunks if encoding else with_pings(incoming.chunks, self._ping_seconds)
        try:
            async for chunk in source:
                if chunk is not PING:
                    bill.first_byte()
                    meter.feed(chunk)
                if bill.report.complete and not bill.charged:
                    await self._detached(self._charge(bill))
                yield chunk
            if not bill.report.complete and bill.status < 300:
                bill.status = _BROKEN_OFF
        except Unavailable as error:
            bill.status = _BROKEN_OFF
            log.warning("llm.stream_broken_off", key_id=bill.caller.key_id, run_id=bill.caller.run_id)
            if encoding:
                raise
            yield errors.event(error)
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    async def _whole(self, incoming: Incoming, bill: _Bill) -> bytes:
        meter = Meter(bill.report, incoming.header("content-encoding"), streamed=False)
        try:
            body = await whole(incoming.chunks)
            bill.first_byte()
            if incoming.status < 300:
                meter.feed(body)
                meter.end()
        except Unavailable:
            bill.status = _BROKEN_OFF
            raise
        await self._detached(self._charge(bill))
        return body

    async def _detached(self, work: Awaitable[None]) -> None:
        """Accounting ends even when the request that caused it is cancelled."""
        task = asyncio.ensure_future(work)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        await asyncio.shield(task)

    async def _charge(self, bill: _Bill) -> None:
        if bill.charged or not bill.due:
            return
        bill.charged = True
        await self._spend.charge(bill.caller.caps, bill.cap_micro_usd())

    async def _settle(self, bill: _Bill) -> None:
        try:
            await self._charge(bill)
        finally:
            self._spend.release(bill.caller.caps, bill.most)
        if not bill.due:
            log.info("llm.refused_upstream", key_id=bill.caller.key_id, run_id=bill.caller.run_id, status=bill.status)
            return
        if bill.report.empty:
            log.warning("llm.usage_not_reported", key_id=bill.caller.key_id, status=bill.status)
        message = bill.usage_message().model_dump()
        try:
            await self._queues.send("usage", message)
        except Unavailable as error:
            log.warning("llm.usage_queue_down", reason=error.detail)
            await self._record_directly(message)

    async def _record_directly(self, message: dict[str, Any]) -> None:
        try:
            await self._recorder.record(message)
        except PlatformError:
            log.exception("llm.usage_lost", usage=message)


def _outgoing(call: Call, wanted: Asked | None = None) -> Outgoing:
    streamed = wanted is not None and wanted.streamed
    return Outgoing(call.method, call.path, call.query, headers.forth(call.headers, streamed), call.body, streamed)


async def _passed_on(incoming: Incoming) -> Answer:
    body = await whole(incoming.chunks)
    return Answer(incoming.status, headers.back(incoming.headers, len(body)), _once(body))


def _told(value: Json) -> Answer:
    body = orjson.dumps(value)
    return Answer(200, headers.back([("content-type", "application/json")], len(body)), _once(body))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _total(shares: list[Share], name: str) -> int:
    return sum(getattr(share.tokens, name) for share in shares)
