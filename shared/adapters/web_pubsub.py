"""Pushes to browsers through Azure Web PubSub."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any
from urllib.parse import quote

import orjson

from shared.adapters.http_client import BrokenOff, NotConnected, Origin
from shared.core.errors import Unavailable
from shared.core.ports import Json

LARGEST = 512 * 1024
"""Bytes of events in one message; the service takes 1 MiB."""
_API_VERSION = "2024-12-01"
_TRIES = 3
_TOKEN_SECONDS = 120
_TOKENS_KEPT = 1_000
_NO_CONNECTION = (
    "WEB_PUBSUB_CONNECTION_STRING must read Endpoint=...;AccessKey=...;Version=1.0; as the Azure portal shows."
)


class WebPubSubRealtime:
    """Realtime port on one hub. Clients get no roles: they only receive what their groups are sent.

    `send_seconds`: how long each of three tries to send events may take.
    """

    def __init__(self, connection_string: str, hub: str, send_seconds: float = 10) -> None:
        self._connection_string = connection_string
        self._hub = hub
        self._send_seconds = send_seconds
        self._connected: Any = None
        self._sender: _Sender | None = None

    async def client_url(self, user_id: str, groups: Sequence[str], minutes: int = 60) -> str:
        token = await _answered(
            self._client().get_client_access_token(user_id=user_id, groups=list(groups), minutes_to_expire=minutes)
        )
        return token["url"]

    async def publish(self, group: str, events: Sequence[Json]) -> None:
        if self._sender is None:
            self._sender = _Sender(self._connection_string, self._hub, self._send_seconds)
        for message in _messages(events):
            await self._sender.send(group, message)

    async def add_to_group(self, user_id: str, group: str) -> None:
        await _answered(self._client().add_user_to_group(group, user_id))

    async def remove_from_group(self, user_id: str, group: str) -> None:
        await _answered(self._client().remove_user_from_group(group, user_id))

    async def close(self) -> None:
        if self._connected is not None:
            await self._connected.close()
            self._connected = None
        if self._sender is not None:
            await self._sender.close()
            self._sender = None

    def _client(self) -> Any:
        if self._connected is None:
            self._connected = _connect(self._connection_string, self._hub)
        return self._connected


class _Sender:
    """Sends to groups by the REST call that the SDK makes too, at a third of its cost: every event takes this way.

    learn.microsoft.com/rest/api/webpubsub/dataplane/web-pub-sub/send-to-group
    """

    def __init__(self, connection_string: str, hub: str, seconds: float) -> None:
        self._seconds = seconds
        parts = dict(part.split("=", 1) for part in connection_string.rstrip(";").split(";") if "=" in part)
        try:
            endpoint, self._key = parts["Endpoint"].rstrip("/"), parts["AccessKey"]
            self._origin = Origin(endpoint, connect_seconds=5)
        except (KeyError, ValueError):
            raise Unavailable(_NO_CONNECTION) from None
        self._endpoint, self._groups = endpoint, f"/api/hubs/{quote(hub, safe='')}/groups"
        self._tokens: dict[str, tuple[float, str]] = {}

    async def send(self, group: str, message: bytes) -> None:
        """Tried again when a connection that was kept turns out to be closed: receivers know an event by its id."""
        path = f"{self._groups}/{quote(group, safe='')}/:send"
        for left in reversed(range(_TRIES)):
            try:
                async with asyncio.timeout(self._seconds):
                    await self._post(path, message)
            except (NotConnected, BrokenOff, TimeoutError) as error:
                if not left:
                    raise _no_answer(error) from error
            else:
                return

    async def close(self) -> None:
        await self._origin.close()

    async def _post(self, path: str, message: bytes) -> None:
        token = self._token(self._endpoint + path)
        headers = [("authorization", f"Bearer {token}"), ("content-type", "application/json")]
        target = f"{path}?api-version={_API_VERSION}"
        answer = await self._origin.send("POST", target, headers, message, self._seconds)
        try:
            if answer.status >= 300:
                raise Unavailable(
                    f"The realtime service refuses events (HTTP {answer.status}). Check its address and access key."
                )
            while await answer.read(self._seconds):
                pass
        finally:
            answer.close()

    def _token(self, audience: str) -> str:
        import jwt

        now = time.time()
        made, token = self._tokens.get(audience, (0.0, ""))
        if not 0 <= now - made < _TOKEN_SECONDS / 2:
            if len(self._tokens) >= _TOKENS_KEPT:
                self._tokens.clear()
            token = jwt.encode({"aud": audience, "exp": int(now) + _TOKEN_SECONDS}, self._key, "HS256")
            self._tokens[audience] = now, token
        return token


def _messages(events: Sequence[Json]) -> list[bytes]:
    """An event alone as itself, several as arrays within the size of a message."""
    messages: list[list[bytes]] = []
    room = 0
    for event in map(orjson.dumps, events):
        if not messages or len(event) > room:
            messages.append([])
            room = LARGEST
        messages[-1].append(event)
        room -= len(event)
    return [message[0] if len(message) == 1 else b"[%b]" % b",".join(message) for message in messages]


def _connect(connection_string: str, hub: str) -> Any:
    from azure.messaging.webpubsubservice.aio import WebPubSubServiceClient

    try:
        return WebPubSubServiceClient.from_connection_string(
            connection_string, hub=hub, retry_total=2, retry_backoff_factor=0.2, connection_timeout=5, read_timeout=10
        )
    except ValueError:
        raise Unavailable(_NO_CONNECTION) from None


async def _answered(call: Awaitable[Any]) -> Any:
    from azure.core.exceptions import AzureError

    try:
        return await call
    except (TimeoutError, AzureError) as error:
        raise _no_answer(error) from error


def _no_answer(error: Exception) -> Unavailable:
    return Unavailable(f"The realtime service does not answer ({type(error).__name__}). Try again in a moment.")
