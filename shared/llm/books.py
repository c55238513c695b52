"""The gateway's books: lets calls in within limits and budgets, and sees that each ends as one usage record.

Two lanes: what is asked of the ledger while a round trip is under way goes together in the next, and so do usage
records. The ledger's count may be lost, the records may not: it is made again from them.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from math import ceil

import orjson

from shared.core.clock import Clock, iso
from shared.core.errors import Invalid, PaymentRequired, PlatformError, RateLimited, Unavailable
from shared.core.groups import Groups
from shared.core.log import Log
from shared.core.messages import VERSION
from shared.core.ports import LARGEST_MESSAGE, Documents, Json, Queues
from shared.llm.bill import Bill, estimate_of
from shared.llm.ledger import (
    Done,
    Forget,
    Hold,
    Lapsed,
    Ledger,
    Op,
    Refused,
    Renew,
    Settle,
    Uncountable,
    Unreached,
    Unseeded,
    Verdict,
    Withdraw,
)
from shared.llm.models import RECORDS_AT_ONCE
from shared.llm.recount import Recount
from shared.llm.service import UsageRecorder

log = Log(__name__)

_LINGER = 0.2
_MOST_ASKED = 6
"""Times that the ledger is asked about one call: after each, what it has forgotten is counted anew."""
_MOST_OWED = 10_000
_DROPPED_AT_ONCE = 1000
_TOLD_AT_ONCE = 128
_MOST_BYTES = LARGEST_MESSAGE - 100
"""Of the records in a queue message, which says a little more."""


class Books:
    """`fail_open`: calls are let through, uncounted, while the ledger is away. `renew_seconds`: well below a lease."""

    def __init__(
        self,
        ledger: Ledger,
        documents: Documents,
        queues: Queues,
        recorder: UsageRecorder,
        clock: Clock,
        *,
        fail_open: bool = False,
        renew_seconds: float = 20,
    ) -> None:
        self._ledger, self._fail_open = ledger, fail_open
        self._queues, self._recorder = queues, recorder
        self._asking = Groups[Op, Verdict](self._apply)
        self._recording = Groups[str, None](self._record, _LINGER, RECORDS_AT_ONCE)
        self._seeding = Groups[Sequence[str], None](self._seed)
        self._open: dict[str, Hold] = {}
        self._clock, self._recount = clock, Recount(documents, clock)
        self._owed: list[Op] = []
        self._renew_seconds = renew_seconds
        self._renewing: asyncio.TimerHandle | None = None

    async def admit(self, bill: Bill) -> None:
        """Holds what the call may cost, until it is settled.

        Raises PaymentRequired at a budget, RateLimited at a limit and when calls under way may use up a budget,
        Unavailable when nobody can say.
        """
        try:
            verdict = await self._decided(bill)
        except Unavailable as error:
            if not isinstance(error, Unreached):
                self._post(Withdraw(bill.hold))
            if not self._fail_open:
                raise Unavailable(f"Limits and budgets cannot be checked. {error.detail}", retry_after=2) from error
            bill.enforced = False
            log.warning("llm.limits_not_enforced", key_id=bill.caller.key_id, reason=error.detail)
            return
        except asyncio.CancelledError:
            self._post(Withdraw(bill.hold))
            raise
        if isinstance(verdict, Refused):
            raise _refusal(verdict, bill)
        self._open[bill.id] = bill.hold
        self._renew_later()

    def settle(self, bill: Bill) -> None:
        """The call is over. Whatever this process asks the ledger from here on meets the amount it was charged."""
        if bill.settled:
            return
        bill.settled = True
        self._open.pop(bill.id, None)
        settlement = bill.settlement()
        if bill.due and not bill.report.told:
            log.warning("llm.usage_not_reported", key_id=bill.caller.key_id, status=bill.status)
        self._recount.remember(settlement)
        self._post(settlement)
        self._recording.tell("", settlement.record)

    async def reconcile(self) -> int:
        """Make records of what processes that died left behind; how many. Called by a timer, which tries again."""
        try:
            return await self._reconciled()
        except Unavailable as error:
            log.warning("llm.reconciling_postponed", reason=error.detail)
            return 0

    async def _reconciled(self) -> int:
        """Sent once more, since whoever took the first message may have died with it.

        A call without a readable record may have been billed: all that it held is charged, today, in the ledger alone.
        """
        found = [lapsed for lapsed in await self._ledger.lapsed(RECORDS_AT_ONCE) if lapsed.id not in self._open]
        records: list[str] = []
        for lapsed in found:
            try:
                records.append(await self._ended(lapsed))
            except (AttributeError, KeyError, TypeError, ValueError):
                log.exception("llm.record_unreadable", usage_id=lapsed.id, record=lapsed.record)
                if lapsed.hold:
                    self._post(estimate_of(lapsed.hold, iso(self._clock.now())))
                self._post(Forget((lapsed.id,)))
        await self._keep(records)
        return len(found)

    async def _ended(self, lapsed: Lapsed) -> str:
        """Its usage record. Whether that is valid, another release's may not be, is for its reader to say."""
        record = orjson.loads(lapsed.record)
        if lapsed.hold:
            log.warning("llm.call_lost", usage_id=lapsed.id, team_id=record["team_id"])
            if type(output := record["output_tokens"]) is not int:
                raise ValueError("it does not say how much it asked for")
            await self._asking.post("", estimate_of(lapsed.hold, record["time"], output))
        return lapsed.record

    async def record(self, message: Json) -> None:
        """A message of the usage queue; the ledger keeps what it says until here. Raises Invalid, which is final."""
        try:
            await self._recorder.record(message)
        except Invalid:
            self._forget(message)
            raise
        self._forget(message)

    async def close(self) -> None:
        """Waits until everything used is recorded."""
        await self._recording.idle()
        await self._asking.idle()
        if self._renewing:
            self._renewing.cancel()
            self._renewing = None

    # -- asking the ledger ----------------------------------------------------------------------

    async def _decided(self, bill: Bill) -> Done | Refused:
        admission = bill.admission()
        for _ in range(_MOST_ASKED):
            verdict = await self._asking.post("", admission)
            if not isinstance(verdict, Unseeded):
                return verdict
            await self._seeding.post(bill.caller.team_id, verdict.subjects)
        raise Unavailable("Redis forgets what it is told. Try again in a moment.")

    async def _apply(self, _: str, ops: list[Op]) -> Sequence[Verdict | Uncountable]:
        """What could not be told before is told first."""
        try:
            if self._owed:
                await self._tell_owed()
            answers = await self._ledger.apply(ops)
        except BaseException:
            self._owe(ops)
            raise
        _note_uncountable(ops, answers)
        return answers

    async def _tell_owed(self) -> None:
        """In parts, which end in time whatever there is of it. Raises Unreached: what comes after it was not told."""
        try:
            while part := self._owed[:_TOLD_AT_ONCE]:
                _note_uncountable(part, await self._ledger.apply(part))
                del self._owed[: len(part)]
        except Unavailable as error:
            raise Unreached(error.detail) from error

    def _owe(self, ops: list[Op]) -> None:
        """Settlements can be spared least: a call not withdrawn lapses, a record not forgotten comes once more."""
        self._owed += [op for op in ops if isinstance(op, Settle | Forget | Withdraw)]
        if len(self._owed) > _MOST_OWED:
            self._owed.sort(key=lambda op: isinstance(op, Settle))
            dropped, self._owed = self._owed[:_DROPPED_AT_ONCE], self._owed[_DROPPED_AT_ONCE:]
            if count := sum(isinstance(op, Settle) for op in dropped):
                log.warning("llm.settlements_dropped", count=count)

    def _post(self, op: Op) -> None:
        self._asking.tell("", op)

    def _renew_later(self) -> None:
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().call_later(self._renew_seconds, self._renew)

    def _renew(self) -> None:
        self._renewing = None
        for hold in self._open.values():
            self._post(Renew(hold))
        if self._open:
            self._renew_later()

    # -- counting anew --------------------------------------------------------------------------

    async def _seed(self, team_id: str, missing: Sequence[Sequence[str]]) -> list[None]:
        """Calls under way are held first. Between counting and telling nothing may wait."""
        subjects = sorted({subject for each in missing for subject in each})
        for hold in self._open.values():
            if not set(subjects).isdisjoint(hold.subjects):
                self._post(Renew(hold))
        seeds = await self._recount.seeds(team_id, subjects)
        for answer in [self._asking.post("", seed) for seed in seeds]:
            await answer
        return [None] * len(missing)

    # -- keeping records ------------------------------------------------------------------------

    async def _record(self, _: str, records: list[str]) -> list[None]:
        """Those that cannot be kept stay in the ledger, and are tried again when they lapse."""
        try:
            await self._keep(records)
        except PlatformError as error:
            log.warning("llm.usage_postponed", count=len(records), reason=error.detail)
        return [None] * len(records)

    async def _keep(self, records: list[str]) -> None:
        for part in _parts(records):
            message = {"version": VERSION, "records": [orjson.Fragment(each) for each in part]}
            try:
                await self._queues.send("usage", message)
            except Unavailable as error:
                log.warning("llm.usage_queue_down", reason=error.detail)
                await self._keep_here(part)

    async def _keep_here(self, records: list[str]) -> None:
        """What is not valid comes back when it lapses, until a queue takes it and makes it an incident."""
        message = {"version": VERSION, "records": [orjson.loads(each) for each in records]}
        try:
            await self._recorder.record(message)
        except Invalid as error:
            log.warning("llm.usage_postponed", count=len(records), reason=error.detail)
        else:
            self._forget(message)

    def _forget(self, message: Json) -> None:
        records = message.get("records")
        if isinstance(records, list):
            named = (record.get("id") for record in records if isinstance(record, dict))
            self._post(Forget(tuple(each for each in named if isinstance(each, str))))


