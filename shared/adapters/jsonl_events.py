"""Event logs as JSON lines, one file per subject: append-only, line number = sequence, safe between processes."""

import asyncio
import fcntl
import os
import threading
from array import array
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import orjson

from shared.adapters import layout
from shared.adapters.durable_files import make_folder, replace_file, storage_errors, sync_folder, write_all
from shared.core import ids
from shared.core.errors import PlatformError
from shared.core.ports import Json
from shared.core.threads import in_thread

_INDEXED_FILES = 256


class JsonlEvents:
    """An EventLog below the data folder `root`, in the files that layout.py names."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._indexes: OrderedDict[Path, _Index] = OrderedDict()
        self._lock = threading.Lock()
        self._turns: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    async def append(self, subject: str, events: Sequence[Json]) -> list[int]:
        if not all(isinstance(event.get("id"), str) for event in events):
            raise ValueError("every event needs an `id`: appending is idempotent by it")
        path = layout.subject_file(self._root, subject)
        # Waiting here instead of in a thread: a busy file must not use up the pool's threads.
        async with self._turns.setdefault(path, asyncio.Lock()):
            return await in_thread(lambda: self._append(path, events))

    async def read(self, subject: str, after: int = 0, limit: int = 500) -> list[Json]:
        path = layout.subject_file(self._root, subject)
        return await asyncio.to_thread(self._read, path, max(after, 0), max(limit, 0))

    async def last(self, subject: str) -> int:
        path = layout.subject_file(self._root, subject)
        index = self._index(path)
        with storage_errors(path):
            try:
                current = index.covers(os.stat(path))
            except FileNotFoundError:
                return 0
        return index.last if current else await asyncio.to_thread(self._last, path)

    async def drop(self, subject: str) -> None:
        path = layout.subject_file(self._root, subject)
        async with self._turns.setdefault(path, asyncio.Lock()):
            await in_thread(lambda: _drop(path))

    def _append(self, path: Path, events: Sequence[Json]) -> list[int]:
        index = self._index(path)
        with storage_errors(path), _opened(path, create=True) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            index.catch_up(handle)
            sequences, lines = index.number(events)
            if lines:
                # A line that a kill left unfinished was never acknowledged.
                os.ftruncate(handle, index.end)
                write_all(handle, b"".join(line for _, line in lines))
                os.fsync(handle)
                index.add(lines)
            return sequences

    def _read(self, path: Path, after: int, limit: int) -> list[Json]:
        index = self._index(path)
        with storage_errors(path):
            try:
                with _opened(path) as handle:
                    _refresh(index, handle)
                    start, end = index.span(after, limit)
                    return [orjson.loads(line) for line in _whole_lines(_read_all(handle, start, end))]
            except FileNotFoundError:
                return []

    def _last(self, path: Path) -> int:
        index = self._index(path)
        with storage_errors(path):
            try:
                with _opened(path) as handle:
                    _refresh(index, handle)
                    return index.last
            except FileNotFoundError:
                return 0

    def _index(self, path: Path) -> "_Index":
        with self._lock:
            index = self._indexes.setdefault(path, _Index(path))
            self._indexes.move_to_end(path)
            if len(self._indexes) > _INDEXED_FILES:
                self._indexes.popitem(last=False)
            return index


class _Index:
    """Where each line of a file begins, and which event ids it holds; grows with the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._clear(0)

    @property
    def last(self) -> int:
        return len(self._starts) - 1

    @property
    def end(self) -> int:
        """Where the last whole line ends."""
        return self._starts[-1]

    def covers(self, stat: os.stat_result) -> bool:
        return self._inode == stat.st_ino and self.end == stat.st_size

    def span(self, after: int, limit: int) -> tuple[int, int]:
        """The bytes of the lines `after` + 1 to `after` + `limit`."""
        with self._lock:
            return self._starts[min(after, self.last)], self._starts[min(after + limit, self.last)]

    def catch_up(self, handle: int) -> None:
        """Take in the whole lines that were added since; a file that shrank or was replaced is read anew."""
        with self._lock:
            stat = os.fstat(handle)
            if stat.st_ino != self._inode or stat.st_size < self.end:
                self._clear(stat.st_ino)
            for line in _whole_lines(_read_all(handle, self.end, stat.st_size)):
                self._take(line)

    def number(self, events: Sequence[Json]) -> tuple[list[int], list[tuple[str, bytes]]]:
        """The sequence of each event, and the ids and lines of those that are not there yet."""
        with self._lock:
            known: dict[str, int] = {}
            lines: list[tuple[str, bytes]] = []
            for event in events:
                id_ = event["id"]
                if id_ not in self._ids and id_ not in known:
                    known[id_] = self.last + len(lines) + 1
                    lines.append((id_, orjson.dumps({**event, "sequence": known[id_]}) + b"\n"))
            return [self._ids.get(event["id"]) or known[event["id"]] for event in events], lines

    def add(self, lines: Sequence[tuple[str, bytes]]) -> None:
        """Take in lines by the ids of their events; they are on disk."""
        with self._lock:
            for id_, line in lines:
                self._ids[id_] = self.last + 1
                self._starts.append(self.end + len(line))

    def _take(self, line: bytes) -> None:
        sequence = self.last + 1
        try:
            event = orjson.loads(line)
            if event["sequence"] != sequence:
                raise ValueError(f"it says sequence {event['sequence']}")
            self._ids[event["id"]] = sequence
        except (ValueError, KeyError, TypeError) as error:
            raise PlatformError(
                f"{self._path}, line {sequence} is damaged: {error}. Restore it from a copy."
            ) from error
        self._starts.append(self.end + len(line))

    def _clear(self, inode: int) -> None:
        self._ids: dict[str, int] = {}
        self._starts = array("Q", [0])
        self._inode = inode  # last: until then `covers` says no


def _drop(path: Path) -> None:
    """An empty file takes its place: by its inode everybody's index notices."""
    with storage_errors(path):
        try:
            with _opened(path) as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                replace_file(path, b"", path.with_name(f".{ids.random_text()}.tmp"))
        except FileNotFoundError:
            return


def _refresh(index: _Index, handle: int) -> None:
    """Under a shared lock, so that an append under way is seen whole and durable or not at all."""
    if not index.covers(os.fstat(handle)):
        fcntl.flock(handle, fcntl.LOCK_SH)
        index.catch_up(handle)


@contextmanager
def _opened(path: Path, create: bool = False) -> Generator[int]:
    handle = _create(path) if create else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _create(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        make_folder(path.parent)
        handle = os.open(path, flags | os.O_CREAT, 0o600)
        sync_folder(path.parent)
        return handle


def _read_all(handle: int, start: int, end: int) -> bytes:
    parts: list[bytes] = []
    while start < end and (part := os.pread(handle, end - start, start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def _whole_lines(data: bytes) -> Iterator[bytes]:
    start = 0
    while (newline := data.find(b"\n", start)) >= 0:
        yield data[start : newline + 1]
        start = newline + 1
