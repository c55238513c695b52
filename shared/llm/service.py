"""Records what was used: one message per answer of the model, counted once."""

import asyncio
import random
from datetime import timedelta

from shared.core import usage
from shared.core.clock import iso, parse
from shared.core.errors import Exists, Invalid, Stale
from shared.core.events import NewEvent, UsageData
from shared.core.log import Log
from shared.core.messages import read
from shared.core.ports import ANY, Delete, Doc, Json, Op, Put
from shared.core.store import Commit, Store
from shared.core.teams import team_partition
from shared.llm.models import UsageMessage

log = Log(__name__)

_REMEMBERED = timedelta(days=7)
_TRIES = 12
_PRUNED_AT_ONCE = 20


class UsageRecorder:
    """Adds a message to the sums of its team, and remembers its id (`seen/<id>`) in the same commit."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def record(self, message: Json) -> None:
        """Safe to repeat. Raises Invalid for a message of unknown shape, or one too old to be told from a repeat."""
        used = read(UsageMessage, message)
        if not await self._counts(used):
            return log.info("usage.team_gone", team_id=used.team_id, usage_id=used.id)
        if parse(used.time) < self._store.clock.now() - _REMEMBERED:
            raise Invalid(f"Usage message {used.id} is over {_REMEMBERED.days} days old: it may be counted already.")
        for _ in range(_TRIES - 1):
            try:
                return await self._record_once(used)
            except (Stale, Exists):
                await asyncio.sleep(random.uniform(0.005, 0.05))
        return await self._record_once(used)

    async def _counts(self, used: UsageMessage) -> bool:
        """False when the team is gone. Raises Invalid for a run or card of another team."""
        doc = await self._store.documents.get(team_partition(used.team_id), "team")
        if doc is None:
            return False
        scopes = {part.split("_")[1] for part in (used.run_id, used.card_id) if part is not None}
        if not scopes <= {doc.body["scope"]}:
            raise Invalid("Its run or card is not of its team.")
        return True

    async def _record_once(self, used: UsageMessage) -> None:
        partition = usage.partition(used.team_id)
        if await self._store.documents.get(partition, f"seen/{used.id}"):
            return
        ops: list[Op] = [Put(f"seen/{used.id}", {"time": used.time})]
        sums: dict[str, Json] = {}
        for name, labels in _sums_of(used).items():
            doc = await self._store.documents.get(partition, name)
            sums[name] = _added(doc, used) | labels
            ops.append(Put(name, sums[name], doc.etag if doc else None))
        ops += await self._forgotten(partition)
        await self._store.commit(Commit(partition, ops, events=_events(used, sums)))

    async def _forgotten(self, partition: str) -> list[Op]:
        """Ids sort by time: the oldest come first."""
        oldest = await self._store.documents.query(partition, "seen/", limit=_PRUNED_AT_ONCE)
        limit = iso(self._store.clock.now() - _REMEMBERED)
        return [Delete(doc.id, ANY) for doc in oldest if doc.body["time"] < limit]


def _sums_of(used: UsageMessage) -> dict[str, Json]:
    """The documents a message counts in, and what else they say."""
    found: dict[str, Json] = {usage.TOTAL: {}, f"day/{used.time[:10]}": {}}
    if used.run_id:
        found[f"run/{used.run_id}"] = {"card_id": used.card_id}
    if used.card_id:
        found[f"card/{used.card_id}"] = {}
    return found


def _added(doc: Doc | None, used: UsageMessage) -> Json:
    before = doc.body if doc else {}
    figures = used.model_dump() | {"requests": 1}
    return {name: before.get(name, 0) + figures[name] for name in usage.COUNTED}


def _events(used: UsageMessage, sums: dict[str, Json]) -> list[NewEvent]:
    if not used.run_id:
        return []
    totals = usage.from_sums(sums[f"run/{used.run_id}"])
    data = UsageData(team_id=used.team_id, card_id=used.card_id, run_id=used.run_id, usage=totals)
    groups = [f"team.{used.team_id}"]
    return [NewEvent("usage.recorded", f"run/{used.run_id}", data, groups, id=f"usage-{used.id}")]