def _parts(records: Iterable[str]) -> Iterator[list[str]]:
    """Them in parts that each fit a queue message."""
    part: list[str] = []
    size = 0
    for record in records:
        more = len(record.encode()) + 1
        if part and size + more > _MOST_BYTES:
            yield part
            part, size = [], 0
        part.append(record)
        size += more
    if part:
        yield part


def _note_uncountable(ops: Sequence[Op], answers: Sequence[Verdict | Uncountable]) -> None:
    for op, answer in zip(ops, answers, strict=True):
        if isinstance(answer, Uncountable) and isinstance(op, Settle):
            log.warning("llm.settlement_uncountable", usage_id=op.hold.id, reason=str(answer))


def _refusal(refused: Refused, bill: Bill) -> PlatformError:
    place = bill.admission().rules.index(refused.rule)
    broken = bill.caller.allowances[place]
    if broken.kind != "spend":
        return RateLimited(
            f"The {broken.name} of {broken.limit:,} is reached. {broken.remedy}", retry_after=ceil(refused.retry_after)
        )
    if refused.used >= broken.limit:
        spent = f"{_usd(refused.used)} spent"
        return PaymentRequired(f"The {broken.name} of {_usd(broken.limit)} is used up ({spent}). {broken.remedy}")
    return RateLimited(
        f"Calls under way may use up what is left of the {broken.name}. Try again when they have ended.",
        retry_after=ceil(refused.retry_after),
    )


def _usd(micro: int) -> str:
    decimals = 2 if micro % 10_000 == 0 else 4 if micro >= 100 else 6
    return f"${micro / 1_000_000:,.{decimals}f}"
