"""A TinyDB file with a journal beside it: a commit appends one line, so its cost does not grow with the file.

The base is a plain TinyDB file, replaced whole at a checkpoint. A journal belongs to the generation that the base
names; a checkpoint that was cut off leaves a journal of the generation before, which is void. A line that a kill
left unfinished was never acknowledged. Readers of other processes see only what is on disk for good.
"""

import fcntl
import os
import threading
import time
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import orjson
from tinydb.storages import Storage

from shared.adapters.durable_files import locked, make_folder, replace_file, storage_errors, sync_folder, write_all
from shared.core.errors import Exists, PlatformError, Stale
from shared.core.packed import packed
from shared.core.ports import ANY, Doc

JOURNAL = ".journal"
_META = "_journal"
_CHECKPOINT_BYTES = 256 * 1024
"""A journal is written into its base when it is larger than this and than half the base."""
_END = "\U0010ffff"

type Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Change:
    """One operation with its body as JSON; `raw` None: a deletion. `etag` as in Put and Delete."""

    id: str
    etag: str | None
    raw: bytes | None


class Listing:
    """A partition's documents in id order. Never changed once it can be seen: changes make another one."""

    __slots__ = ("docs", "ids")

    def __init__(self, ids: list[str], docs: list[Doc]) -> None:
        self.ids = ids
        self.docs = docs

    def get(self, id: str) -> Doc | None:
        place = bisect_left(self.ids, id)
        return self.docs[place] if place < len(self.ids) and self.ids[place] == id else None

    def query(self, prefix: str, after: str, limit: int | None) -> list[Doc]:
        start = max(bisect_left(self.ids, prefix), bisect_right(self.ids, after))
        end = bisect_left(self.ids, prefix + _END) if prefix else len(self.ids)
        return self.docs[start : end if limit is None else min(end, start + limit)]

    def copy(self) -> "Listing":
        return Listing(self.ids.copy(), self.docs.copy())

    def put(self, doc: Doc) -> None:
        place = bisect_left(self.ids, doc.id)
        if place < len(self.ids) and self.ids[place] == doc.id:
            self.docs[place] = doc
        else:
            self.ids.insert(place, doc.id)
            self.docs.insert(place, doc)

    def remove(self, id: str) -> None:
        place = bisect_left(self.ids, id)
        if place < len(self.ids) and self.ids[place] == id:
            del self.ids[place], self.docs[place]


_NOTHING = Listing([], [])


