"""Event logs in Azure Table Storage: a subject is a partition with its events by sequence, their ids, and a head.

An append is one batch: the head moves on under its etag, so sequences have no gap, and an event's id can be
written once, so an event that is there already is refused and keeps its sequence.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from shared.adapters import layout, table_keys
from shared.adapters.storage_tables import Entity, Lost, Operation, Refused, StorageTable, chunks, joined
from shared.core.errors import Unavailable
from shared.core.groups import Groups
from shared.core.partitions import LARGEST_COMMIT, MOST_OPS
from shared.core.ports import Json

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

_HEAD = "head"
_MOST_EVENTS = 49
"""Two rows each and the head: a batch holds 100."""
_TRIES = 40
_KNOWN = 1_000

type Head = tuple[int, str | None]
"""The last sequence, and the etag of the row that says so."""


class TableEvents:
    """An EventLog in the table `events` of the account that `connection_string` names."""

    def __init__(
        self, connection_string: str, table: str = "events", identity: AsyncTokenCredential | None = None
    ) -> None:
        self._table = StorageTable(connection_string, table, identity)
        self._heads: OrderedDict[str, Head] = OrderedDict()
        self._groups = Groups[Sequence[Json], list[int]](self._append_group)

    async def append(self, subject: str, events: Sequence[Json]) -> list[int]:
        if not all(isinstance(event.get("id"), str) for event in events):
            raise ValueError("every event needs an `id`: appending is idempotent by it")
        _key(subject)
        return await self._groups.post(subject, [{**event} for event in events]) if events else []

    async def read(self, subject: str, after: int = 0, limit: int = 500) -> list[Json]:
        after, limit = max(after, 0), max(limit, 0)
        rows = await self._table.query(_key(subject), _row(after + 1), _row(after + limit + 1), limit)
        return [orjson.loads(joined(row)) for row in rows]

    async def last(self, subject: str) -> int:
        row = await self._table.get(_key(subject), _HEAD)
        return int(row["last"]) if row else 0

    async def drop(self, subject: str) -> None:
        """The head goes last: until then nobody else begins anew."""
        partition = _key(subject)
        rows = await self._table.query(partition, "", "~", select=["PartitionKey", "RowKey"])
        rows.sort(key=lambda row: row["RowKey"] == _HEAD)
        for start in range(0, len(rows), MOST_OPS):
            await self._drop_rows(rows[start : start + MOST_OPS])
        self._heads.pop(partition, None)

    async def _drop_rows(self, rows: list[Entity]) -> None:
        try:
            await self._table.submit([("delete", row) for row in rows])
        except (Refused, Lost) as error:  # some are gone already, or all
            if len(rows) > 1:
                for row in rows:
                    await self._drop_rows([row])
            elif not isinstance(error, Refused):
                raise

    async def close(self) -> None:
        await self._groups.idle()
        await self._table.close()

    async def _append_group(self, subject: str, works: list[Sequence[Json]]) -> list[list[int]]:
        """Every work's sequences. What fails is raised to all of the group: appending again is safe."""
        known: dict[str, int] = {}
        wanted: dict[str, Json] = {}
        for work in works:
            for event in work:
                wanted.setdefault(event["id"], event)
        pending = list(wanted.values())
        while pending:
            batch = _fitting(pending)
            pending = pending[len(batch) :]
            known |= await self._append(_key(subject), batch)
        return [[known[event["id"]] for event in work] for work in works]

    async def _append(self, partition: str, events: list[Json]) -> dict[str, int]:
        known: dict[str, int] = {}
        for _ in range(_TRIES):
            fresh = [event for event in events if event["id"] not in known]
            if not fresh:
                return known
            last, etag = await self._head(partition)
            numbered = {event["id"]: last + n for n, event in enumerate(fresh, 1)}
            try:
                answers = await self._table.submit(_operations(partition, fresh, last, etag))
            except Refused as refused:
                self._heads.pop(partition, None)
                if refused.index and refused.index % 2 == 0:  # an id that is there
                    known |= await self._looked_up(partition, fresh)
            except Lost:
                self._heads.pop(partition, None)
                known |= await self._looked_up(partition, fresh)
            else:
                self._remember(partition, (last + len(fresh), str(answers[0]["etag"])))
                return known | numbered
        raise Unavailable("The event log is too busy, or does not answer. Try again in a moment.")

    async def _looked_up(self, partition: str, events: list[Json]) -> dict[str, int]:
        """Sequences of those of the events that are there."""
        found: dict[str, int] = {}
        for event in events:
            row = await self._table.get(partition, _id_row(event["id"]))
            if row is not None:
                found[event["id"]] = int(row["sequence"])
        return found

    async def _head(self, partition: str) -> Head:
        head = self._heads.get(partition)
        if head is None:
            row = await self._table.get(partition, _HEAD)
            head = (int(row["last"]), str(row.metadata["etag"])) if row else (0, None)  # pyright: ignore[reportAttributeAccessIssue]
            self._remember(partition, head)
        return head

    def _remember(self, partition: str, head: Head) -> None:
        self._heads[partition] = head
        self._heads.move_to_end(partition)
        if len(self._heads) > _KNOWN:
            self._heads.popitem(last=False)


def _operations(partition: str, events: list[Json], last: int, etag: str | None) -> list[Operation]:
    """The head first; then of each event its row and the row of its id."""
    from azure.core import MatchConditions
    from azure.data.tables import UpdateMode

    head = {"PartitionKey": partition, "RowKey": _HEAD, "last": last + len(events)}
    condition = {"mode": UpdateMode.REPLACE, "etag": etag, "match_condition": MatchConditions.IfNotModified}
    operations: list[Operation] = [("update", head, condition) if etag else ("create", head)]
    for sequence, event in enumerate(events, last + 1):
        raw = orjson.dumps({**event, "sequence": sequence})
        operations.append(("create", {"PartitionKey": partition, "RowKey": _row(sequence), **chunks(raw)}))
        row = {"PartitionKey": partition, "RowKey": _id_row(event["id"]), "sequence": sequence}
        operations.append(("create", row))
    return operations


def _fitting(events: list[Json]) -> list[Json]:
    """The first events that fit one batch: at least one."""
    size = 0
    for place, event in enumerate(events[:_MOST_EVENTS]):
        size += len(orjson.dumps(event))
        if place and size > LARGEST_COMMIT:
            return events[:place]
    return events[:_MOST_EVENTS]


def _key(subject: str) -> str:
    layout.subject_file(Path("/"), subject)  # the same subjects as on disk, and no others
    return table_keys.encode(subject)


def _row(sequence: int) -> str:
    return f"event{sequence:012d}"


def _id_row(id: str) -> str:
    return f"id{table_keys.encode(id)}"
