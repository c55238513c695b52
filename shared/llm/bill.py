"""One request while it is under way: what it may cost, what it used, what becomes its usage record."""

from functools import lru_cache

import orjson

from shared.core import ids
from shared.core.clock import Clock, iso
from shared.core.ports import Json
from shared.llm.body import Asked
from shared.llm.ledger import Admit, Amounts, Hold, Rule, Settle
from shared.llm.meter import Report
from shared.llm.models import LONGEST_MODEL, Allowance, Call, Caller, Share, TokenCounts, paid_for
from shared.llm.prices import budget_micro_usd, cost_micro_usd, price_of
from shared.llm.upstream import Headers


class Bill:
    """`model` is what it is priced as until an answer names its own, which may be another than the one asked for."""

    def __init__(self, caller: Caller, call: Call, wanted: Asked, model: str, clock: Clock) -> None:
        self.id = ids.sortable()
        self.caller = caller
        self.report = Report(model)
        self.status = 0
        self.given_up = 0
        """Tries that were sent and never answered: they may have been billed."""
        self.settled = False
        self.enforced = True
        """False when limits could not be checked and a setting lets calls through all the same."""
        self._clock = clock
        self._began = clock.now()
        self._date = self._began.date()
        self._time = iso(self._began)
        self._first_byte_ms: int | None = None
        size = len(call.body)
        modes = wanted.fast, wanted.us_only
        self._prompt = Share(model, TokenCounts(input=size // 4), *modes)
        prompt = {wanted.prompt: size // 2}
        """At most a token per two bytes; all of it may be written to a cache, which is dearer."""
        most = TokenCounts(output=wanted.max_tokens, web_searches=wanted.web_searches, **prompt)
        self.hold = self._hold(Share(model, most, *modes), wanted.streamed)

    def gave_up(self) -> None:
        self.given_up += 1

    def first_byte(self) -> None:
        if self._first_byte_ms is None:
            self._first_byte_ms = self._elapsed()

    @property
    def due(self) -> bool:
        """Whether it may have cost something."""
        return paid_for(self.status) or self.given_up > 0

    @property
    def notes(self) -> Headers:
        """What the answer says about it."""
        return [] if self.enforced else [("x-kanban-limits", "not-enforced")]

    @property
    def periods(self) -> tuple[str, ...]:
        return periods_of(self._time)

    def admission(self) -> Admit:
        return Admit(self.hold, tuple(_rule(allowance, self._time) for allowance in self.caller.allowances))

    def settlement(self) -> Settle:
        """What to tell the ledger, with the usage record."""
        record = self._record()
        prompt = record["input_tokens"] + record["cache_write_tokens"]
        used = Amounts(record["charged_micro_usd"], prompt, record["output_tokens"])
        return Settle(self.hold, used, self.periods, orjson.dumps(record).decode())

    def _hold(self, most: Share, streamed: bool) -> Hold:
        """Its record is what becomes of the call if its process dies: all that is held was used."""
        estimate, output = self._prompt.tokens.input, most.tokens.output
        amounts = Amounts(budget_micro_usd([most], self._date), estimate, streams=int(streamed))
        cost = amounts.micro_usd if price_of(most.model, self._date) else None
        tokens = {"input_tokens": estimate, "output_tokens": output, "cache_read_tokens": 0, "cache_write_tokens": 0}
        record = self._about(amounts.micro_usd, cost, 0, estimated=True) | tokens
        return Hold(self.id, subjects_of(self.caller), amounts, orjson.dumps(record).decode())

    def _record(self) -> Json:
        shares = self.report.shares()
        priced = shares or [self._prompt._replace(model=self.report.model, tokens=TokenCounts())]
        cost = cost_micro_usd(priced, self._date) if self.due else 0
        charged = self._charged(shares, cost) if self.due else 0
        total = TokenCounts(*map(sum, zip(*(share.tokens for share in shares), strict=True)))
        return self._about(charged, cost, self._elapsed()) | {
            "input_tokens": total.input,
            "output_tokens": total.output,
            "cache_read_tokens": total.cache_read,
            "cache_write_tokens": total.cache_write,
        }

    def _charged(self, shares: list[Share], cost: int | None) -> int:
        """Never less than was reported, which is `cost` where it is known, and never nothing for what was not."""
        told = self.report.complete and self.report.told
        if not told and paid_for(self.status):
            shares = self.report.at_least(self._prompt)
        elif cost is not None and not self.given_up:
            return cost
        return budget_micro_usd([*shares, *[self._prompt] * self.given_up], self._date)

    def _about(self, charged: int, cost: int | None, elapsed: int, *, estimated: bool = False) -> Json:
        return {
            "id": self.id,
            "team_id": self.caller.team_id,
            "run_id": self.caller.run_id,
            "card_id": self.caller.card_id,
            "sandbox_id": self.caller.sandbox_id,
            "key_id": self.caller.key_id,
            "model": self.report.model[:LONGEST_MODEL],
            "cost_micro_usd": cost,
            "charged_micro_usd": charged,
            "estimated": estimated,
            "time": self._time,
            "duration_ms": elapsed,
            "first_byte_ms": elapsed if self._first_byte_ms is None else self._first_byte_ms,
            "status": self.status,
        }

    def _elapsed(self) -> int:
        return round((self._clock.now() - self._began).total_seconds() * 1000)


def subjects_of(caller: Caller) -> tuple[str, ...]:
    """Whom a request counts for."""
    return _subjects(caller.team_id, caller.key_id, caller.run_id, caller.card_id, caller.sandbox_id)


def periods_of(time: str) -> tuple[str, str, str]:
    """What a moment's spending counts in: ever, its month, its day."""
    return _periods(time[:10])


# Very many settled calls are remembered: they share what they have in common.
@lru_cache(maxsize=1000)
def _subjects(team: str, key: str, run: str | None, card: str | None, sandbox: str | None) -> tuple[str, ...]:
    named = {"key": key, "run": run, "card": card, "sandbox": sandbox}
    return (f"team/{team}", *(f"{kind}/{name}" for kind, name in named.items() if name))


@lru_cache(maxsize=10)
def _periods(day: str) -> tuple[str, str, str]:
    return "total", day[:7], day


def estimate_of(hold: Hold, time: str, output_tokens: int = 0) -> Settle:
    """For a call whose process died: all that it held is taken as used."""
    used = hold.amounts._replace(output_tokens=output_tokens)
    return Settle(hold, used, periods_of(time), hold.record, estimated=True)


def _rule(allowance: Allowance, time: str) -> Rule:
    periods: dict[str, str] = dict(zip(("total", "month", "day"), periods_of(time), strict=True))
    return Rule(allowance.subject, allowance.kind, allowance.limit, periods.get(allowance.span, ""))