class JournaledFile(Storage):
    """The partitions of one file. Reading what is current costs two stats; other calls wait for locks and the disk."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._journal = self._path.with_name(self._path.name + JOURNAL)
        self._paths = str(self._path), str(self._journal)
        self._tables: dict[str, Listing] = {}
        self._generation = 0
        self._base: Stamp | None = None
        self._tail: Stamp | None = None
        self._end = 0
        """Where the last whole line of the journal ends that is in `_tables`."""
        self._turn = threading.Lock()
        self._writing = False

    def partition(self, name: str) -> Listing:
        return self._tables.get(name, _NOTHING)

    def is_current(self) -> bool:
        """Whether nobody else has changed the file since it was read."""
        # What this process is writing counts when it is on disk; until then nobody else can write.
        if self._writing:
            return True
        with storage_errors(self._path):
            return _stamp(self._paths[0]) == self._base and _stamp(self._paths[1]) == self._tail

    def refresh(self) -> None:
        """Take in what others wrote; under a shared lock, so that a write under way is seen whole or not at all."""
        with self._turn, storage_errors(self._path):
            if self._path.exists():
                with locked(self._lock_file, fcntl.LOCK_SH):
                    self._catch_up()
            else:
                self._forget()

    def commit(self, group: Sequence[tuple[str, Sequence[Change]]]) -> list[dict[str, str] | Exception]:
        """Each of the group's commits happens or is refused by itself; what happened is on disk on return."""
        with self._turn, storage_errors(self._path):
            make_folder(self._path.parent)
            with locked(self._lock_file):
                if not self.is_current():
                    self._catch_up()
                staged = _Staged(self)
                results = [staged.add(partition, changes) for partition, changes in group]
                if staged.commits:
                    self._write(staged)
                return results

    def checkpoint(self) -> None:
        """Write the journal into its base, for whoever reads the plain file."""
        with self._turn, storage_errors(self._path):
            if _stamp(self._journal) is None:
                return
            with locked(self._lock_file):
                self._catch_up()
                if self._end:
                    self._replace(self._tables)

    # -- TinyDB's storage interface: for looking at a file with TinyDB(path, storage=JournaledFile) ---------------

    def read(self) -> dict[str, dict[str, Any]] | None:
        self.refresh()
        return orjson.loads(_dump(self._tables)) if self._tables else None

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        raise PlatformError("This file is changed through the platform only: copy it to change it by hand.")

    # -- writing, under the lock ----------------------------------------------------------------------------------

    @property
    def _lock_file(self) -> Path:
        return self._path.with_name(self._path.name + ".lock")

    def _write(self, staged: "_Staged") -> None:
        self._writing = True
        try:
            if self._base is None or self._end > max(_CHECKPOINT_BYTES, self._base[1] // 2):
                self._replace(self._tables | staged.listings)
            else:
                # One line for the group: a line that was cut off is always the last one.
                self._append(_line(orjson.dumps(staged.commits)))
            self._show(staged.listings)
        finally:
            self._writing = False

    def _append(self, line: bytes) -> None:
        handle = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = self._end
            if end == 0:  # none, or one of a generation before
                os.ftruncate(handle, 0)
                line = _header(self._generation) + line
            try:
                os.lseek(handle, end, os.SEEK_SET)
                write_all(handle, line)
                os.ftruncate(handle, end + len(line))
                os.fdatasync(handle)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(handle, end)
                self._tail = None
                raise
            if end == 0:
                sync_folder(self._path.parent)
            self._end = end + len(line)
            self._tail = _stamp_of(os.fstat(handle))
        finally:
            os.close(handle)

    def _replace(self, tables: dict[str, Listing]) -> None:
        # Always later than the file before it, whatever the clock says: a stamp never comes twice.
        moment = max(time.time_ns(), (self._base[0] if self._base else 0) + 1)
        data = _dump({name: listing for name, listing in tables.items() if listing.ids}, self._generation + 1)
        stat = replace_file(self._path, data, self._path.with_name(self._path.name + ".tmp"), moment)
        self._generation += 1
        self._base, self._end = _stamp_of(stat), 0
        self._journal.unlink(missing_ok=True)
        self._tail = None

    # -- reading, under a lock ------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._tables, self._generation, self._base, self._tail, self._end = {}, 0, None, None, 0

    def _catch_up(self) -> None:
        base = _stamp(self._path)
        if base is None:
            self._forget()
            return
        if base != self._base:
            self._read_base()
        self._read_journal()

    def _read_base(self) -> None:
        with self._path.open("rb") as file:
            stamp, data = _stamp_of(os.fstat(file.fileno())), file.read()
        try:
            parsed: dict[str, Any] = orjson.loads(data)
            meta = parsed.pop(_META, {})
            tables = {name: _listing(rows) for name, rows in parsed.items()}
            generation = int(meta.get("1", {}).get("generation", 0))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(self._path, str(error)) from error
        self._tables, self._generation, self._base, self._tail, self._end = tables, generation, stamp, None, 0

    def _read_journal(self) -> None:
        try:
            with self._journal.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_size < self._end or (self._tail and stat.st_ino != self._tail[2]):
                    self._read_base()  # another journal: begin anew
                file.seek(self._end)
                data = file.read()
        except FileNotFoundError:
            if self._end:
                self._read_base()
            self._tail = None
            return
        self._take(data)
        self._tail = _stamp_of(stat)

    def _take(self, data: bytes) -> None:
        start, header = 0, _header(self._generation)
        if self._end == 0:
            if not data.startswith(header):  # of a generation before, or its first line was cut off
                return
            start = self._end = len(header)
        listings: dict[str, Listing] = {}
        for line in _whole_lines(data, start):
            payload = _checked(line)
            if payload is None:
                if start + len(line) < len(data):
                    raise self._damaged(self._journal, f"the line at byte {self._end} does not match its checksum")
                break
            for partition, changes in orjson.loads(payload):
                listing = listings.get(partition) or listings.setdefault(partition, self.partition(partition).copy())
                for id_, *rest in changes:
                    listing.put(Doc(id_, packed(rest[1]), rest[0])) if rest else listing.remove(id_)
            start += len(line)
            self._end += len(line)
        self._show(listings)

    def _show(self, listings: dict[str, Listing]) -> None:
        self._tables.update(listings)
        for name in [name for name, listing in listings.items() if not listing.ids]:
            del self._tables[name]

    def _damaged(self, path: Path, reason: str) -> PlatformError:
        return PlatformError(f"{path} is damaged: {reason}. Restore it from a copy, or move it away.")


class _Staged:
    """What a group will change: nothing of it is seen before it is on disk."""

    def __init__(self, file: JournaledFile) -> None:
        self._file = file
        self.listings: dict[str, Listing] = {}
        self.commits: list[tuple[str, list[list[Any]]]] = []

    def add(self, partition: str, changes: Sequence[Change]) -> dict[str, str] | Exception:
        listing = self.listings.get(partition) or self._file.partition(partition)
        try:
            for change in changes:
                _check(change, listing.get(change.id))
        except PlatformError as error:
            return error
        if partition not in self.listings:
            listing = self.listings[partition] = listing.copy()
        etags: dict[str, str] = {}
        row: list[list[Any]] = []
        for change in changes:
            if change.raw is None:
                listing.remove(change.id)
                row.append([change.id])
            else:
                etag = etags[change.id] = token_hex(6)
                listing.put(Doc(change.id, change.raw, etag))
                row.append([change.id, etag, orjson.Fragment(change.raw)])
        self.commits.append((partition, row))
        return etags


def _check(change: Change, doc: Doc | None) -> None:
    if change.etag == ANY:
        return
    if change.etag is None:
        if doc is not None:
            raise Exists(f"{change.id} is there already.")
    elif doc is None or doc.etag != change.etag:
        raise Stale(f"{change.id} changed in the meantime. Read it again, then repeat the change.")


def _line(payload: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(payload), payload)


def _checked(line: bytes) -> bytes | None:
    payload = line[9:-1]
    return payload if line[:9] == b"%08x " % zlib.crc32(payload) else None


def _header(generation: int) -> bytes:
    return _line(b'{"generation":%d}' % generation)


def _whole_lines(data: bytes, start: int) -> Iterator[bytes]:
    while (newline := data.find(b"\n", start)) >= 0:
        yield data[start : newline + 1]
        start = newline + 1


def _dump(tables: dict[str, Listing], generation: int | None = None) -> bytes:
    parts: dict[str, Any] = {
        name: {doc.id: {"etag": doc.etag, "body": orjson.Fragment(doc.raw)} for doc in listing.docs}
        for name, listing in tables.items()
    }
    if generation is not None:
        parts[_META] = {"1": {"generation": generation}}
    return orjson.dumps(parts)


def _listing(rows: dict[str, Any]) -> Listing:
    ids = sorted(rows)
    return Listing(ids, [Doc(id_, packed(rows[id_]["body"]), rows[id_]["etag"]) for id_ in ids])


def _stamp(path: Path | str) -> Stamp | None:
    try:
        return _stamp_of(os.stat(path))
    except FileNotFoundError:
        return None


def _stamp_of(stat: os.stat_result) -> Stamp:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
