"""Model usage as it is kept per team, and the one way to read it.

Partition `usage/<team>` holds running sums: `total`, `day/<YYYY-MM-DD>`, `run/<id>`, `card/<id>`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from shared.core.ports import Documents, Json
from shared.core.resources import Usage

TOTAL = "total"
COUNTED = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "requests", "cost_micro_usd")
"""The sums of a usage document; money is kept in whole micro-USD."""


@dataclass(frozen=True, slots=True)
class RunUsage:
    """What one run has used; `card_id` is None for a run without a card."""

    run_id: str
    card_id: str | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class DayUsage:
    """What a team has used on one UTC day (YYYY-MM-DD)."""

    date: str
    usage: Usage


def partition(team_id: str) -> str:
    return f"usage/{team_id}"


def from_sums(body: Json) -> Usage:
    """The public shape of a usage document."""
    sums = {name: int(body.get(name, 0)) for name in COUNTED}
    cost = sums.pop("cost_micro_usd")
    return Usage(**sums, cost_usd=cost / 1_000_000)


async def run_usage(documents: Documents, team_id: str, run_id: str) -> Usage:
    """Sums of one run so far; zeros before its first answer was recorded."""
    return await _read(documents, team_id, f"run/{run_id}")


async def card_usage(documents: Documents, team_id: str, card_id: str) -> Usage:
    """Sums of all runs of a card."""
    return await _read(documents, team_id, f"card/{card_id}")


async def team_usage(documents: Documents, team_id: str) -> Usage:
    """Sums of everything a team has used."""
    return await _read(documents, team_id, TOTAL)


async def usage_by_run(documents: Documents, team_id: str) -> list[RunUsage]:
    """Every run that used a model, newest first."""
    docs = await documents.query(partition(team_id), "run/")
    return [
        RunUsage(doc.id.removeprefix("run/"), doc.body.get("card_id"), from_sums(doc.body)) for doc in _newest(docs)
    ]


async def usage_by_day(documents: Documents, team_id: str) -> list[DayUsage]:
    """Every day with usage, newest first."""
    docs = await documents.query(partition(team_id), "day/")
    return [DayUsage(doc.id.removeprefix("day/"), from_sums(doc.body)) for doc in _newest(docs)]


async def _read(documents: Documents, team_id: str, id: str) -> Usage:
    doc = await documents.get(partition(team_id), id)
    return from_sums(doc.body if doc else {})


def _newest[T](documents: Iterable[T]) -> list[T]:
    """Ids end in what sorts by time, so the last is the newest."""
    return list(documents)[::-1]
