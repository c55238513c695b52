"""Model usage as it is kept per team, and the one way to read it.

Partition `usage/<team>`: `record/<id>` is one request, for some days; sums are kept for good. `total`, `day/<date>`,
`run/<id>`, `card/<id>`, `key/<id>` and `sandbox/<id>` are sums; `cell/<date>/<hash>` is the sum of a day for one key,
model, card and run, whatever is asked for by these. Sums of whom budgets are for also say what was charged in the
latest day and month.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.core.ports import Documents, Json
from shared.core.resources import Usage

TOTAL = "total"
COUNTED = (
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("requests", "failed_requests", "unpriced_requests", "cost_micro_usd"),
)
"""The sums of a usage document; money is kept in whole micro-USD."""
CHARGED = "charged_micro_usd"

type Dimension = Literal["day", "team", "workspace", "card", "run", "model", "key"]

_MOST_RECORDS = 5000


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


def added(bodies: Iterable[Json]) -> Json:
    """The sums of several usage documents in one."""
    total = dict.fromkeys(COUNTED, 0)
    for body in bodies:
        for name in COUNTED:
            total[name] += body.get(name, 0)
    return total


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


async def cells(documents: Documents, team_id: str, first: str, last: str) -> list[Json]:
    """Sums per day, key, model, card and run, from day `first` to day `last` (YYYY-MM-DD), in order of days."""
    docs = await documents.query(partition(team_id), "cell/", after=f"cell/{first}")
    return [doc.body for doc in docs if doc.id[5:15] <= last]


async def records_since(documents: Documents, team_id: str, id: str) -> Sequence[Json]:
    """Single requests whose id sorts after `id`: of several thousand, the first."""
    docs = await documents.query(partition(team_id), "record/", after=f"record/{id}", limit=_MOST_RECORDS)
    return [doc.body for doc in docs]


async def spent(documents: Documents, team_id: str, subject: str) -> dict[str, int]:
    """Micro-USD that budgets of a subject (`team/<id>`, `key/<id>`, ...) were charged, by period.

    Periods are `total`, and the latest day and month that it used anything in.
    """
    doc = await documents.get(partition(team_id), sums_of(subject))
    body = doc.body if doc else {}
    charged: dict[str, int] = {"total": body.get(CHARGED, 0)}
    return charged | {body[span]: body[f"{span}_{CHARGED}"] for span in ("day", "month") if span in body}


def sums_of(subject: str) -> str:
    """The id of a subject's sums."""
    return TOTAL if subject.startswith("team/") else subject


async def _read(documents: Documents, team_id: str, id: str) -> Usage:
    doc = await documents.get(partition(team_id), id)
    return from_sums(doc.body if doc else {})


def _newest[T](documents: Iterable[T]) -> list[T]:
    """Ids end in what sorts by time, so the last is the newest."""
    return list(documents)[::-1]
