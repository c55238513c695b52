"""A ledger in memory, whose minutes and leases pass by the given clock."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from shared.core.clock import Clock, SystemClock
from shared.core.errors import Unavailable
from shared.llm.ledger import (
    MOST,
    PER_MINUTE,
    Admit,
    Amounts,
    Done,
    Forget,
    Hold,
    Kind,
    Lapsed,
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


@dataclass
class Subject:
    seeded: bool = False
    spent: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    held: int = 0
    streams: int = 0
    debts: dict[Kind, tuple[float, float]] = field(default_factory=dict)
    """Amount, and when it was noted."""


@dataclass
class Call:
    state: Literal["open", "settled", "estimated", "estimate kept", "withdrawn"]
    lapses: float
    record: str = ""
    counted: Amounts = field(default_factory=Amounts)
    """What was counted for one that is estimated."""
    hold: Hold | None = None
    """Of one that is open."""


class FakeLedger:
    """While `down` is set, nobody listens; while `silent`, it does what it is asked and never answers.

    `flush` forgets everything, as Redis may.
    """

    def __init__(self, clock: Clock | None = None, lease: float = 60) -> None:
        self.down = self.silent = False
        self._clock, self._lease = clock or SystemClock(), lease
        self.flush()

    def flush(self) -> None:
        self.subjects: defaultdict[str, Subject] = defaultdict(Subject)
        self.calls: dict[str, Call] = {}
        self.over: dict[str, float] = {}
        """Settled calls whose records are safe, until when that is known."""

    async def apply(self, ops: Sequence[Op]) -> list[Verdict | Uncountable]:
        self._reach()
        self.over = {call: until for call, until in self.over.items() if until > self._now}
        verdicts = [self._act(op) for op in ops]
        self._hear()
        return verdicts

    async def lapsed(self, limit: int) -> list[Lapsed]:
        self._reach()
        due = {call: kept for call, kept in self.calls.items() if kept.lapses <= self._now}
        for call in [call for call, kept in due.items() if kept.state in ("withdrawn", "estimate kept")]:
            del self.calls[call], due[call]
        found = sorted(due, key=lambda call: due[call].lapses)[:limit]
        for call in found:
            due[call].lapses = self._now + self._lease
        self._hear()
        return [Lapsed(call, due[call].record, due[call].hold) for call in found]

    async def close(self) -> None:
        pass

    @property
    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _reach(self) -> None:
        if self.down:
            raise Unreached("Redis does not answer. Try again in a moment.")

    def _hear(self) -> None:
        if self.silent:
            raise Unavailable("Redis does not answer. Try again in a moment.")

    def _act(self, op: Op) -> Verdict | Uncountable:
        match op:
            case Admit(Hold(amounts=amounts)) | Renew(Hold(amounts=amounts)) | Settle(used=amounts) if (
                amounts.micro_usd > MOST
            ):
                return Uncountable("more than can be counted")
            case Admit(hold, rules):
                return self._admit(hold, rules)
            case Renew(hold):
                self._renew(hold)
            case Withdraw(hold):
                self._withdraw(hold)
            case Settle():
                self._settle(op)
            case Forget(ids):
                for call in ids:
                    self._forget(call)
            case Seed():
                self._seed(op)
        return Done()

    def _admit(self, hold: Hold, rules: tuple[Rule, ...]) -> Verdict:
        if hold.id in self.calls or hold.id in self.over:
            return Done()
        unseeded = tuple(subject for subject in hold.subjects if not self.subjects[subject].seeded)
        if unseeded:
            return Unseeded(unseeded)
        for rule in rules:
            if refused := self._refusal(rule, hold.amounts):
                return refused
        for rule in rules:
            if rule.kind in PER_MINUTE:
                taken = {"requests": 1, "input_tokens": hold.amounts.input_tokens}.get(rule.kind, 0)
                self.subjects[rule.subject].debts[rule.kind] = (self._debt(rule) + taken, self._now)
        self._hold(hold)
        return Done()

    def _refusal(self, rule: Rule, asked: Amounts) -> Refused | None:
        subject = self.subjects[rule.subject]
        if rule.kind == "spend":
            spent, held = subject.spent[rule.period], subject.held
            full = spent >= rule.limit or (held > 0 and spent + held + asked.micro_usd > rule.limit)
            return Refused(rule, spent, held, 2) if full else None
        if rule.kind == "streams":
            full = asked.streams > 0 and subject.streams + asked.streams > rule.limit
            return Refused(rule, subject.streams, 0, 1) if full else None
        owed = self._debt(rule)
        wait = (owed + 1 - rule.limit) * 60 / max(rule.limit, 1)
        return Refused(rule, round(owed), 0, wait) if owed + 1 > rule.limit else None

    def _debt(self, rule: Rule) -> float:
        amount, noted = self.subjects[rule.subject].debts.get(rule.kind, (0, self._now))
        return max(amount - max(self._now - noted, 0) * rule.limit / 60, 0)

    def _owe(self, subject: str, kind: Kind, amount: int) -> None:
        debts = self.subjects[subject].debts
        if kind in debts:
            debts[kind] = (debts[kind][0] + amount, debts[kind][1])

    def _hold(self, hold: Hold) -> None:
        self._change(hold, 1)
        self.calls[hold.id] = Call("open", self._now + self._lease, hold.record, hold=hold)

    def _change(self, hold: Hold, sign: int) -> None:
        for subject in hold.subjects:
            kept = self.subjects[subject]
            kept.held = max(kept.held + sign * hold.amounts.micro_usd, 0)
            kept.streams = max(kept.streams + sign * hold.amounts.streams, 0)

    def _renew(self, hold: Hold) -> None:
        known = self.calls.get(hold.id)
        if known is None and hold.id not in self.over:
            self._hold(hold)
        elif known and known.state == "open":
            known.lapses = self._now + self._lease

    def _withdraw(self, hold: Hold) -> None:
        known = self.calls.get(hold.id)
        if hold.id in self.over:
            return
        if known is None or known.state == "withdrawn":
            self.calls[hold.id] = Call("withdrawn", self._now + self._lease)
            return
        if known.state != "open":
            return
        self._change(hold, -1)
        del self.calls[hold.id]
        for subject in hold.subjects:
            self._owe(subject, "requests", -1)
            self._owe(subject, "input_tokens", -hold.amounts.input_tokens)

    def _settle(self, op: Settle) -> None:
        known = self.calls.get(op.hold.id)
        is_open = known is not None and known.state == "open"
        if op.hold.id in self.over or (known and known.state == "settled") or (op.estimated and not is_open):
            return
        counted = known.counted if known else Amounts()
        if is_open:
            self._change(op.hold, -1)
            counted = Amounts(0, op.hold.amounts.input_tokens, 0)
        for subject in op.hold.subjects:
            if not self.subjects[subject].seeded:
                continue
            for period in op.periods:
                self.subjects[subject].spent[period] += op.used.micro_usd - counted.micro_usd
            self._owe(subject, "input_tokens", op.used.input_tokens - counted.input_tokens)
            self._owe(subject, "output_tokens", op.used.output_tokens - counted.output_tokens)
        kept = ("estimated", op.used) if op.estimated else ("settled", Amounts())
        self.calls[op.hold.id] = Call(kept[0], self._now + self._lease / 4, op.record, kept[1])

    def _forget(self, call: str) -> None:
        known = self.calls.get(call)
        if known and known.state == "estimated":
            self.calls[call] = Call("estimate kept", self._now + 2 * 24 * 3600, counted=known.counted)
        elif known and known.state in ("settled", "withdrawn"):
            del self.calls[call]
            if known.state == "settled":
                self.over[call] = self._now + 5 * self._lease

    def _seed(self, op: Seed) -> None:
        subject = self.subjects[op.subject]
        if subject.seeded:
            return
        subject.seeded = True
        subject.spent.update(op.spent)
        subject.debts.update({kind: (amount, self._now) for kind, amount in op.minute.items() if amount})
