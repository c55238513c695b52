"""What Azurite and Valkey have in common: a child process on fixed ports, with a folder to keep things in or none."""

import asyncio
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from local.child import Child, ChildFailed, require_free


class LocalServer(ABC):
    """`async with` runs it; `child` may be killed and started again meanwhile: same ports, same folder.

    Without `data_dir` nothing is kept. Subclasses say how it is started and when it answers.
    """

    name: str

    def __init__(self, ports: Sequence[int], data_dir: Path | None, log_path: Path | None) -> None:
        self._ports, self._data_dir, self._log_path = ports, data_dir, log_path
        self._child: Child | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    @abstractmethod
    def argv(self, folder: Path) -> list[str]: ...

    @abstractmethod
    async def answers(self) -> bool: ...

    async def __aenter__(self) -> Self:
        require_free(self.name, *self._ports)
        folder = self._folder()
        env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        log = self._log_path or folder / f"{self.name}.log"
        self._child = Child(self.name, self.argv(folder), env, log, self.answers, cwd=folder)
        await self._child.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._child:
            await self._child.stop()
        if self._scratch:
            self._scratch.cleanup()

    @property
    def child(self) -> Child:
        if self._child is None:
            raise ChildFailed(f"{self.name} has not been started.")
        return self._child

    def _folder(self) -> Path:
        if self._data_dir is None:
            self._scratch = tempfile.TemporaryDirectory(prefix=f"{self.name}-")
            return Path(self._scratch.name)
        self._data_dir.mkdir(parents=True, exist_ok=True)
        return self._data_dir.resolve()


async def first_line(port: int, asked: bytes) -> bytes:
    """What a server on the loopback answers first; nothing when it does not answer."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return b""
    try:
        writer.write(asked)
        await writer.drain()
        return await reader.readline()
    except OSError:
        return b""
    finally:
        writer.close()
