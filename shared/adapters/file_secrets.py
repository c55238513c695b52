"""Secrets as files that only this user can read."""

import os
from pathlib import Path

from shared.adapters import layout
from shared.adapters.durable_files import make_folder, replace_file, storage_errors, sync_folder
from shared.core import ids
from shared.core.threads import in_thread


class FileSecrets:
    """Secrets in `secrets/` (mode 0700) of the data folder `root`, one file (mode 0600) each."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, name: str, value: str) -> None:
        await in_thread(lambda: _put(layout.secret_file(self._root, name), value))

    async def get(self, name: str) -> str | None:
        return await in_thread(lambda: _get(layout.secret_file(self._root, name)))

    async def delete(self, name: str) -> None:
        await in_thread(lambda: _delete(layout.secret_file(self._root, name)))


def _put(path: Path, value: str) -> None:
    with storage_errors(path):
        make_folder(path.parent, mode=0o700)
        # The folder may have been made by hand, or copied.
        os.chmod(path.parent, 0o700)
        # The dot keeps it apart from every secret.
        replace_file(path, value.encode(), path.with_name(f".{ids.random_text()}.tmp"))


def _get(path: Path) -> str | None:
    with storage_errors(path):
        try:
            return path.read_bytes().decode()
        except FileNotFoundError:
            return None


def _delete(path: Path) -> None:
    with storage_errors(path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        sync_folder(path.parent)
