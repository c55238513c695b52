"""Azurite: Storage queues, blobs and tables on this machine."""

import asyncio
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from local.child import Child, free_port, require_free

FOLDER = Path(__file__).with_name("azurite")
_PROGRAM = FOLDER / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
_INSTALL = "npm ci --prefix local/azurite"

_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class AzuriteMissing(RuntimeError):
    """Node or Azurite's packages are not installed; the text says what to run."""


@dataclass(frozen=True)
class AzuritePorts:
    blob: int
    queue: int
    table: int

    @classmethod
    def free(cls) -> "AzuritePorts":
        return cls(blob=free_port(), queue=free_port(), table=free_port())


def missing() -> str:
    """What to do before Azurite can run here; empty when nothing is missing."""
    if shutil.which("node") is None:
        return "Install Node.js 20 or newer: Azurite runs on it."
    if not _PROGRAM.exists():
        return f"Azurite is not installed: run `{_INSTALL}`."
    return ""


class Azurite:
    """`async with Azurite(data_dir, ports) as azurite: azurite.connection_string`. Without `data_dir`: in memory."""

    def __init__(
        self, data_dir: Path | None = None, ports: AzuritePorts | None = None, log_path: Path | None = None
    ) -> None:
        self.ports = ports or AzuritePorts.free()
        self._data_dir = data_dir
        self._log_path = log_path
        self._child: Child | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    async def __aenter__(self) -> Self:
        if hint := missing():
            raise AzuriteMissing(hint)
        require_free("azurite", self.ports.blob, self.ports.queue, self.ports.table)
        folder = self._folder()
        env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._child = Child(
            "azurite", self._argv(folder), env, self._log_path or folder / "azurite.log", self._answers, cwd=folder
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
            raise AzuriteMissing("Azurite has not been started.")
        return self._child

    @property
    def connection_string(self) -> str:
        endpoints = {"Blob": self.ports.blob, "Queue": self.ports.queue, "Table": self.ports.table}
        return f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};" + "".join(
            f"{service}Endpoint=http://127.0.0.1:{port}/{_ACCOUNT};" for service, port in endpoints.items()
        )

    def _folder(self) -> Path:
        if self._data_dir is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="azurite-")
            return Path(self._scratch.name)
        self._data_dir.mkdir(parents=True, exist_ok=True)
        return self._data_dir.resolve()

    def _argv(self, folder: Path) -> list[str]:
        listen = [
            part
            for service, port in (("blob", self.ports.blob), ("queue", self.ports.queue), ("table", self.ports.table))
            for part in (f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port))
        ]
        # Telemetry's package is left out of the installation, so it must be off.
        flags = ["--silent", "--loose", "--skipApiVersionCheck", "--disableTelemetry"]
        keep = ["--inMemoryPersistence"] if self._data_dir is None else ["--location", str(folder)]
        return ["node", str(_PROGRAM), *listen, *flags, *keep]

    async def _answers(self) -> bool:
        answers = [await _answers_http(port) for port in (self.ports.blob, self.ports.queue, self.ports.table)]
        return all(answers)


async def _answers_http(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        await writer.drain()
        return (await reader.readline()).startswith(b"HTTP/")
    except OSError:
        return False
    finally:
        writer.close()
