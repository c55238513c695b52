"""Documents in TinyDB files: one table per partition, replaced atomically, safe between processes.

TinyDB's own storages tear files and lose writes; this one replaces the file under a lock and is opened anew for
every operation. Reads go through a cache that one stat validates.
"""

import asyncio
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any, cast
from weakref import WeakValueDictionary

import orjson
from tinydb import TinyDB
from tinydb.storages import Storage
from tinydb.table import Table

from shared.adapters import layout
from shared.adapters.durable_files import locked, make_folder, replace_file, storage_errors
from shared.core.errors import Exists, PlatformError, Stale
from shared.core.ports import ANY, Doc, Json, Op, Put

type Rows = dict[str, Json]
type Tables = dict[str, Rows]
type Stamp = tuple[int, int, int]

MOST_OPS = 100
_CACHED_FILES = 256


class TinyDbDocuments:
    """Documents below the data folder `root`, in the files that layout.py names."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._cache = _Cache()
        self._turns: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    async def get(self, partition: str, id: str) -> Doc | None:
        return await asyncio.to_thread(self._get, partition, id)

    async def query(self, partition: str, prefix: str = "", after: str = "", limit: int | None = None) -> list[Doc]:
        return await asyncio.to_thread(self._query, partition, prefix, after, limit)

    async def commit(self, partition: str, ops: Sequence[Op]) -> dict[str, str]:
        if len(ops) > MOST_OPS:
            raise ValueError(f"a commit of {len(ops)} operations: at most {MOST_OPS} are allowed")
        if len({op.id for op in ops}) < len(ops) or not all(op.id for op in ops):
            raise ValueError("every operation of a commit needs an id of its own")
        path = layout.partition_file(self._root, partition)
        # Waiting here instead of in a thread: a busy file must not use up the pool's threads.
        async with self._turns.setdefault(path, asyncio.Lock()):
            return await asyncio.to_thread(self._commit, path, partition, ops)

    def _get(self, partition: str, id: str) -> Doc | None:
        row = self._table(partition).rows().get(id)
        return _doc(id, row) if row else None

    def _query(self, partition: str, prefix: str, after: str, limit: int | None) -> list[Doc]:
        rows = self._table(partition).rows()
        found = sorted(id_ for id_ in rows if id_.startswith(prefix) and id_ > after)
        return [_doc(id_, rows[id_]) for id_ in found[:limit]]

    def _commit(self, path: Path, partition: str, ops: Sequence[Op]) -> dict[str, str]:
        with storage_errors(path):
            make_folder(path.parent)
            with locked(path.with_name(path.name + ".lock")):
                return self._table(partition).commit(ops)

    def _table(self, partition: str) -> "_PartitionTable":
        path = layout.partition_file(self._root, partition)
        return cast("_PartitionTable", _Database(path, self._cache, storage=_AtomicStorage).table(partition))


class _PartitionTable(Table):
    """A partition's documents by their text ids; a row is `{"etag", "body"}`."""

    document_id_class = str  # pyright: ignore[reportAssignmentType]  # TinyDB's hook is annotated for numbers

    def rows(self) -> Rows:
        """All of them, shared with the cache: not to be changed."""
        return cast("Rows", self._read_table())

    def commit(self, ops: Sequence[Op]) -> dict[str, str]:
        etags = {op.id: token_hex(6) for op in ops if isinstance(op, Put)}

        def apply(table: dict[Any, Any]) -> None:
            for op in ops:
                _check(op, table.get(op.id))
            for op in ops:
                if isinstance(op, Put):
                    table[op.id] = {"etag": etags[op.id], "body": _copy(op.body)}
                else:
                    table.pop(op.id, None)

        self._update_table(apply)
        return etags


class _Database(TinyDB):
    table_class = _PartitionTable


class _AtomicStorage(Storage):
    """A TinyDB storage that replaces its file whole. Whoever writes holds the file's lock."""

    def __init__(self, path: Path, cache: "_Cache") -> None:
        self._path = path
        self._cache = cache

    def read(self) -> Tables | None:
        with storage_errors(self._path):
            tables = self._cache.read(self._path)
        # TinyDB changes the outer mapping before it writes; the cache must not see that.
        return dict(tables) if tables else None

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        self._cache.write(self._path, {name: rows for name, rows in data.items() if rows})


class _Cache:
    """Parsed files, the least recently used dropped first. An entry is valid while its file's stamp is the same."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Path, tuple[Stamp, Tables]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, path: Path) -> Tables:
        try:
            stamp = _stamp(os.stat(path))
            entry = self._recall(path)
            if entry and entry[0] == stamp:
                return entry[1]
            with path.open("rb") as file:
                stamp, data = _stamp(os.fstat(file.fileno())), file.read()
        except FileNotFoundError:
            return {}
        tables = _parse(path, data)
        self._keep(path, stamp, tables)
        return tables

    def write(self, path: Path, tables: Tables) -> None:
        # Always later than the file before it, whatever the clock says: a stamp never comes twice.
        try:
            before = os.stat(path).st_mtime_ns
        except FileNotFoundError:
            before = 0
        moment = max(time.time_ns(), before + 1)
        stat = replace_file(path, orjson.dumps(tables), path.with_name(path.name + ".tmp"), moment)
        self._keep(path, _stamp(stat), tables)

    def _recall(self, path: Path) -> tuple[Stamp, Tables] | None:
        with self._lock:
            entry = self._entries.get(path)
            if entry:
                self._entries.move_to_end(path)
            return entry

    def _keep(self, path: Path, stamp: Stamp, tables: Tables) -> None:
        with self._lock:
            self._entries[path] = (stamp, tables)
            self._entries.move_to_end(path)
            if len(self._entries) > _CACHED_FILES:
                self._entries.popitem(last=False)


def _stamp(stat: os.stat_result) -> Stamp:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _parse(path: Path, data: bytes) -> Tables:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise PlatformError(f"{path} is damaged: {error}. Restore it from a copy, or move it away.") from error


def _copy(body: Json) -> Json:
    return orjson.loads(orjson.dumps(body))


def _doc(id: str, row: Json) -> Doc:
    return Doc(id, orjson.dumps(row["body"]), row["etag"])


def _check(op: Op, row: Json | None) -> None:
    if op.etag == ANY:
        return
    if isinstance(op, Put) and op.etag is None:
        if row is not None:
            raise Exists(f"{op.id} is there already.")
    elif row is None or row["etag"] != op.etag:
        raise Stale(f"{op.id} changed in the meantime. Read it again, then repeat the change.")
