"""Pushes to browsers through Azure Web PubSub."""

from collections.abc import Awaitable, Sequence
from typing import Any

import orjson

from shared.core.errors import Unavailable
from shared.core.ports import Json

LARGEST = 512 * 1024
"""Bytes of events in one message; the service takes 1 MiB."""


class WebPubSubRealtime:
    """Realtime port on one hub. Clients get no roles: they only receive what their groups are sent."""

    def __init__(self, connection_string: str, hub: str) -> None:
        self._connection_string = connection_string
        self._hub = hub
        self._connected: Any = None

    async def client_url(self, user_id: str, groups: Sequence[str], minutes: int = 60) -> str:
        token = await _answered(
            self._client().get_client_access_token(user_id=user_id, groups=list(groups), minutes_to_expire=minutes)
        )
        return token["url"]

    async def publish(self, group: str, events: Sequence[Json]) -> None:
        for message in _messages(events):
            await _answered(self._client().send_to_group(group, message, content_type="application/json"))

    async def add_to_group(self, user_id: str, group: str) -> None:
        await _answered(self._client().add_user_to_group(group, user_id))

    async def remove_from_group(self, user_id: str, group: str) -> None:
        await _answered(self._client().remove_user_from_group(group, user_id))

    async def close(self) -> None:
        if self._connected is not None:
            await self._connected.close()
            self._connected = None

    def _client(self) -> Any:
        if self._connected is None:
            self._connected = _connect(self._connection_string, self._hub)
        return self._connected


def _messages(events: Sequence[Json]) -> list[Json | list[Json]]:
    """An event alone as itself, several as arrays within the size of a message."""
    messages: list[list[Json]] = []
    room = 0
    for event in events:
        size = len(orjson.dumps(event))
        if not messages or size > room:
            messages.append([])
            room = LARGEST
        messages[-1].append(event)
        room -= size
    return [message if len(message) > 1 else message[0] for message in messages]


def _connect(connection_string: str, hub: str) -> Any:
    from azure.messaging.webpubsubservice.aio import WebPubSubServiceClient

    try:
        return WebPubSubServiceClient.from_connection_string(
            connection_string, hub=hub, retry_total=2, retry_backoff_factor=0.2, connection_timeout=5, read_timeout=10
        )
    except ValueError:
        raise Unavailable(
            "WEB_PUBSUB_CONNECTION_STRING must read Endpoint=...;AccessKey=...;Version=1.0; as the Azure portal shows."
        ) from None


async def _answered(call: Awaitable[Any]) -> Any:
    from azure.core.exceptions import AzureError

    try:
        return await call
    except (TimeoutError, AzureError) as error:
        raise Unavailable(
            f"The realtime service does not answer ({type(error).__name__}). Try again in a moment."
        ) from error
