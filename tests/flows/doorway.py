"""A door in front of a server, which a test shuts or holds: what passes through it is what the platform sees."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self

from local.free_ports import free_port


class Doorway:
    """Forwards connections to `target` while open. Shut, it breaks them off; held, it lets them wait."""

    def __init__(self) -> None:
        self.port, self.target = free_port(), 0
        self.waiting = 0
        self._shut, self._free = False, asyncio.Event()
        self._free.set()

    @classmethod
    @asynccontextmanager
    async def standing(cls) -> AsyncGenerator[Self]:
        self = cls()
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            self._free.set()
            server.close()

    def shut(self) -> None:
        self._shut = True

    def hold(self) -> None:
        self._free.clear()

    def open(self) -> None:
        self._shut = False
        self._free.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            self.waiting += 1
            await self._free.wait()
            self.waiting -= 1
            if self._shut:
                return
            there, onward = await asyncio.open_connection("127.0.0.1", self.target)
            with contextlib.closing(onward):
                await asyncio.wait(
                    [asyncio.create_task(_pump(reader, onward)), asyncio.create_task(_pump(there, writer))],
                    return_when=asyncio.FIRST_COMPLETED,
                )


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
