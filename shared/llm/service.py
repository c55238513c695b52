"""Records what was used: one usage record per request, counted once."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from typing import Any, NamedTuple, Self
from weakref import WeakValueDictionary

from shared.core import ids, usage
from shared.core.clock import iso, parse
from shared.core.errors import Exists, Invalid, Stale
from shared.core.events import NewEvent, UsageData
from shared.core.log import Log
from shared.core.messages import fitting, read
from shared.core.ports import ANY, Delete, Doc, Json, Op, Put
from shared.core.store import Commit, Store, retry_stale
from shared.core.teams import team_partition
from shared.llm.bill import periods_of, subjects_of
from shared.llm.models import Caller, UsageMessage, UsageRecord

log = Log(__name__)

_REMEMBERED = timedelta(days=7)
_MOST_DOCUMENTS = 48
_MOST_OPS = 90
"""A commit takes a hundred, and its events are some of them."""
_FIGURES = (*usage.COUNTED, usage.CHARGED)
_READ = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", usage.CHARGED)
"""Those that a record has as they are."""


class _Cell(NamedTuple):
    """What records have in common that count in the same documents."""

    date: str
    team_id: str
    key_id: str
    model: str
    run_id: str | None
    card_id: str | None
    sandbox_id: str | None

    @classmethod
    def of(cls, record: UsageRecord) -> Self:
        return cls(
            record.time[:10],
            record.team_id,
            record.key_id,
            record.model,
            record.run_id,
            record.card_id,
            record.sandbox_id,
        )


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A record that is not kept yet, and the estimate whose place it takes."""

    record: UsageRecord
    estimate: UsageRecord | None = None
    etag: str | None = None

    @property
    def counts(self) -> list[tuple[UsageRecord, int]]:
        return [(self.record, 1)] if self.estimate is None else [(self.record, 1), (self.estimate, -1)]

    @property
    def event_id(self) -> str:
        return f"usage-{self.record.id}" if self.estimate is None else f"usage-{self.record.id}-settled"


class UsageRecorder:
    """Keeps records (`record/<id>`) and adds them to the sums of their team, in the same commit.

    A record of what was used takes the place of one that was estimated, and in the sums too.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def record(self, message: Json) -> None:
        """Safe to repeat. Raises Invalid for a message of unknown shape, and for records of unknown shape, of another
        team's work, or too old to be told from a repeat: once the others are counted."""
        refused: defaultdict[str, list[str]] = defaultdict(list)
        teams: defaultdict[str, list[UsageRecord]] = defaultdict(list)
        for body in read(UsageMessage, message).records:
            try:
                record = self._checked(body)
                teams[record.team_id].append(record)
            except Invalid as error:
                refused[error.detail].append(_named(body))
        for team_id, records in teams.items():
            own, foreign = await self._told_apart(team_id, records)
            await self._record_all(team_id, own)
            if foreign:
                refused["Their run, card or sandbox is not of their team."] += [record.id for record in foreign]
        if refused:
            raise Invalid(" ".join(f"{why} (Usage records {', '.join(names)}.)" for why, names in refused.items()))

    def _checked(self, body: Any) -> UsageRecord:
        record = fitting(UsageRecord, body)
        if parse(record.time) < self._store.clock.now() - _REMEMBERED:
            raise Invalid(f"Over {_REMEMBERED.days} days old: it may be counted already.")
        return record

    async def _told_apart(
        self, team_id: str, records: list[UsageRecord]
    ) -> tuple[list[UsageRecord], list[UsageRecord]]:
        """The records of the team's own work, and those of another's. None at all when the team is gone."""
        doc = await self._store.documents.get(team_partition(team_id), "team")
        if doc is None:
            log.info("usage.team_gone", team_id=team_id, records=len(records))
            return [], []
        scope = doc.body["scope"]
        own = [record for record in records if _scopes(record) <= {scope}]
        return own, [record for record in records if not _scopes(record) <= {scope}]

    async def _record_all(self, team_id: str, records: list[UsageRecord]) -> None:
        """A team's messages one after the other: all of them change its sums, and would make each other stale."""
        async with self._turns.setdefault(team_id, asyncio.Lock()):
            while records:
                group = _fitting(records)
                await retry_stale(partial(self._record_group, team_id, group))
                records = records[len(group) :]

    async def _record_group(self, team_id: str, records: list[UsageRecord]) -> None:
        documents, partition = self._store.documents, usage.partition(team_id)
        fresh = await self._fresh(partition, records)
        if not fresh:
            return
        cells = _cells(count for each in fresh for count in each.counts)
        names = {name for cell in cells for name in _sums_of(cell)}
        docs = {name: await documents.get(partition, name) for name in names}
        sums: dict[str, Json] = {name: doc.body if doc else {} for name, doc in docs.items()}
        for cell, figures in cells.items():
            for name, labels in _sums_of(cell).items():
                _add(sums[name], figures, cell.date)
                sums[name] |= labels
        ops: list[Op] = [Put(f"record/{each.record.id}", each.record.model_dump(), each.etag) for each in fresh]
        ops += [_kept(name, body, docs[name]) for name, body in sums.items()]
        events = _events(fresh, sums)
        ops += await self._forgotten(partition, _MOST_OPS - len(ops) - len(events))
        try:
            await self._store.commit(Commit(partition, ops, events=events))
        except Exists:
            raise Stale("Another process recorded meanwhile.") from None

    async def _fresh(self, partition: str, records: Sequence[UsageRecord]) -> list[_Fresh]:
        """Of a record and its estimate, in one message or one after the other, the record alone."""
        fresh: dict[str, _Fresh] = {}
        for record in sorted(records, key=lambda record: not record.estimated):
            doc = await self._store.documents.get(partition, f"record/{record.id}")
            if doc is None:
                fresh[record.id] = _Fresh(record)
            elif doc.body["estimated"] and not record.estimated:
                fresh[record.id] = _Fresh(record, UsageRecord.model_construct(**doc.body), doc.etag)
        return list(fresh.values())

    async def _forgotten(self, partition: str, most: int) -> list[Op]:
        """Ids sort by time: the oldest come first."""
        if most <= 0:
            return []
        oldest = await self._store.documents.query(partition, "record/", limit=most)
        limit = iso(self._store.clock.now() - _REMEMBERED)
        return [Delete(doc.id, ANY) for doc in oldest if doc.body["time"] < limit]


