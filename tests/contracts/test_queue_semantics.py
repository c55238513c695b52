"""The local function host treats queues as the Functions host does, row by row, against Azurite.

* bodies are base64
  TestBody.test_it_is_base64
* one that cannot be decoded goes raw to poison, uncalled
  TestBody.test_undecodable_it_goes_raw_to_poison_without_a_call
* `messageEncoding: none` hands the body over as it is
  TestBody.test_with_encoding_none_it_arrives_as_it_is
* a poll fetches `batchSize` (16)
  TestBatches.test_a_poll_asks_for_a_batch_of_16_and_a_lease_of_10_minutes
* the next one comes when `newBatchThreshold` (8 a core) or fewer run, so at most their sum at once
  TestBatches.test_at_most_a_batch_and_the_threshold_run_at_once
* no order: one slow message keeps no other waiting
  TestBatches.test_slow_message_does_not_hold_up_later_ones
* polls 100 ms apart, growing to `maxPollingInterval`, and short again after a message
  TestPolling.test_it_slows_down_to_the_longest_interval_and_is_quick_again_after_a_message
* a missing queue keeps being polled
  TestPolling.test_queue_that_is_missing_is_polled_until_it_is_there
* names are lower-cased
  TestPolling.test_names_are_lower_cased
* what a function wrote is fetched soon
  TestPolling.test_message_sent_by_a_request_is_fetched_long_before_the_next_poll_is_due
* success deletes
  TestSuccess.test_it_deletes_the_message
* the lease is renewed at half
  TestLease.test_it_is_renewed_at_half_and_the_newest_receipt_deletes
* a crashed host's message stays hidden for the lease
  TestLease.test_killed_host_leaves_its_message_hidden
* a stopped host finishes what runs, and gives the rest back
  TestLease.test_stopped_host_finishes_what_runs_and_leaves_the_rest
  TestLease.test_what_outlasts_the_grace_is_given_back
* failure makes it visible after `visibilityTimeout`
  TestFailure.test_it_is_tried_again_after_the_visibility_timeout
* whose default is 0: five tries in no time
  TestFailure.test_by_default_five_tries_take_no_time
* at `maxDequeueCount` (5) it is copied to `<queue>-poison`
  TestPoison.test_failed_too_often_it_is_copied_and_deleted
* over the count already, it goes there uncalled
  TestPoison.test_dequeued_too_often_already_it_goes_there_without_a_call
* the copy lives for seven days
  TestPoison.test_the_copy_lives_for_seven_days
* a poison queue has none of its own
  TestPoison.test_failing_there_it_stays_hidden_and_makes_no_further_queue
"""

import asyncio
import base64
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import azure.functions as func
import httpx
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue.aio import QueueClient, QueueServiceClient
from azurefunctions.extensions.http.fastapi import Request, Response

from local import host_app
from local.azurite import Azurite
from local.child import Child, accepts_connections
from local.free_ports import free_port
from local.host import FunctionHost
from local.host_config import HostConfig, QueueOptions
from tests.contracts.queue_wire import QueueWire
from tests.waiting import until

ROOT = Path(__file__).parents[2]
QUICK = QueueOptions(
    batch_size=4, new_batch_threshold=2, max_dequeue_count=3, visibility_timeout=1, max_polling_interval=0.2
)


@dataclass
class Jobs:
    """A queue with a function on it that records its calls."""

    queue: QueueClient
    poison: QueueClient
    connection: str
    behave: Callable[[str], Awaitable[None]] | None = None
    calls: list[tuple[float, str, int]] = field(default_factory=list[tuple[float, str, int]])

    @asynccontextmanager
    async def running(
        self, options: QueueOptions = QUICK, grace: float = 3.0, connection: str = ""
    ) -> AsyncIterator[FunctionHost]:
        app = func.FunctionApp()

        @app.queue_trigger("message", self.queue.queue_name, connection="AzureWebJobsStorage")
        async def work(message: func.QueueMessage) -> None:
            text = message.get_body().decode()
            self.calls.append((time.monotonic(), text, message.dequeue_count or 0))
            if self.behave:
                await self.behave(text)

        env = {"AzureWebJobsStorage": connection or self.connection}
        async with FunctionHost(host_app.read(app, env), HostConfig(queues=options), env, grace=grace) as host:
            yield host

    async def send(self, text: str, delay: int = 0) -> None:
        await self.queue.send_message(base64.b64encode(text.encode()).decode(), visibility_timeout=delay)

    async def left(self) -> int:
        """Messages in the queue, hidden ones too."""
        return (await self.queue.get_queue_properties()).approximate_message_count or 0

    async def poisoned(self) -> list[str]:
        try:
            return [str(message.content) for message in await self.poison.peek_messages(max_messages=32)]
        except ResourceNotFoundError:
            return []


