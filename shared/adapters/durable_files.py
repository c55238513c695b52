"""Files that survive kills and power cuts, and processes that share them: replaced whole, under a lock."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from shared.core.errors import Unavailable


def make_folder(folder: Path, mode: int = 0o755) -> None:
    """Creates it with its parents and makes their entries durable; a folder that is there keeps its mode."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=mode, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes creations, renames and removals in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path, mode: int = fcntl.LOCK_EX) -> Generator[None]:
    """Only one holder at a time, of all threads and processes; with LOCK_SH many, but no exclusive one.

    The lock file stays: removing it would be a race.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, mode)
        yield
    finally:
        os.close(handle)


class storage_errors:  # noqa: N801 - used as a function; a class, since every read enters it
    """A full or broken disk becomes Unavailable."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            text = f"The data folder cannot be used: {reason} ({self._path.name}). Make room or fix it."
            raise Unavailable(text) from error


def replace_file(path: Path, data: bytes, temporary: Path, mtime_ns: int | None = None) -> os.stat_result:
    """Puts `data` in place of `path` in one step, mode 0600; returns the new file's stat.

    `temporary` lies in the same folder and is nobody else's. `mtime_ns` sets the modification time.
    """
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            write_all(handle, data)
            if mtime_ns is not None:
                os.utime(handle, ns=(mtime_ns, mtime_ns))
            os.fsync(handle)
            stat = os.fstat(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return stat


def write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
