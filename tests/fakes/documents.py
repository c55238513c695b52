"""Documents in memory, under the same rules as the stores."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from shared.adapters import layout
from shared.core.errors import Exists, Stale
from shared.core.partitions import checked
from shared.core.ports import ANY, Delete, Doc, Op, Put


class FakeDocuments:
    """`partitions` shows what is stored: partition -> id -> (etag, JSON bytes)."""

    def __init__(self) -> None:
        self.partitions: dict[str, dict[str, tuple[str, bytes]]] = {}
        self._versions = itertools.count(1)

    async def get(self, partition: str, id: str) -> Doc | None:
        row = self._rows(partition).get(id)
        return Doc(id, row[1], row[0]) if row else None

    async def query(self, partition: str, prefix: str = "", after: str = "", limit: int | None = None) -> list[Doc]:
        rows = self._rows(partition)
        found = sorted(key for key in rows if key.startswith(prefix) and key > after)
        return [Doc(key, rows[key][1], rows[key][0]) for key in found[:limit]]

    async def commit(self, partition: str, ops: Sequence[Op]) -> dict[str, str]:
        bodies = checked(ops)
        rows = dict(self._rows(partition))
        etags: dict[str, str] = {}
        for op, raw in zip(ops, bodies, strict=True):
            _check(op, rows.get(op.id))
            if isinstance(op, Delete):
                rows.pop(op.id, None)
            else:
                etags[op.id] = f"v{next(self._versions)}"
                rows[op.id] = (etags[op.id], raw)
        self.partitions[partition] = rows
        return etags

    def _rows(self, partition: str) -> dict[str, tuple[str, bytes]]:
        layout.partition_file(Path("/"), partition)
        return self.partitions.get(partition, {})


def _check(op: Op, row: tuple[str, bytes] | None) -> None:
    if op.etag == ANY:
        return
    if isinstance(op, Put) and op.etag is None:
        if row:
            raise Exists(f"{op.id} is there already.")
    elif row is None or row[0] != op.etag:
        raise Stale(f"{op.id} changed in the meantime. Read it again, then repeat the change.")
