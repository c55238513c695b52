"""One request while it is under way: what it may cost, what it used, what becomes its usage record."""

from collections.abc import Sequence

import orjson

from shared.core import ids
from shared.core.clock import Clock, iso
from shared.core.ports import Json
from shared.llm.ledger import Admit, Amounts, Hold, Rule, Settle
from shared.llm.meter import Report
from shared.llm.models import LONGEST_MODEL, Allowance, Call, Caller, Share, TokenCounts, UsageRecord, paid_for
from shared.llm.prices import budget_micro_usd, cost_micro_usd, price_of
from shared.llm.upstream import Headers


class Bill:
    """`model` is what it is priced as until an answer names its own."""

    def __init__(
        self,
        caller: Caller,
        call: Call,
        model: str,
        max_tokens: int,
        clock: Clock,
        *,
        streamed: bool = False,
        web_searches: int = 0,
        fast: bool = False,
        us_only: bool = False,
    ) -> None:
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
        self._body_size = len(call.body)
        self._began = clock.now()
        self._time = iso(self._began)
        self._first_byte_ms: int | None = None
        self._prompt = Share(model, TokenCounts(input=self._body_size // 4), fast, us_only)
        most = TokenCounts(input=self._body_size // 2, output=max_tokens, web_searches=web_searches)
        """A prompt has at most a token per two bytes; what it says may be written to the cache, which is dearer."""
        self.hold = self._hold(Share(model, most, fast, us_only), streamed)

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

    def settlement(self) -> tuple[Settle, Json]:
        """What to tell the ledger, and the usage record."""
        record = self._record()
        prompt = record["input_tokens"] + record["cache_write_tokens"]
        used = Amounts(record["charged_micro_usd"], prompt, record["output_tokens"])
        return Settle(self.hold, used, self.periods, orjson.dumps(record).decode()), record

    def _hold(self, most: Share, streamed: bool) -> Hold:
        estimate = self._prompt.tokens.input
        amounts = Amounts(budget_micro_usd([most], self._began.date()), estimate, streams=int(streamed))
        figures = {
            "input_tokens": estimate,
            "output_tokens": most.tokens.output,
            "cost_micro_usd": amounts.micro_usd if price_of(most.model, self._began.date()) else None,
            "charged_micro_usd": amounts.micro_usd,
            "estimated": True,
        }
        record = {"streams": amounts.streams, "usage": self._figures([]) | figures}
        return Hold(self.id, subjects_of(self.caller), amounts, orjson.dumps(record).decode())

    def _charged(self) -> int:
        """Never less than was reported, and never nothing for what broke off."""
        known = self.report.complete and not self.report.empty
        answered = paid_for(self.status)
        shares = self.report.shares() if known or not answered else self.report.at_least(self._prompt)
        return budget_micro_usd([*shares, *[self._prompt] * self.given_up], self._began.date())

    def _record(self) -> Json:
        return self._figures(self.report.shares()) | {"charged_micro_usd": self._charged() if self.due else 0}

    def _figures(self, shares: list[Share]) -> Json:
        return {
            "id": self.id,
            "team_id": self.caller.team_id,
            "run_id": self.caller.run_id,
            "card_id": self.caller.card_id,
            "sandbox_id": self.caller.sandbox_id,
            "key_id": self.caller.key_id,
            "model": self.report.model[:LONGEST_MODEL],
            "input_tokens": _total(shares, "input"),
            "output_tokens": _total(shares, "output"),
            "cache_read_tokens": _total(shares, "cache_read"),
            "cache_write_tokens": _total(shares, "cache_write"),
            "cost_micro_usd": cost_micro_usd(shares, self._began.date()),
            "charged_micro_usd": 0,
            "estimated": False,
            "time": self._time,
            "duration_ms": self._elapsed(),
            "first_byte_ms": self._elapsed() if self._first_byte_ms is None else self._first_byte_ms,
            "status": self.status,
        }

    def _elapsed(self) -> int:
        return round((self._clock.now() - self._began).total_seconds() * 1000)


def subjects_of(of: Caller | UsageRecord) -> tuple[str, ...]:
    """Whom a request counts for."""
    named = {"key": of.key_id, "run": of.run_id, "card": of.card_id, "sandbox": of.sandbox_id}
    return (f"team/{of.team_id}", *(f"{kind}/{name}" for kind, name in named.items() if name))


def periods_of(time: str) -> tuple[str, ...]:
    """What a moment's spending counts in: ever, its month, its day."""
    return "total", time[:7], time[:10]


def settlement_of(record: UsageRecord, streams: int) -> Settle:
    """For a call whose process died: all that it held is taken as used."""
    amounts = Amounts(record.charged_micro_usd, record.input_tokens, record.output_tokens, streams)
    final = orjson.dumps(record.model_dump()).decode()
    return Settle(Hold(record.id, subjects_of(record), amounts, final), amounts, periods_of(record.time), final)


def _rule(allowance: Allowance, time: str) -> Rule:
    periods: dict[str, str] = dict(zip(("total", "month", "day"), periods_of(time), strict=True))
    return Rule(allowance.subject, allowance.kind, allowance.limit, periods.get(allowance.span, ""))


def _total(shares: Sequence[Share], name: str) -> int:
    return sum(getattr(share.tokens, name) for share in shares)