@pytest.fixture
async def jobs(storage: str) -> AsyncIterator[Jobs]:
    name = f"jobs-{time.monotonic_ns()}"
    async with QueueServiceClient.from_connection_string(storage) as service:
        queue = await service.create_queue(name)
        yield Jobs(queue, service.get_queue_client(f"{name}-poison"), storage)


@pytest.fixture
async def wire(storage: str) -> AsyncIterator[QueueWire]:
    async with QueueWire.before(storage) as between:
        yield between


async def is_empty(jobs: Jobs) -> bool:
    return await jobs.left() == 0


async def fail(_: str) -> None:
    raise ValueError("broken")


class TestBody:
    async def test_it_is_base64(self, jobs: Jobs):
        async with jobs.running():
            await jobs.send("häuser")
            await until(lambda: is_empty(jobs))

        assert [(text, count) for _, text, count in jobs.calls] == [("häuser", 1)]
        assert await jobs.poisoned() == []

    async def test_undecodable_it_goes_raw_to_poison_without_a_call(self, jobs: Jobs):
        async with jobs.running():
            await jobs.queue.send_message("{not base64}")
            await until(lambda: is_empty(jobs))

        assert jobs.calls == []
        assert await jobs.poisoned() == ["{not base64}"]

    async def test_with_encoding_none_it_arrives_as_it_is(self, jobs: Jobs):
        async with jobs.running(replace(QUICK, base64=False)):
            await jobs.queue.send_message("{not base64}")
            await until(lambda: is_empty(jobs))

        assert [text for _, text, _ in jobs.calls] == ["{not base64}"]


class TestBatches:
    async def test_a_poll_asks_for_a_batch_of_16_and_a_lease_of_10_minutes(self, jobs: Jobs, wire: QueueWire):
        async with jobs.running(QueueOptions(), connection=wire.connection_string):
            await until(lambda: len(wire.polls(jobs.queue.queue_name)) >= 2)

        for poll in wire.polls(jobs.queue.queue_name):
            assert (poll.query["numofmessages"], poll.query["visibilitytimeout"]) == ("16", "600")

    async def test_at_most_a_batch_and_the_threshold_run_at_once(self, jobs: Jobs):
        running: set[str] = set()
        done: dict[str, asyncio.Event] = {str(number): asyncio.Event() for number in range(12)}
        most = 0

        async def held(text: str) -> None:
            nonlocal most
            running.add(text)
            most = max(most, len(running))
            await done[text].wait()
            running.remove(text)

        jobs.behave = held
        for number in done:
            await jobs.send(number)
        async with jobs.running():
            await until(lambda: len(running) == QUICK.batch_size)
            await asyncio.sleep(0.6)  # several polls' time
            assert len(running) == QUICK.batch_size
            for text in list(running)[: QUICK.batch_size - QUICK.new_batch_threshold]:
                done[text].set()
            await until(lambda: len(running) == QUICK.batch_size + QUICK.new_batch_threshold)
            await asyncio.sleep(0.6)
            for event in done.values():
                event.set()
            await until(lambda: is_empty(jobs))

        assert most == QUICK.batch_size + QUICK.new_batch_threshold
        assert len(jobs.calls) == len(done)

    async def test_slow_message_does_not_hold_up_later_ones(self, jobs: Jobs):
        enough = asyncio.Event()

        async def slow_at_first(text: str) -> None:
            if text == "0":
                await enough.wait()

        jobs.behave = slow_at_first
        for number in range(10):
            await jobs.send(str(number))
        async with jobs.running():
            await until(lambda: len(jobs.calls) == 10)
            enough.set()
            await until(lambda: is_empty(jobs))


