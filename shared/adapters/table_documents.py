"""Documents in Azure Table Storage: a partition is a PartitionKey, a document an entity, a commit one batch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.adapters import layout, table_keys
from shared.adapters.storage_tables import Entity, Lost, Operation, Refused, StorageTable, chunks, joined
from shared.core import ids
from shared.core.errors import Exists, NotFound, PlatformError, Stale, TooLarge, Unavailable
from shared.core.groups import Groups
from shared.core.partitions import LARGEST_COMMIT, MOST_OPS, checked
from shared.core.ports import ANY, Doc, Op, Put

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

_TRIES = 3
_MARK = "c"
"""The property with the id of the commit that wrote an entity: for finding out whether a lost commit happened."""

_ETAG = re.compile(r"W/\"datetime'([0-9A-Za-z%:.+-]+)'\"")
_MOMENT = re.compile(r"[0-9]{4}-[0-9A-Za-z%:.+-]+")

type Work = dict[str, tuple[Op, bytes]]
"""The operations of a commit by id, with the body of each Put as JSON."""


class TableDocuments:
    """Documents in the table `documents` of the account that `connection_string` names."""

    def __init__(
        self, connection_string: str, table: str = "documents", identity: AsyncTokenCredential | None = None
    ) -> None:
        self._table = StorageTable(connection_string, table, identity)
        self._groups = Groups[Work, dict[str, str]](self._commit_group)

    async def get(self, partition: str, id: str) -> Doc | None:
        entity = await self._table.get(_partition_key(partition), _key(id))
        return _doc(entity) if entity else None

    async def query(self, partition: str, prefix: str = "", after: str = "", limit: int | None = None) -> list[Doc]:
        start = max(table_keys.encode(prefix), table_keys.encode(after) + " " if after else "")
        end = table_keys.encode(prefix) + table_keys.LAST
        return [_doc(entity) for entity in await self._table.query(_partition_key(partition), start, end, limit)]

    async def commit(self, partition: str, ops: Sequence[Op]) -> dict[str, str]:
        bodies = checked(ops)
        key = _partition_key(partition)
        if not ops:
            return {}
        for op in ops:
            if op.etag not in (None, ANY) and not _MOMENT.fullmatch(str(op.etag)):
                raise _stale(op.id)  # no version ever had it, and the service would not understand it
        work = {op.id: (op, raw) for op, raw in zip(ops, bodies, strict=True)}
        return await self._groups.post(key, work)

    async def close(self) -> None:
        await self._groups.idle()
        await self._table.close()

    async def _commit_group(self, partition: str, works: list[Work]) -> list[dict[str, str] | Exception]:
        """Commits that do not touch each other share a batch; when it is refused, each is tried by itself."""
        results: list[dict[str, str] | Exception] = []
        while works:
            batch = _fitting(works)
            works = works[len(batch) :]
            if len(batch) > 1:
                merged = await self._result(partition, {id_: op for work in batch for id_, op in work.items()})
                if isinstance(merged, dict):
                    results += [{id_: merged[id_] for id_ in work if id_ in merged} for work in batch]
                    continue
            results += [await self._result(partition, work) for work in batch]
        return results

    async def _result(self, partition: str, work: Work) -> dict[str, str] | Exception:
        try:
            return await self._commit(partition, dict(work))
        except PlatformError as error:
            return error

    async def _commit(self, partition: str, work: Work) -> dict[str, str]:
        """A commit without an answer is looked up; it is repeated under its own mark, or left to the caller."""
        mark, lost = ids.random_text(16), False
        for _ in range(_TRIES):
            try:
                return await self._submit(partition, work, mark)
            except Lost:
                lost = True
            except PlatformError:
                if lost and (etags := await self._happened(partition, work, mark)) is not None:
                    return etags
                raise
            if (etags := await self._happened(partition, work, mark)) is not None:
                return etags
        raise Unavailable("The table storage does not answer. Try again in a moment.")

    async def _submit(self, partition: str, work: Work, mark: str) -> dict[str, str]:
        """A missing document that any deletion is fine with is left out, and the rest tried again."""
        while work:
            try:
                answers = await self._table.submit([_operation(partition, op, raw, mark) for op, raw in work.values()])
            except Refused as refused:
                id_, op = list(work)[refused.index], list(work.values())[refused.index][0]
                if isinstance(op, Put) or op.etag != ANY or refused.code != "ResourceNotFound":
                    raise _refusal(refused, id_) from refused
                del work[id_]
            else:
                pairs = zip(work.values(), answers, strict=True)
                return {op.id: _short(answer["etag"]) for (op, _), answer in pairs if isinstance(op, Put)}
        return {}

    async def _happened(self, partition: str, work: Work, mark: str) -> dict[str, str] | None:
        """The etags of a commit that happened; None for one that did not, or that only deletes (repeat it)."""
        puts = [op.id for op, _ in work.values() if isinstance(op, Put)]
        etags: dict[str, str] = {}
        for id_ in puts:
            entity = await self._table.get(partition, _key(id_))
            if entity is None or entity.get(_MARK) != mark:
                return None
            etags[id_] = _etag(entity)
        return etags or None


def _fitting(works: list[Work]) -> list[Work]:
    """The first works that may share a batch: at least one."""
    taken: set[str] = set()
    size = 0
    for place, work in enumerate(works):
        size += _bytes(work)
        if place and (len(taken) + len(work) > MOST_OPS or size > LARGEST_COMMIT or not taken.isdisjoint(work)):
            return works[:place]
        taken.update(work)
    return works


def _bytes(work: Work) -> int:
    return sum(len(raw) for _, raw in work.values())


def _operation(partition: str, op: Op, raw: bytes, mark: str) -> Operation:
    from azure.core import MatchConditions
    from azure.data.tables import UpdateMode

    entity: Entity = {"PartitionKey": partition, "RowKey": _key(op.id)}
    condition: dict[str, Any] = {
        "etag": f"W/\"datetime'{op.etag}'\"",
        "match_condition": MatchConditions.IfNotModified,
    }
    if not isinstance(op, Put):
        return ("delete", entity, {} if op.etag == ANY else condition)
    entity |= {_MARK: mark, **chunks(raw)}
    if op.etag is None:
        return ("create", entity)
    if op.etag == ANY:
        return ("upsert", entity, {"mode": UpdateMode.REPLACE})
    return ("update", entity, {"mode": UpdateMode.REPLACE, **condition})


def _refusal(refused: Refused, id: str) -> PlatformError:
    match refused.code:
        case "EntityAlreadyExists":
            return Exists(f"{id} is there already.")
        case "UpdateConditionNotSatisfied" | "ResourceNotFound":
            return _stale(id)
        case "RequestBodyTooLarge" | "EntityTooLarge" | "PropertyValueTooLarge" | "ContentLengthExceeded":
            return TooLarge("This change is larger than the table storage takes at once.")
        case code:
            return Unavailable(f"The table storage refuses this change ({code or 'no reason given'}).")


def _stale(id: str) -> Stale:
    return Stale(f"{id} changed in the meantime. Read it again, then repeat the change.")


def _partition_key(partition: str) -> str:
    layout.partition_file(Path("/"), partition)  # the same partitions as on disk, and no others
    return _key(partition)


def _key(name: str) -> str:
    key = table_keys.encode(name)
    if len(key) > table_keys.LONGEST:
        raise NotFound(f"There is no {name[:40]!r}...: names are shorter.")
    return key


def _doc(entity: Entity) -> Doc:
    return Doc(table_keys.decode(entity["RowKey"]), joined(entity), _etag(entity))


def _etag(entity: Any) -> str:
    return _short(entity.metadata["etag"])


def _short(etag: Any) -> str:
    """The moment in Table Storage's etags: what is around it could not stand in an ETag header."""
    found = _ETAG.fullmatch(str(etag))
    if found is None:
        raise Unavailable(f"The table storage answered with an etag of another form: {etag}.")
    return found[1]
