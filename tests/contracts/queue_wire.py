"""What a client asks of Azurite's queues, request by request."""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from tests.relay import Relay

_METHODS = (b"GET ", b"PUT ", b"POST ", b"DELETE ")


@dataclass(frozen=True)
class Asked:
    """One request: when (`time.monotonic`), its method, the path below the account, its query."""

    at: float
    method: str
    path: str
    query: dict[str, str]


class QueueWire(Relay):
    """Stands between a client and Azurite, and passes everything on."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.connection_string = ""
        self.requests: list[Asked] = []

    @classmethod
    @asynccontextmanager
    async def before(cls, connection_string: str) -> AsyncGenerator["QueueWire"]:
        parts = dict(part.split("=", 1) for part in connection_string.split(";") if part)
        behind = urlsplit(parts["QueueEndpoint"]).port
        assert behind
        wire = cls(behind)
        async with wire.open() as port:
            parts["QueueEndpoint"] = parts["QueueEndpoint"].replace(f":{behind}", f":{port}")
            wire.connection_string = ";".join(f"{name}={value}" for name, value in parts.items())
            yield wire

    def of(self, method: str) -> list[Asked]:
        return [asked for asked in self.requests if asked.method == method]

    def polls(self, queue: str) -> list[Asked]:
        return [asked for asked in self.of("GET") if asked.path == f"{queue}/messages"]

    def asked(self, data: bytes) -> None:
        if not data.startswith(_METHODS):  # the body of a message begins with `<`
            return
        method, target, _ = data.split(b"\r\n", 1)[0].decode().split(" ")
        url = urlsplit(target)
        path = url.path.removeprefix("/").partition("/")[2]
        self.requests.append(Asked(time.monotonic(), method, path, dict(parse_qsl(url.query))))