class TestPolling:
    async def test_it_slows_down_to_the_longest_interval_and_is_quick_again_after_a_message(
        self, jobs: Jobs, wire: QueueWire
    ):
        name = jobs.queue.queue_name
        async with jobs.running(QueueOptions(max_polling_interval=0.8), connection=wire.connection_string):
            await until(lambda: len(wire.polls(name)) == 9)
            gaps = [later.at - earlier.at for earlier, later in pairwise(wire.polls(name))]
            await jobs.send("wake up")
            await until(lambda: len(jobs.calls) == 1)
            before = len(wire.polls(name))
            await until(lambda: len(wire.polls(name)) == before + 3)
            quick = [later.at - earlier.at for earlier, later in pairwise(wire.polls(name)[before - 1 :])]

        floors = [0.1, 0.18, 0.26, 0.42, 0.74, 0.8, 0.8, 0.8]  # 100 ms and its doublings, less a fifth for jitter
        assert all(gap >= floor - 0.02 for gap, floor in zip(gaps, floors, strict=True)), gaps
        assert gaps[0] < gaps[4]
        assert min(quick) < 0.5, quick

    async def test_queue_that_is_missing_is_polled_until_it_is_there(self, jobs: Jobs, wire: QueueWire):
        await jobs.queue.delete_queue()
        async with jobs.running(connection=wire.connection_string):
            await until(lambda: len(wire.polls(jobs.queue.queue_name)) >= 4)
            await jobs.queue.create_queue()
            await jobs.send("first")
            await until(lambda: len(jobs.calls) == 1)

    async def test_names_are_lower_cased(self, jobs: Jobs):
        app, received = func.FunctionApp(), asyncio.Event()

        @app.queue_trigger("message", jobs.queue.queue_name.upper(), connection="AzureWebJobsStorage")
        async def work(message: func.QueueMessage) -> None:
            received.set()

        env = {"AzureWebJobsStorage": jobs.connection}
        async with FunctionHost(host_app.read(app, env), HostConfig(queues=QUICK), env):
            await jobs.send("hello")
            await asyncio.wait_for(received.wait(), 10)

    async def test_delayed_message_waits_until_it_is_visible(self, jobs: Jobs):
        async with jobs.running():
            sent = time.monotonic()
            await jobs.send("later", delay=2)
            await until(lambda: is_empty(jobs))

        assert jobs.calls[0][0] - sent >= 1.5

    async def test_message_sent_by_a_request_is_fetched_long_before_the_next_poll_is_due(self, jobs: Jobs):
        app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
        received = asyncio.Event()

        @app.route("send", methods=["POST"])
        async def send(req: Request) -> Response:
            await jobs.send("hello")
            return Response("sent")

        @app.queue_trigger("message", jobs.queue.queue_name, connection="AzureWebJobsStorage")
        async def work(message: func.QueueMessage) -> None:
            received.set()

        env = {"AzureWebJobsStorage": jobs.connection}
        patient = HostConfig(queues=replace(QUICK, min_polling_interval=4, max_polling_interval=60))
        async with FunctionHost(host_app.read(app, env), patient, env) as host, httpx.AsyncClient() as client:
            await asyncio.sleep(1.5)
            await client.post(f"http://127.0.0.1:{host.port}/api/send")
            await asyncio.wait_for(received.wait(), 1)

    async def test_poison_queue_is_polled_seldom_and_yet_what_is_moved_there_is_fetched_at_once(
        self, jobs: Jobs, wire: QueueWire
    ):
        app, given_up = func.FunctionApp(), asyncio.Event()
        await jobs.poison.create_queue()

        @app.queue_trigger("message", jobs.queue.queue_name, connection="AzureWebJobsStorage")
        async def work(message: func.QueueMessage) -> None:
            raise ValueError("broken")

        @app.queue_trigger("message", jobs.poison.queue_name, connection="AzureWebJobsStorage")
        async def give_up(message: func.QueueMessage) -> None:
            given_up.set()

        env = {"AzureWebJobsStorage": wire.connection_string}
        config = HostConfig(queues=replace(QUICK, max_dequeue_count=1))
        async with FunctionHost(host_app.read(app, env), config, env):
            await until(lambda: len(wire.polls(jobs.queue.queue_name)) >= 40)
            assert len(wire.polls(jobs.poison.queue_name)) <= 10
            await jobs.send("bad")
            await asyncio.wait_for(given_up.wait(), 2)

    async def test_host_survives_an_outage_of_storage(self, jobs: Jobs, tmp_path: Path):
        async with Azurite(tmp_path / "storage") as first:
            queue = QueueClient.from_connection_string(first.connection_string, "outage")
            gone = Jobs(queue, jobs.poison, first.connection_string)
            await queue.create_queue()
            async with gone.running():
                await gone.send("before")
                await until(lambda: len(gone.calls) == 1)
                await first.child.stop()
                await asyncio.sleep(0.5)
                async with Azurite(tmp_path / "storage", first.ports):
                    await gone.send("after")
                    await until(lambda: len(gone.calls) == 2)
            await queue.close()
        assert not [task for task in asyncio.all_tasks() if "QueueListener" in repr(task.get_coro())]


