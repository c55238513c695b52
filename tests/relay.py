"""A wire between a client and a server on the loopback, which passes everything on and can be listened to."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress


class Relay:
    """`async with Relay(port).open() as own_port`. Subclasses look at what passes."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self.silent = False
        """While this is so nothing is passed on and nobody is told, as when the server's machine has vanished."""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()

    def asked(self, data: bytes) -> None:
        """Some of what a client sent."""

    def answered(self, data: bytes) -> None:
        """Some of what the server sent."""

    def left(self) -> None:
        """A client closed its connection."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._behind)

        async def forth() -> None:
            while data := await reader.read(65_536):
                if self.silent:
                    continue
                self.asked(data)
                back.write(data)
                await back.drain()
            self.left()

        async def home() -> None:
            while data := await there.read(65_536):
                if self.silent:
                    continue
                self.answered(data)
                writer.write(data)
                await writer.drain()

        both = [asyncio.create_task(forth()), asyncio.create_task(home())]
        with suppress(ConnectionError):
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        writer.close()
        back.close()
