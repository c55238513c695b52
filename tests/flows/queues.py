"""The platform's queues as somebody who writes on them sees them."""

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import orjson
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue.aio import QueueServiceClient

from local.cloud import LocalCloud
from tests.flows.world import Json, Person
from tests.waiting import until


class Queues:
    def __init__(self, service: QueueServiceClient) -> None:
        self._service = service

    @classmethod
    @asynccontextmanager
    async def of(cls, cloud: LocalCloud) -> AsyncGenerator["Queues"]:
        async with QueueServiceClient.from_connection_string(cloud.azurite.connection_string) as service:
            yield cls(service)

    async def send(self, queue: str, *bodies: Json) -> None:
        """As the platform itself sends them."""
        for body in bodies:
            await self.send_bytes(queue, orjson.dumps(body))

    async def send_bytes(self, queue: str, content: bytes) -> None:
        await self.send_text(queue, base64.b64encode(content).decode())

    async def send_text(self, queue: str, text: str) -> None:
        client = self._service.get_queue_client(queue)
        try:
            await client.send_message(text, time_to_live=-1)
        except ResourceNotFoundError:
            with suppress(ResourceExistsError):
                await client.create_queue()
            await client.send_message(text, time_to_live=-1)

    async def drained(self, queue: str) -> None:
        """No message waits; what a killed host had taken stays hidden and does not count."""

        async def empty() -> bool:
            try:
                return not await self._service.get_queue_client(queue).peek_messages()
            except ResourceNotFoundError:
                return True

        await until(empty, within=20, every=0.2)
        await asyncio.sleep(0.5)

    async def emptied(self, queue: str) -> None:
        """No message is there, neither waiting nor hidden until it is tried again."""

        async def empty() -> bool:
            try:
                found = await self._service.get_queue_client(queue).get_queue_properties()
            except ResourceNotFoundError:
                return True
            return found.approximate_message_count == 0

        await until(empty, within=60, every=0.5)


async def incidents(admin: Person, queue: str) -> list[Json]:
    return [item for item in (await admin.get("/api/incidents"))["items"] if item["queue"] == queue]