class TestSuccess:
    async def test_it_deletes_the_message(self, jobs: Jobs, wire: QueueWire):
        async with jobs.running(connection=wire.connection_string):
            await jobs.send("done")
            await until(lambda: is_empty(jobs))

        assert len(jobs.calls) == 1
        assert len(wire.of("DELETE")) == 1


class TestLease:
    async def test_it_is_renewed_at_half_and_the_newest_receipt_deletes(self, jobs: Jobs, wire: QueueWire):
        async def slow(_: str) -> None:
            await asyncio.sleep(3.5)

        jobs.behave = slow
        await jobs.send("long")
        async with jobs.running(replace(QUICK, lease=2), connection=wire.connection_string):
            await until(lambda: is_empty(jobs))

        renewals = wire.of("PUT")
        (deletion,) = wire.of("DELETE")
        assert [renewal.query["visibilitytimeout"] for renewal in renewals] == ["2"] * 3
        moments = [jobs.calls[0][0], *(renewal.at for renewal in renewals)]
        assert all(0.9 < later - earlier < 1.8 for earlier, later in pairwise(moments)), moments
        receipts = [asked.query["popreceipt"] for asked in (*renewals, deletion)]
        assert len(set(receipts)) == 4  # each renewal gives another one, which alone is good
        assert len(jobs.calls) == 1

    async def test_killed_host_leaves_its_message_hidden(self, jobs: Jobs, tmp_path: Path):
        (tmp_path / "function_app.py").write_text(STUCK_APP)
        (tmp_path / "host.json").write_text('{"version": "2.0"}')
        port = free_port()
        argv = [sys.executable, "-m", "local.host", "--port", str(port), "--app-dir", str(tmp_path)]
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        env |= {"AzureWebJobsStorage": jobs.connection, "QUEUE": jobs.queue.queue_name, "MARK": str(tmp_path / "mark")}
        await jobs.send("hidden")
        async with Child("host", argv, env, tmp_path / "host.log", lambda: accepts_connections(port)) as child:
            await until((tmp_path / "mark").exists)
            os.kill(child.pid, signal.SIGKILL)
            await child.wait()

        await asyncio.sleep(1)
        assert await jobs.queue.receive_message() is None
        assert await jobs.left() == 1

    async def test_stopped_host_finishes_what_runs_and_leaves_the_rest(self, jobs: Jobs):
        finished: list[str] = []

        async def slow(text: str) -> None:
            await asyncio.sleep(0.5)
            finished.append(text)

        jobs.behave = slow
        for number in range(12):
            await jobs.send(str(number))
        async with jobs.running():
            await until(lambda: len(jobs.calls) >= 4)

        assert sorted(finished) == sorted(text for _, text, _ in jobs.calls)
        assert await jobs.left() == 12 - len(finished) > 0
        async with jobs.running():
            await until(lambda: is_empty(jobs))
        assert sorted(finished, key=int) == [str(number) for number in range(12)]

    async def test_what_outlasts_the_grace_is_given_back(self, jobs: Jobs):
        async def endless(_: str) -> None:
            await asyncio.sleep(60)

        jobs.behave = endless
        await jobs.send("endless")
        async with jobs.running(grace=0.3):
            await until(lambda: len(jobs.calls) == 1)

        message = await jobs.queue.receive_message()
        assert message is not None
        assert message.dequeue_count == 2


