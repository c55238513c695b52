"""Blobs as files."""

import os
from pathlib import Path

from shared.adapters import layout
from shared.adapters.durable_files import make_folder, replace_file, storage_errors, sync_folder
from shared.core import ids
from shared.core.threads import in_thread


class FileBlobs:
    """Blobs in `blobs/` of the data folder `root`. A name cannot also be a folder of other names: ValueError."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, name: str, data: bytes) -> None:
        await in_thread(lambda: _put(layout.blob_file(self._root, name), name, data))

    async def get(self, name: str) -> bytes | None:
        return await in_thread(lambda: _get(layout.blob_file(self._root, name)))

    async def delete(self, name: str) -> None:
        await in_thread(lambda: _delete(layout.blob_file(self._root, name)))


def _put(path: Path, name: str, data: bytes) -> None:
    with storage_errors(path):
        try:
            make_folder(path.parent)
            # The dot keeps it apart from every blob.
            replace_file(path, data, path.with_name(f".{ids.random_text()}.tmp"))
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise ValueError(f"{name!r} cannot be both a blob and a folder of blobs") from None


def _get(path: Path) -> bytes | None:
    with storage_errors(path):
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None


def _delete(path: Path) -> None:
    with storage_errors(path):
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return
        sync_folder(path.parent)
