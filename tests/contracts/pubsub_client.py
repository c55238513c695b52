"""A bare websocket client of Web PubSub's JSON subprotocols, which can be cut and recovered at will."""

import asyncio
import itertools
import json
from contextlib import suppress
from typing import Any, Self
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

RELIABLE = "json.reliable.webpubsub.azure.v1"
PLAIN = "json.webpubsub.azure.v1"


class PubSubClient:
    """`messages` in order of arrival, repeats after a recovery dropped by sequence as real clients do."""

    def __init__(self, url: str, protocol: str = RELIABLE) -> None:
        self.url = url
        self.connection_id = ""
        self.token = ""
        self.messages: list[dict[str, Any]] = []
        self.notices: list[dict[str, Any]] = []
        self.last = 0
        self._protocol = Subprotocol(protocol)
        self._acks: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._ids = itertools.count(1)
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self.start(self.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()
        await self._reader

    async def start(self, url: str) -> None:
        self.socket: ClientConnection = await connect(url, subprotocols=[self._protocol], proxy=None)
        greeted = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(self.socket, greeted))
        await asyncio.wait_for(greeted, 10)

    @property
    def closed(self) -> bool:
        return self._reader.done()

    async def cut(self) -> None:
        """The network goes away: no close frame."""
        self.socket.transport.abort()
        await self._reader

    async def recover(self, base: str | None = None, *, token: str | None = None) -> None:
        """`base`: address of another emulator process. Raises ConnectionClosed when it is refused."""
        query = urlencode({"awps_connection_id": self.connection_id, "awps_reconnection_token": token or self.token})
        url = self.url if base is None else base + self.url[self.url.index("/client/") :]
        await self.start(f"{url}&{query}")

    async def received(self, count: int, within: float = 20) -> list[Any]:
        """The data of the first `count` messages, once they are there."""
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: len(self.messages) >= count), within)
        return [message["data"] for message in self.messages]

    async def close_code(self) -> int:
        """Waits for the server to close."""
        await asyncio.wait_for(self.socket.wait_closed(), 10)
        await self._reader
        return self.socket.close_code or 0

    async def ask(self, type: str, **fields: Any) -> dict[str, Any]:
        """Sends with an ack id and returns the ack."""
        number = fields.setdefault("ackId", next(self._ids))
        self._acks[number] = asyncio.get_running_loop().create_future()
        await self.send(type=type, **fields)
        return await asyncio.wait_for(self._acks[number], 10)

    async def send(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def acknowledge(self) -> None:
        await self.send(type="sequenceAck", sequenceId=self.last)

    async def _read(self, socket: ClientConnection, greeted: asyncio.Future[None]) -> None:
        try:
            async for text in socket:
                await self._take(json.loads(text), greeted)
        except ConnectionClosed as closed:
            if not greeted.done():
                greeted.set_exception(closed)
        if not greeted.done():
            greeted.set_exception(ConnectionError("The server closed without a greeting."))
        with suppress(asyncio.CancelledError):
            greeted.exception()

    async def _take(self, message: dict[str, Any], greeted: asyncio.Future[None]) -> None:
        if message.get("event") == "connected":
            self.connection_id = message["connectionId"]
            self.token = message.get("reconnectionToken", "")
            greeted.set_result(None)
        elif message["type"] == "ack":
            self._acks[message["ackId"]].set_result(message)
        elif message["type"] == "message":
            sequence = message.get("sequenceId", self.last + 1)
            if sequence > self.last:
                self.last = sequence
                async with self._changed:
                    self.messages += [message | {"data": data} for data in _events(message["data"])]
                    self._changed.notify_all()
        else:
            self.notices.append(message)


def _events(data: Any) -> list[Any]:
    """A message holds an event, or several of them as an array."""
    several = isinstance(data, list) and data and all(isinstance(each, dict) and "specversion" in each for each in data)
    return data if several else [data]
