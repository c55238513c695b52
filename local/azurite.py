"""Azurite: Storage queues, blobs and tables on this machine."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from local.free_ports import free_port
from local.server import LocalServer, first_line

FOLDER = Path(__file__).with_name("azurite")
_PROGRAM = FOLDER / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
_DURABLE = FOLDER / "durable.cjs"
_HELLO = b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"
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


class Azurite(LocalServer):
    """`async with Azurite(data_dir, ports) as azurite: azurite.connection_string`. Without `data_dir`: in memory.

    Without `eager_saves` what was acknowledged in the last five seconds does not survive a kill.
    """

    name = "azurite"

    def __init__(
        self,
        data_dir: Path | None = None,
        ports: AzuritePorts | None = None,
        log_path: Path | None = None,
        *,
        eager_saves: bool = True,
    ) -> None:
        self._eager_saves = eager_saves
        self.ports = ports or AzuritePorts.free()
        super().__init__((self.ports.blob, self.ports.queue, self.ports.table), data_dir, log_path)

    async def __aenter__(self) -> Self:
        if hint := missing():
            raise AzuriteMissing(hint)
        return await super().__aenter__()

    @property
    def connection_string(self) -> str:
        endpoints = {"Blob": self.ports.blob, "Queue": self.ports.queue, "Table": self.ports.table}
        return f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};" + "".join(
            f"{service}Endpoint=http://127.0.0.1:{port}/{_ACCOUNT};" for service, port in endpoints.items()
        )

    def argv(self, folder: Path) -> list[str]:
        listen = [
            part
            for service, port in (("blob", self.ports.blob), ("queue", self.ports.queue), ("table", self.ports.table))
            for part in (f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port))
        ]
        # Telemetry's package is left out of the installation, so it must be off.
        flags = ["--silent", "--loose", "--skipApiVersionCheck", "--disableTelemetry"]
        keep = ["--inMemoryPersistence"] if self._data_dir is None else ["--location", str(folder)]
        durable = ["--require", str(_DURABLE)] if self._eager_saves else []
        return ["node", *durable, str(_PROGRAM), *listen, *flags, *keep]

    async def answers(self) -> bool:
        answers = [await first_line(port, _HELLO) for port in (self.ports.blob, self.ports.queue, self.ports.table)]
        return all(answer.startswith(b"HTTP/") for answer in answers)
