"""The ports of the local cloud: fixed for people, free ones for tests and the demo."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import psutil

from local.child import require_free
from local.free_ports import free_port


@dataclass(frozen=True, slots=True)
class CloudPorts:
    web: int = 4280
    api: int = 7071
    entra: int = 4281
    entra_tls: int = 4282
    github: int = 4283
    realtime: int = 4284
    model: int = 4285
    valkey: int = 4286
    blobs: int = 10000
    queues: int = 10001
    tables: int = 10002

    @classmethod
    def free(cls) -> "CloudPorts":
        return cls(**{field.name: free_port() for field in fields(cls)})

    def all(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


class PortsTaken(RuntimeError):
    """Ports of the local cloud are in use; the text names each with its owner."""


def require_all_free(ports: CloudPorts) -> None:
    """Raises PortsTaken naming every port in use and who uses it."""
    taken = [(name, port) for name, port in ports.all().items() if not _is_free(port)]
    if taken:
        owners = _owners([port for _, port in taken])
        lines = [f"  port {port} ({name}) is in use by {owners.get(port, 'another user')}" for name, port in taken]
        raise PortsTaken(
            "The local cloud cannot start:\n" + "\n".join(lines) + "\nStop what uses them, then try again."
        )


def _is_free(port: int) -> bool:
    try:
        require_free("local cloud", port)
    except RuntimeError:
        return False
    return True


def _owners(ports: Sequence[int]) -> dict[int, str]:
    """Port -> `name (pid)`; processes of other users stay unknown."""
    found: dict[int, str] = {}
    for process in psutil.process_iter():
        try:
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports:
                    found[connection.laddr.port] = f"{process.name()} (process {process.pid})"
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found
