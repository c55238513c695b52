"""Documents in TinyDB files, each with a journal: one table per partition, safe between processes and against kills.

TinyDB's own storages tear files, lose writes and rewrite the whole file for each. Reads here are answered from
memory after two stats; commits that come at once share one wait for the disk.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from shared.adapters import layout
from shared.adapters.journaled_file import Change, JournaledFile, Listing
from shared.core.groups import Groups
from shared.core.partitions import checked
from shared.core.ports import Doc, Op, Put
from shared.core.threads import to_its_end

_OPEN_FILES = 256

type Work = tuple[str, list[Change]]


class TinyDbDocuments:
    """Documents below the data folder `root`, in the files that layout.py names."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: OrderedDict[str, JournaledFile] = OrderedDict()
        self._paths: dict[str, str] = {}
        self._groups = Groups[Work, dict[str, str]](self._commit)

    async def get(self, partition: str, id: str) -> Doc | None:
        return (await self._listing(partition)).get(id)

    async def query(self, partition: str, prefix: str = "", after: str = "", limit: int | None = None) -> list[Doc]:
        return (await self._listing(partition)).query(prefix, after, limit)

    async def commit(self, partition: str, ops: Sequence[Op]) -> dict[str, str]:
        bodies = checked(ops)
        path = self._path(partition)
        if not ops:
            return {}
        changes = [
            Change(op.id, op.etag, raw if isinstance(op, Put) else None) for op, raw in zip(ops, bodies, strict=True)
        ]
        return await to_its_end(self._groups.post(path, (partition, changes)))

    async def close(self) -> None:
        """Leaves plain TinyDB files behind."""
        await self._groups.idle()
        for file in list(self._files.values()):
            await asyncio.to_thread(file.checkpoint)

    async def _commit(self, key: str, works: list[Work]) -> Sequence[dict[str, str] | Exception]:
        return await asyncio.to_thread(self._file(key).commit, works)

    async def _listing(self, partition: str) -> Listing:
        file = self._file(self._path(partition))
        if not file.is_current():
            await asyncio.to_thread(file.refresh)
        return file.partition(partition)

    def _path(self, partition: str) -> str:
        path = self._paths.get(partition)
        if path is None:
            path = str(layout.partition_file(self._root, partition))
            if len(self._paths) > 10_000:
                self._paths.clear()
            self._paths[partition] = path
        return path

    def _file(self, path: str) -> JournaledFile:
        file = self._files.get(path)
        if file is None:
            file = self._files[path] = JournaledFile(path)
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)
        else:
            self._files.move_to_end(path)
        return file
