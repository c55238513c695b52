"""Sends messages to Azure Storage queues."""

from __future__ import annotations

import asyncio
from importlib import import_module
from math import ceil
from typing import TYPE_CHECKING

import orjson

from shared.core.errors import TooLarge, Unavailable
from shared.core.ports import LARGEST_MESSAGE, Json

if TYPE_CHECKING:  # the SDK takes 0.4 s to import: only when first used
    from azure.storage.queue.aio import QueueClient, QueueServiceClient

_NEVER = -1


class StorageQueues:
    """Queues of the storage account that `connection_string` names."""

    def __init__(self, connection_string: str) -> None:
        self._connection_string = connection_string
        self._service: QueueServiceClient | None = None
        self._clients: dict[str, QueueClient] = {}

    async def send(self, queue: str, body: Json, delay: float = 0) -> None:
        """Creates the queue when it is missing."""
        text = orjson.dumps(body)
        if len(text) > LARGEST_MESSAGE:
            raise TooLarge(f"A message of {len(text)} bytes: at most {LARGEST_MESSAGE} fit. Send a reference instead.")
        if self._service is None:  # meanwhile others are being answered
            await asyncio.to_thread(import_module, "azure.storage.queue.aio")
        from azure.core.exceptions import AzureError, ResourceNotFoundError

        client = self._queue(queue)
        try:
            try:
                await _send(client, text, delay)
            except ResourceNotFoundError:
                await _create(client)
                await _send(client, text, delay)
        except AzureError as error:
            raise Unavailable(f"Queue {queue} does not take messages. Try again in a moment.") from error

    async def close(self) -> None:
        if self._service:
            await self._service.close()
            self._service = None
            self._clients.clear()

    def _queue(self, queue: str) -> QueueClient:
        """Kept: making one takes a twelfth as long as a message."""
        if client := self._clients.get(queue):
            return client
        from azure.storage.queue import TextBase64EncodePolicy

        if self._service is None:
            self._service = _connect(self._connection_string)
        client = self._service.get_queue_client(queue.lower(), message_encode_policy=TextBase64EncodePolicy())
        self._clients[queue] = client
        return client


def _connect(connection_string: str) -> QueueServiceClient:
    from azure.storage.queue.aio import QueueServiceClient

    try:
        # The SDK's own retries would keep a caller waiting for a minute; the outbox tries again anyway.
        return QueueServiceClient.from_connection_string(
            connection_string,
            connection_timeout=3,
            read_timeout=10,
            retry_total=1,
            initial_backoff=1,
            random_jitter_range=1,
        )
    except ValueError as error:
        raise Unavailable("The queue storage is not configured: check AzureWebJobsStorage.") from error


async def _send(client: QueueClient, text: bytes, delay: float) -> None:
    await client.send_message(text.decode(), visibility_timeout=ceil(delay), time_to_live=_NEVER)


async def _create(client: QueueClient) -> None:
    from azure.core.exceptions import ResourceExistsError

    try:
        await client.create_queue()
    except ResourceExistsError:
        return  # somebody else was faster; or it is being deleted, and then sending says so
