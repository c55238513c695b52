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
from shared.llm.models import BROKEN_OFF, CLIENT_GONE, Answer, Call, Caller, Share, TokenCounts
from shared.llm.prices import budget_micro_usd
from shared.llm.routing import Routed, Router, whole
from shared.llm.sse import PING, Events
from shared.llm.upstream import Headers, Incoming, NoAnswer, Outgoing, header

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
        caller.check_models(wanted.model, *wanted.beside)
        bill = Bill(caller, call, wanted, self._dearest(wanted), self._clock)
        await self._books.admit(bill)
        routed: Routed | None = None
        try:
            routed = await self._router.send(_outgoing(call, caller, wanted), wanted.model, bill.gave_up)
            incoming = routed.incoming
            bill.status = incoming.status
            if incoming.status < 300 and header(incoming, "content-type").lower().startswith("text/event-stream"):
                async with aclosing(self._stream(incoming, bill)) as chunks:
                    yield Answer(incoming.status, [*headers.back(incoming.headers), *bill.notes], chunks=chunks)
            else:
                body = await self._whole(incoming, bill)
                yield Answer(incoming.status, [*headers.back(incoming.headers, len(body)), *bill.notes], body)
            if bill.status < 300 and not bill.report.complete:
                bill.status = CLIENT_GONE
        except NoAnswer:
            bill.status = BROKEN_OFF
            bill.given_up -= 1  # the last of them is what broke off
            raise
        except (asyncio.CancelledError, GeneratorExit):
            if bill.status < 300 and not bill.report.complete:
                bill.status = CLIENT_GONE
            raise
        finally:
            if routed:
                routed.close(_ended(bill.status))
            self._books.settle(bill)

    @asynccontextmanager
    async def count_tokens(self, call: Call) -> AsyncGenerator[Answer]:
        """POST /v1/messages/count_tokens, which costs nothing."""
        caller = await self._keys.authenticate(call.headers)
        wanted = asked(call.body)
        caller.check_models(wanted.model, *wanted.beside)
        yield await _passed_on(await self._router.send(_outgoing(call, caller), wanted.model))

    @asynccontextmanager
    async def models(self, call: Call) -> AsyncGenerator[Answer]:
        """GET /v1/models: what the routes name; where they name none, what the provider of all models lists."""
        caller = await self._keys.authenticate(call.headers)
        routes = self._router.routes
        if routes.named:
            yield _told(listing.page(routes, call.query))
        else:
            asking = self._router.ask(listing.provider_of_all(routes), _outgoing(call, caller))
            yield await _passed_on(await asking)

    @asynccontextmanager
    async def model(self, call: Call, name: str) -> AsyncGenerator[Answer]:
        """GET /v1/models/{name}. Raises NotFound for one without a route."""
        caller = await self._keys.authenticate(call.headers)
        route = self._router.routes.find(name)
        if name in self._router.routes.named:
            yield _told(listing.description(name, route))
        else:
            yield await _passed_on(await self._router.ask(route.targets[0].provider, _outgoing(call, caller)))

    async def check_key(self, headers: Headers) -> None:
        """Raises Unauthenticated or Forbidden for a call with these headers, whatever its body."""
        await self._keys.authenticate(headers)

    async def close(self) -> None:
        """Waits until everything used is recorded."""
        await self._books.close()
        await self._router.close()

    def _dearest(self, wanted: Asked) -> str:
        """Whichever target answers, no more than was held is spent."""
        names = [*self._router.routes.find(wanted.model).names(wanted.model), *wanted.beside]
        return names[0] if len(names) == 1 else max(names, key=lambda name: self._price(name, wanted.fast))

    def _price(self, model: str, fast: bool) -> int:
        million = TokenCounts(input=1_000_000, output=1_000_000)
        return budget_micro_usd([Share(model, million, fast)], self._clock.now().date())

    async def _stream(self, incoming: Incoming, bill: Bill) -> AsyncGenerator[bytes]:
        """Settles before the end is passed on, so that a client's next call meets the raised count."""
        encoding = header(incoming, "content-encoding")
        events = None if encoding else Events()
        broken: Unavailable | None = None
        try:
            meter = Meter(bill.report, encoding, streamed=True)
            try:
                while (chunk := await incoming.read(self._ping_seconds)) != b"":
                    if chunk is None:
                        if events:
                            yield PING
                        continue
                    bill.first_byte()
                    if whole := events.feed(chunk) if events else chunk:
                        meter.feed(whole)
                        self._note_end(bill)
                        yield whole
            except Unavailable as error:
                broken = error
            rest = events.rest() if events else b""
            meter.feed(rest)
            meter.end(broken)
            self._note_end(bill)
            if rest:
                yield rest
            if broken and encoding:
                raise broken
        except Unavailable as error:
            bill.status = BROKEN_OFF
            log.warning("llm.stream_broken_off", key_id=bill.caller.key_id, run_id=bill.caller.run_id)
            if encoding:
                raise
            yield errors.event(error)

    def _note_end(self, bill: Bill) -> None:
        """Before it is passed on: many clients leave with it."""
        if bill.report.failed:
            bill.status = BROKEN_OFF
        if bill.report.complete:
            self._books.settle(bill)

    async def _whole(self, incoming: Incoming, bill: Bill) -> bytes:
        try:
            body = await whole(incoming)
            bill.first_byte()
            if incoming.status < 300:
                meter = Meter(bill.report, header(incoming, "content-encoding"), streamed=False)
                meter.feed(body)
                meter.end()
        except Unavailable:
            bill.status = BROKEN_OFF
            raise
        self._books.settle(bill)
        return body


def _outgoing(call: Call, caller: Caller, wanted: Asked | None = None) -> Outgoing:
    streamed = wanted is not None and wanted.streamed
    sent = headers.forth(call.headers, streamed)
    return Outgoing(call.method, call.path, call.query, sent, call.body, streamed, caller.team_id)


async def _passed_on(routed: Routed) -> Answer:
    try:
        body = await whole(routed.incoming)
    except BaseException as error:
        routed.close(False if isinstance(error, Unavailable) else None)
        raise
    routed.close(True)
    return Answer(routed.incoming.status, headers.back(routed.incoming.headers, len(body)), body)


def _ended(status: int) -> bool | None:
    """Whether the provider ended its answer; None when the client left before."""
    return None if status == CLIENT_GONE else status != BROKEN_OFF


def _told(value: Json) -> Answer:
    body = orjson.dumps(value)
    return Answer(200, headers.back([("content-type", "application/json")], len(body)), body)
