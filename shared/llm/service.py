"""Records what was used: one usage record per request, counted once."""

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta

from shared.core import ids, usage
from shared.core.clock import iso, parse
from shared.core.errors import Exists, Invalid, Stale
from shared.core.events import NewEvent, UsageData
from shared.core.log import Log
from shared.core.messages import read
from shared.core.ports import ANY, Delete, Json, Op, Put
from shared.core.store import Commit, Store
from shared.core.teams import team_partition
from shared.llm.bill import periods_of, subjects_of
from shared.llm.models import UsageMessage, UsageRecord

log = Log(__name__)

_REMEMBERED = timedelta(days=7)
_TRIES = 12
_MOST_DOCUMENTS = 48
_MOST_OPS = 90
"""A commit takes a hundred, and its events are some of them."""


class UsageRecorder:
    """Keeps records (`record/<id>`) and adds them to the sums of their team, in the same commit."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def record(self, message: Json) -> None:
        """Safe to repeat. Raises Invalid for a message of unknown shape, or one too old to be told from a repeat."""
        teams: dict[str, list[UsageRecord]] = {}
        for record in read(UsageMessage, message).records:
            teams.setdefault(record.team_id, []).append(record)
        for team_id, records in teams.items():
            await self._check(records)
            if await self._is_there(team_id, records):
                await self._record_all(team_id, records)

    async def _check(self, records: Sequence[UsageRecord]) -> None:
        oldest = min(records, key=lambda record: record.time)
        if parse(oldest.time) < self._store.clock.now() - _REMEMBERED:
            raise Invalid(f"Usage record {oldest.id} is over {_REMEMBERED.days} days old: it may be counted already.")

    async def _is_there(self, team_id: str, records: Sequence[UsageRecord]) -> bool:
        """False when the team is gone. Raises Invalid for a run or card of another team."""
        doc = await self._store.documents.get(team_partition(team_id), "team")
        if doc is None:
            log.info("usage.team_gone", team_id=team_id, records=len(records))
            return False
        named = (part for record in records for part in (record.run_id, record.card_id, record.sandbox_id))
        if not {part.split("_")[1] for part in named if part is not None} <= {doc.body["scope"]}:
            raise Invalid("Its run, card or sandbox is not of its team.")
        return True

    async def _record_all(self, team_id: str, records: list[UsageRecord]) -> None:
        while records:
            group = _fitting(records)
            for _ in range(_TRIES - 1):
                try:
                    await self._record_group(team_id, group)
                    break
                except (Stale, Exists):
                    await asyncio.sleep(random.uniform(0.005, 0.05))
            else:
                await self._record_group(team_id, group)
            records = records[len(group) :]

    async def _record_group(self, team_id: str, records: list[UsageRecord]) -> None:
        documents, partition = self._store.documents, usage.partition(team_id)
        fresh = {
            record.id: record for record in records if not await documents.get(partition, f"record/{record.id}")
        }.values()
        if not fresh:
            return
        names = {name for record in fresh for name in _sums_of(record)}
        docs = {name: await documents.get(partition, name) for name in names}
        sums: dict[str, Json] = {name: doc.body if doc else {} for name, doc in docs.items()}
        for record in fresh:
            for name, labels in _sums_of(record).items():
                _add(sums[name], record)
                sums[name] |= labels
        ops: list[Op] = [Put(f"record/{record.id}", record.model_dump()) for record in fresh]
        ops += [Put(name, body, doc.etag if (doc := docs[name]) else None) for name, body in sums.items()]
        events = _events(list(fresh), sums)
        ops += await self._forgotten(partition, _MOST_OPS - len(ops) - len(events))
        await self._store.commit(Commit(partition, ops, events=events))

    async def _forgotten(self, partition: str, most: int) -> list[Op]:
        """Ids sort by time: the oldest come first."""
        oldest = await self._store.documents.query(partition, "record/", limit=most)
        limit = iso(self._store.clock.now() - _REMEMBERED)
        return [Delete(doc.id, ANY) for doc in oldest if doc.body["time"] < limit]


def _fitting(records: Sequence[UsageRecord]) -> list[UsageRecord]:
    """The first few, whose documents fit one commit."""
    names: set[str] = set()
    group: list[UsageRecord] = []
    for record in records:
        names |= {f"record/{record.id}", *_sums_of(record)}
        if group and len(names) > _MOST_DOCUMENTS:
            break
        group.append(record)
    return group


def _sums_of(record: UsageRecord) -> dict[str, Json]:
    """The documents a record counts in, and what else they say."""
    date = record.time[:10]
    labels = {"date": date, **{name: getattr(record, name) for name in ("key_id", "model", "card_id", "run_id")}}
    cell = ids.digest("\n".join(str(label) for label in labels.values()))[:16]
    found: dict[str, Json] = {f"day/{date}": {}, f"cell/{date}/{cell}": labels}
    for subject in subjects_of(record):
        found[usage.sums_of(subject)] = {"card_id": record.card_id} if subject.startswith("run/") else {}
    return found


def _add(sums: Json, record: UsageRecord) -> None:
    figures = record.model_dump() | {
        "requests": int(not record.failed),
        "failed_requests": int(record.failed),
        "unpriced_requests": int(record.cost_micro_usd is None),
        "cost_micro_usd": record.cost_micro_usd or 0,
    }
    for name in (*usage.COUNTED, usage.CHARGED):
        sums[name] = sums.get(name, 0) + figures[name]
    _, month, day = periods_of(record.time)
    for span, period in (("month", month), ("day", day)):
        if sums.get(span, "") < period:
            sums |= {span: period, f"{span}_{usage.CHARGED}": 0}
        if sums[span] == period:
            sums[f"{span}_{usage.CHARGED}"] += record.charged_micro_usd


def _events(records: Sequence[UsageRecord], sums: dict[str, Json]) -> list[NewEvent]:
    """One for each run, named for the last of its records."""
    last = {record.run_id: record for record in records}
    return [_told(run_id, record, sums[f"run/{run_id}"]) for run_id, record in last.items() if run_id]


def _told(run_id: str, last: UsageRecord, sums: Json) -> NewEvent:
    data = UsageData(team_id=last.team_id, card_id=last.card_id, run_id=run_id, usage=usage.from_sums(sums))
    return NewEvent("usage.recorded", f"run/{run_id}", data, [f"team.{last.team_id}"], id=f"usage-{last.id}")