class TestFailure:
    async def test_it_is_tried_again_after_the_visibility_timeout(self, jobs: Jobs):
        jobs.behave = fail
        async with jobs.running():
            await jobs.send("bad")
            await until(lambda: is_empty(jobs))

        moments, texts, counts = zip(*jobs.calls, strict=True)
        assert texts == ("bad",) * 3
        assert counts == (1, 2, 3)
        assert all(later - earlier >= 0.9 for earlier, later in pairwise(moments))

    async def test_by_default_five_tries_take_no_time(self, jobs: Jobs):
        jobs.behave = fail
        async with jobs.running(QueueOptions()):
            await jobs.send("bad")
            await until(lambda: is_empty(jobs))

        assert [count for _, _, count in jobs.calls] == [1, 2, 3, 4, 5]
        assert jobs.calls[-1][0] - jobs.calls[0][0] < 2  # with a second's timeout it would be four at least


class TestPoison:
    async def test_failed_too_often_it_is_copied_and_deleted(self, jobs: Jobs):
        jobs.behave = fail
        async with jobs.running(replace(QUICK, visibility_timeout=0)):
            await jobs.send("bad")
            await until(lambda: is_empty(jobs))

        assert len(jobs.calls) == QUICK.max_dequeue_count
        assert [base64.b64decode(each) for each in await jobs.poisoned()] == [b"bad"]

    async def test_dequeued_too_often_already_it_goes_there_without_a_call(self, jobs: Jobs):
        await jobs.send("crashes its host")
        for _ in range(QUICK.max_dequeue_count):
            message = await jobs.queue.receive_message(visibility_timeout=60)
            assert message is not None
            await jobs.queue.update_message(message, visibility_timeout=0)

        async with jobs.running():
            await until(lambda: is_empty(jobs))

        assert jobs.calls == []
        assert len(await jobs.poisoned()) == 1

    async def test_the_copy_lives_for_seven_days(self, jobs: Jobs):
        """Whatever the message itself was sent with: what must not be lost has to be taken from there in time."""
        jobs.behave = fail
        await jobs.queue.send_message(base64.b64encode(b"bad").decode(), time_to_live=-1)
        async with jobs.running(replace(QUICK, visibility_timeout=0)):
            await until(lambda: is_empty(jobs))

        (copy,) = await jobs.poison.peek_messages()
        assert copy.expires_on
        assert copy.inserted_on
        assert copy.expires_on - copy.inserted_on == timedelta(days=7)

    async def test_failing_there_it_stays_hidden_and_makes_no_further_queue(self, jobs: Jobs):
        await jobs.poison.create_queue()
        last = Jobs(jobs.poison, jobs.queue, jobs.connection, fail)
        await last.send("bad")
        async with last.running():
            await until(lambda: len(last.calls) == 1)
            await asyncio.sleep(1.5)

        assert len(last.calls) == 1
        assert await last.left() == 1
        async with QueueServiceClient.from_connection_string(jobs.connection) as service:
            names = [queue.name async for queue in service.list_queues(name_starts_with=jobs.queue.queue_name)]
        assert names == [jobs.queue.queue_name, jobs.poison.queue_name]


STUCK_APP = """
import os, time
from pathlib import Path
import azure.functions as func

app = func.FunctionApp()

@app.queue_trigger("message", "%QUEUE%", connection="AzureWebJobsStorage")
def stuck(message: func.QueueMessage) -> None:
    Path(os.environ["MARK"]).touch()
    time.sleep(60)
"""
