"""The LLM gateway: checks who pays and whether they may, passes the call through untouched, records what it used."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import orjson

from shared.core.clock import Clock
from shared.core.errors import Unavailable
from shared.core.log import Log
from shared.core.ports import Json
from shared.llm import errors, headers, listing
from shared.llm.bill import Bill
from shared.llm.body import Asked, asked
from shared.llm.books import Books
from shared.llm.keys import Keys
from shared.llm.meter import Meter
from shared.llm.models import BROKEN_OFF, CLIENT_GONE, Answer, Call, Share, TokenCounts
from shared.llm.prices import budget_micro_usd
from shared.llm.routing import Router, once, whole
from shared.llm.sse import PING, with_pings
from shared.llm.upstream import Incoming, NoAnswer, Outgoing

log = Log(__name__)


class Gateway:
    """`ping_seconds`: how long a stream may be silent before the client gets a ping event."""

    def __init__(
        self,
        keys: Keys,
        books: Books,
        router: Router,
        clock: Clock,
        ping_seconds: float = 15,
    ) -> None:
        self._keys = keys
        self._books = books
        self._router = router
        self._clock = clock
        self._ping_seconds = ping_seconds

    @asynccontextmanager
    async def messages(self, call: Call) -> AsyncGenerator[Answer]:
        """POST /v1/messages. Leaving early ends the call upstream; what was used by then is billed."""
        caller = await self._keys.authenticate(call.headers)
        wanted = asked(call.body)
        caller.check_model(wanted.model)
        bill = Bill(caller, call, self._dearest(wanted.model), wanted.max_tokens, self._clock, streamed=wanted.streamed)
        await self._books.admit(bill)
        try:
            async with self._router.open(_outgoing(call, wanted), wanted.model) as routed:
                incoming = routed.incoming
                bill.given_up, bill.status = routed.given_up, incoming.status
                if incoming.header("content-type").startswith("text/event-stream"):
                    async with aclosing(self._stream(incoming, bill)) as chunks:
                        yield Answer(incoming.status, [*headers.back(incoming.headers), *bill.notes], chunks)
                else:
                    body = await self._whole(incoming, bill)
                    answered = [*headers.back(incoming.headers, len(body)), *bill.notes]
                    yield Answer(incoming.status, answered, once(body))
            if bill.status < 300 and not bill.report.complete:
                bill.status = CLIENT_GONE
        except NoAnswer:
            bill.status = BROKEN_OFF
            raise
        except (asyncio.CancelledError, GeneratorExit):
            if bill.status < 300 and not bill.report.complete:
                bill.status = CLIENT_GONE
            raise
        finally:
            self._books.settle(bill)

    @asynccontextmanager
    async def count_tokens(self, call: Call) -> AsyncGenerator[Answer]:
        """POST /v1/messages/count_tokens, which costs nothing."""
        caller = await self._keys.authenticate(call.headers)
        wanted = asked(call.body)
        caller.check_model(wanted.model)
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
        await self._books.close()
        await self._router.close()

    def _dearest(self, model: str) -> str:
        """Whichever target answers, no more than was held is spent."""
        names = self._router.routes.find(model).names(model)
        return names[0] if len(names) == 1 else max(names, key=self._price)

    def _price(self, model: str) -> int:
        million = TokenCounts(input=1_000_000, output=1_000_000)
        return budget_micro_usd([Share(model, million)], self._clock.now().date())

    async def _stream(self, incoming: Incoming, bill: Bill) -> AsyncGenerator[bytes]:
        """Settles before the end is passed on, so that a client's next call meets the raised count."""
        encoding = incoming.header("content-encoding")
        meter = Meter(bill.report, encoding, streamed=True)
        source = incoming.chunks if encoding else with_pings(incoming.chunks, self._ping_seconds)
        try:
            async for chunk in source:
                if chunk is not PING:
                    bill.first_byte()
                    meter.feed(chunk)
                if bill.report.complete:
                    self._books.settle(bill)
                yield chunk
            if not bill.report.complete and bill.status < 300:
                bill.status = BROKEN_OFF
        except Unavailable as error:
            bill.status = BROKEN_OFF
            log.warning("llm.stream_broken_off", key_id=bill.caller.key_id, run_id=bill.caller.run_id)
            if encoding:
                raise
            yield errors.event(error)
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    async def _whole(self, incoming: Incoming, bill: Bill) -> bytes:
        meter = Meter(bill.report, incoming.header("content-encoding"), streamed=False)
        try:
            body = await whole(incoming.chunks)
            bill.first_byte()
            if incoming.status < 300:
                meter.feed(body)
                meter.end()
        except Unavailable:
            bill.status = BROKEN_OFF
            raise
        self._books.settle(bill)
        return body


def _outgoing(call: Call, wanted: Asked | None = None) -> Outgoing:
    streamed = wanted is not None and wanted.streamed
    return Outgoing(call.method, call.path, call.query, headers.forth(call.headers, streamed), call.body, streamed)


async def _passed_on(incoming: Incoming) -> Answer:
    body = await whole(incoming.chunks)
    return Answer(incoming.status, headers.back(incoming.headers, len(body)), once(body))


def _told(value: Json) -> Answer:
    body = orjson.dumps(value)
    return Answer(200, headers.back([("content-type", "application/json")], len(body)), once(body))
