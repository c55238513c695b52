"""What a client asks of Azurite's queues, request by request."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

_METHODS = (b"GET ", b"PUT ", b"POST ", b"DELETE ")


@dataclass(frozen=True)
class Asked:
    """One request: when (`time.monotonic`), its method, the path below the account, its query."""

    at: float
    method: str
    path: str
    query: dict[str, str]


@dataclass
class QueueWire:
    """Stands between a client and Azurite, and passes everything on."""

    connection_string: str
    port: int
    asked: list[Asked] = field(default_factory=list[Asked])

    @classmethod
    @asynccontextmanager
    async def before(cls, connection_string: str) -> AsyncGenerator["QueueWire"]:
        parts = dict(part.split("=", 1) for part in connection_string.split(";") if part)
        behind = urlsplit(parts["QueueEndpoint"])
        assert behind.port
        wire = cls("", behind.port)
        server = await asyncio.start_server(wire._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        parts["QueueEndpoint"] = parts["QueueEndpoint"].replace(f":{behind.port}", f":{port}")
        wire.connection_string = ";".join(f"{name}={value}" for name, value in parts.items())
        yield wire
        server.close()

    def of(self, method: str, path: str) -> list[Asked]:
        return [asked for asked in self.asked if (asked.method, asked.path) == (method, path)]

    def polls(self, queue: str) -> list[Asked]:
        return self.of("GET", f"{queue}/messages")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.port)

        async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, note: bool) -> None:
            while data := await source.read(65_536):
                if note and data.startswith(_METHODS):  # the body of a message begins with `<`
                    self._note(data)
                target.write(data)
                await target.drain()

        both = [asyncio.create_task(pass_on(reader, back, True)), asyncio.create_task(pass_on(there, writer, False))]
        with suppress(ConnectionError):
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        writer.close()
        back.close()

    def _note(self, data: bytes) -> None:
        method, target, _ = data.split(b"\r\n", 1)[0].decode().split(" ")
        url = urlsplit(target)
        path = url.path.removeprefix("/").partition("/")[2]
        self.asked.append(Asked(time.monotonic(), method, path, dict(parse_qsl(url.query))))