def _named(body: Any) -> str:
    return str(body.get("id"))[:64] if isinstance(body, dict) else "without an id"


def _scopes(record: UsageRecord) -> set[str]:
    return {part.split("_")[1] for part in (record.run_id, record.card_id, record.sandbox_id) if part is not None}


def _fitting(records: Sequence[UsageRecord]) -> list[UsageRecord]:
    """The first few, whose documents fit one commit."""
    names: set[str] = set()
    group: list[UsageRecord] = []
    for record in records:
        names |= {f"record/{record.id}", *_sums_of(_Cell.of(record))}
        if group and len(names) > _MOST_DOCUMENTS:
            break
        group.append(record)
    return group


def _cells(counts: Iterable[tuple[UsageRecord, int]]) -> dict[_Cell, Json]:
    """What to add, together for all records that count in the same documents."""
    cells: dict[_Cell, Json] = {}
    for record, sign in counts:
        figures = cells.setdefault(_Cell.of(record), dict.fromkeys(_FIGURES, 0))
        for name in _READ:
            figures[name] += sign * getattr(record, name)
        figures["requests"] += sign * (not record.failed)
        figures["failed_requests"] += sign * record.failed
        figures["unpriced_requests"] += sign * (record.cost_micro_usd is None)
        figures["cost_micro_usd"] += sign * (record.cost_micro_usd or 0)
    return cells


@lru_cache(maxsize=1000)
def _sums_of(cell: _Cell) -> dict[str, Json]:
    """The documents a record counts in, and what else they say."""
    labels = {name: getattr(cell, name) for name in ("date", "key_id", "model", "card_id", "run_id")}
    digest = ids.digest("\n".join(str(label) for label in labels.values()))[:16]
    found: dict[str, Json] = {f"day/{cell.date}": {}, f"cell/{cell.date}/{digest}": labels}
    payer = Caller(cell.team_id, cell.key_id, cell.run_id, cell.card_id, cell.sandbox_id)
    for subject in subjects_of(payer):
        found[usage.sums_of(subject)] = {"card_id": cell.card_id} if subject.startswith("run/") else {}
    return found


def _kept(name: str, sums: Json, before: Doc | None) -> Op:
    """Sums in which nothing counts any more are removed: a report would name what they are of."""
    if before and not any(sums[figure] for figure in _FIGURES):
        return Delete(name, before.etag)
    return Put(name, sums, before.etag if before else None)


def _add(sums: Json, figures: Json, date: str) -> None:
    for name, figure in figures.items():
        sums[name] = sums.get(name, 0) + figure
    _, month, day = periods_of(date)
    for span, period in (("month", month), ("day", day)):
        if sums.get(span, "") < period:
            sums |= {span: period, f"{span}_{usage.CHARGED}": 0}
        if sums[span] == period:
            sums[f"{span}_{usage.CHARGED}"] += figures[usage.CHARGED]


def _events(fresh: Sequence[_Fresh], sums: dict[str, Json]) -> list[NewEvent]:
    """One for each run, named for the last of its records."""
    last = {each.record.run_id: each for each in fresh}
    return [_told(run_id, each, sums[f"run/{run_id}"]) for run_id, each in last.items() if run_id]


def _told(run_id: str, last: _Fresh, sums: Json) -> NewEvent:
    team_id, card_id = last.record.team_id, last.record.card_id
    data = UsageData(team_id=team_id, card_id=card_id, run_id=run_id, usage=usage.from_sums(sums))
    return NewEvent("usage.recorded", f"run/{run_id}", data, [f"team.{team_id}"], id=last.event_id)
