"""Every Queues adapter keeps the same promises."""

import asyncio
import base64
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from azure.storage.queue.aio import QueueServiceClient

from local import azurite
from local.free_ports import free_port
from shared.adapters.storage_queues import StorageQueues
from shared.core import ids
from shared.core.errors import TooLarge, Unavailable
from shared.core.ports import Queues
from tests.fakes import FakeQueues
from tests.requires import require


class FakeInbox:
    def __init__(self) -> None:
        self.queues = FakeQueues()

    async def receive(self, queue: str) -> list[dict]:
        return self.queues.bodies(queue)


class AzuriteInbox:
    """Reads what arrived over the wire, as another client would."""

    def __init__(self, queues: StorageQueues, service: QueueServiceClient) -> None:
        self.queues: Queues = queues
        self._service = service

    async def raw(self, queue: str) -> list:
        return [message async for message in self._service.get_queue_client(queue).receive_messages()]

    async def receive(self, queue: str) -> list[dict]:
        return [json.loads(base64.b64decode(message.content, validate=True)) for message in await self.raw(queue)]


@pytest.fixture(scope="session")
async def connection_string() -> AsyncIterator[str]:
    require(not azurite.missing(), azurite.missing())
    async with azurite.Azurite() as server:
        yield server.connection_string


@pytest.fixture
async def storage(connection_string: str) -> AsyncIterator[AzuriteInbox]:
    queues = StorageQueues(connection_string)
    async with QueueServiceClient.from_connection_string(connection_string) as service:
        yield AzuriteInbox(queues, service)
    await queues.close()


@pytest.fixture(params=["fake", "storage"])
def inbox(request: pytest.FixtureRequest):
    return FakeInbox() if request.param == "fake" else request.getfixturevalue("storage")


@pytest.fixture
def queue() -> str:
    return f"queue-{ids.random_text()}"


async def test_a_message_arrives_in_a_queue_that_was_missing(inbox, queue):
    body = {"version": 1, "task_id": "task_1", "text": "Grüße <&>", "deep": [1, None, {"x": True}]}
    await inbox.queues.send(queue, body)
    assert await inbox.receive(queue) == [body]


async def test_every_message_arrives(inbox, queue):
    await asyncio.gather(*(inbox.queues.send(queue, {"n": n}) for n in range(20)))
    received = []
    while len(received) < 20 and (more := await inbox.receive(queue)):
        received += more
    assert sorted(body["n"] for body in received) == list(range(20))


async def test_the_largest_message_fits_and_a_larger_one_is_refused(inbox, queue):
    room = 48 * 1024 - len('{"text":""}')
    await inbox.queues.send(queue, {"text": "x" * room})
    with pytest.raises(TooLarge, match="Send a reference instead"):
        await inbox.queues.send(queue, {"text": "x" * (room + 1)})
    assert [len(body["text"]) for body in await inbox.receive(queue)] == [room]


async def test_a_service_that_does_not_answer_is_unavailable(queue):
    fake = FakeQueues()
    fake.down = True
    with pytest.raises(Unavailable):
        await fake.send(queue, {})
    assert fake.sent == []


class TestStorageQueues:
    async def test_a_message_never_expires(self, storage, queue):
        await storage.queues.send(queue, {"n": 1})
        (message,) = await storage.raw(queue)
        assert message.expires_on.year == 9999

    async def test_a_delayed_message_is_not_visible_before_its_time(self, storage, queue):
        start = time.monotonic()
        await storage.queues.send(queue, {"n": 1}, delay=1.2)
        assert await storage.receive(queue) == []
        while not (received := await storage.receive(queue)) and time.monotonic() - start < 10:
            await asyncio.sleep(0.1)
        assert received == [{"n": 1}]
        assert time.monotonic() - start >= 1.2

    async def test_names_are_lower_cased_as_triggers_do(self, storage, queue):
        await storage.queues.send(queue.upper(), {"n": 1})
        assert await storage.receive(queue) == [{"n": 1}]

    async def test_a_queue_deleted_meanwhile_is_made_again(self, storage, queue):
        await storage.queues.send(queue, {"n": 1})
        await storage._service.delete_queue(queue)
        await storage.queues.send(queue, {"n": 2})
        assert await storage.receive(queue) == [{"n": 2}]

    async def test_it_works_again_after_close(self, storage, queue):
        await storage.queues.close()
        await storage.queues.send(queue, {"n": 1})
        assert await storage.receive(queue) == [{"n": 1}]

    async def test_a_name_no_queue_can_have_is_unavailable(self, storage):
        with pytest.raises(Unavailable):
            await storage.queues.send("a__b", {})

    async def test_nobody_listening_is_unavailable_within_seconds(self, connection_string, queue):
        port = connection_string.split("QueueEndpoint=http://127.0.0.1:")[1].split("/")[0]
        queues = StorageQueues(connection_string.replace(f":{port}/", f":{free_port()}/"))
        start = time.monotonic()
        with pytest.raises(Unavailable, match=queue):
            await queues.send(queue, {})
        assert time.monotonic() - start < 8
        await queues.close()

    @pytest.mark.parametrize("text", ["", "nonsense", "AccountName=x"])
    async def test_a_connection_string_that_is_none_says_which_setting(self, text):
        with pytest.raises(Unavailable, match="AzureWebJobsStorage"):
            await StorageQueues(text).send("q", {})

    def test_making_one_does_not_load_the_sdk(self):
        program = (
            "import sys; from shared.adapters.storage_queues import StorageQueues; StorageQueues('x');"
            "sys.exit(any(name.split('.')[0] == 'azure' for name in sys.modules))"
        )
        assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2]).returncode == 0
