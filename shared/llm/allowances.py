"""What a caller may use: the limits of its key, its team, its run, its card and its sandbox in one list."""

from collections.abc import Iterator

from shared.llm.ledger import Kind
from shared.llm.models import Allowance, Budget, KeyRecord, RateLimits, Span, TeamLimits

_PER_MINUTE: dict[str, tuple[Kind, Span, str]] = {
    "requests_per_minute": ("requests", "minute", "requests per minute"),
    "input_tokens_per_minute": ("input_tokens", "minute", "input tokens per minute"),
    "output_tokens_per_minute": ("output_tokens", "minute", "output tokens per minute"),
    "concurrent_streams": ("streams", "moment", "streams at a time"),
}
_SPANS: dict[str, tuple[Span, str, str]] = {
    "day_usd": ("day", "budget per day", "or wait until the day is over (UTC)"),
    "month_usd": ("month", "budget per month", "or wait until the month is over (UTC)"),
    "total_usd": ("total", "budget", ""),
}


def of_key(record: KeyRecord) -> Iterator[Allowance]:
    subject = f"key/{record.account}"
    yield from _rates(subject, "key", record.rates)
    yield from _budget(subject, "key", record.budget)


def of_team(
    team_id: str, limits: TeamLimits, run_id: str | None, card_id: str | None, sandbox_id: str | None
) -> Iterator[Allowance]:
    yield from _rates(f"team/{team_id}", "team", limits.rates)
    yield from _budget(f"team/{team_id}", "team", limits.budget)
    for kind, name, budget in (
        ("run", run_id, limits.run_budget),
        ("card", card_id, limits.card_budget),
        ("sandbox", sandbox_id, limits.sandbox_budget),
    ):
        if name is not None:
            yield from _budget(f"{kind}/{name}", kind, budget)


def of_run(run_id: str, cap_micro_usd: int) -> Allowance:
    """The cap that every run has."""
    remedy = "Raise RUN_SPEND_CAP_USD, then retry the run."
    return Allowance(f"run/{run_id}", "spend", "total", cap_micro_usd, "run's spend cap", remedy)


def _rates(subject: str, whose: str, rates: RateLimits) -> Iterator[Allowance]:
    for field, (kind, span, name) in _PER_MINUTE.items():
        limit = getattr(rates, field)
        if limit is not None:
            remedy = f"Try again later, or raise the {whose}'s limit."
            yield Allowance(subject, kind, span, limit, f"{whose}'s limit of {name}", remedy)


def _budget(subject: str, whose: str, budget: Budget) -> Iterator[Allowance]:
    for field, (span, name, wait) in _SPANS.items():
        amount = getattr(budget, field)
        if amount is not None:
            remedy = " ".join(part for part in (f"Raise the {whose}'s budget", wait) if part) + "."
            yield Allowance(subject, "spend", span, round(amount * 1_000_000), f"{whose}'s {name}", remedy)
