"""Queue triggers, with the semantics of the Functions host's Storage queue extension.

Kept on purpose: a poll fetches a batch whenever no more than `newBatchThreshold` messages run; success deletes;
failure makes the message visible after `visibilityTimeout`, or moves it to `<queue>-poison` at `maxDequeueCount`;
a body that cannot be decoded goes there raw and uncalled; a missing queue is polled on.
"""

import asyncio
import base64
import binascii
import contextlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.functions.queue import QueueMessage as FunctionMessage
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from local.host_app import QueueFunction
from local.host_config import QueueOptions
from shared.core.log import Log

_POISON = "-poison"
_LONGEST_NAME = 63
_NUDGED_SHARE = 0.25
_GONE = (400, 404, 409)  # stale pop receipt, deleted message or queue, queue being deleted

log = Log("local.host.queues")


@dataclass
class _Held:
    """A message this process holds; the receipt changes with each renewal, and only the newest is good."""

    message: QueueMessage
    receipt: str


class QueueListener:
    """Polls one queue and calls its function.

    `run()` returns after `stop()`, once running invocations have finished; those that take longer than `grace`
    seconds are cancelled, and their messages become visible again.
    """

    def __init__(
        self,
        service: QueueServiceClient,
        function: QueueFunction,
        options: QueueOptions,
        grace: float,
        poisoned: Callable[[str], None],
    ) -> None:
        """`poisoned` is told the queue that a message was moved to."""
        self._poisoned = poisoned
        self.queue = function.queue
        self._function = function
        self._options = options
        self._grace = grace
        self._queue = service.get_queue_client(function.queue)
        self._poison = _poison_client(service, function.queue)
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._nudged = asyncio.Event()

    async def run(self) -> None:
        try:
            await self._poll()
            if self._running:
                await asyncio.wait(self._running, timeout=self._grace)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _poll(self) -> None:
        empty_polls = 0
        while not self._stopping.is_set():
            self._nudged.clear()  # before the poll: what is written while it runs may have missed it
            messages = await self._receive()
            if self._stopping.is_set():
                await self._release(messages)
            elif messages:
                empty_polls = 0
                for message in messages:
                    self._start(message)
                await self._room_for_a_batch()
            else:
                await self._pause(self._delay(empty_polls))
                empty_polls += 1

    @property
    def fed_by_functions(self) -> bool:
        """Poison queues are fed by the host."""
        return not self.queue.endswith(_POISON)

    def stop(self) -> None:
        self._stopping.set()
        self._nudged.set()

    def nudge(self) -> None:
        """An invocation ended on this host and may have sent messages: poll soon, whatever the delay has grown to.

        The Functions host does this for the queue a function writes to; which one that was is not known here. A poison
        queue is nudged by what was moved there, and polled at once.
        """
        self._nudged.set()

    async def _pause(self, delay: float) -> None:
        """Nudged, a quarter of `delay`: steady traffic elsewhere must not keep an empty queue being polled hard.

        What a poison queue is nudged by lies in it for sure.
        """
        share = _NUDGED_SHARE if self.fed_by_functions else 0
        quarter = asyncio.get_running_loop().time() + delay * share
        if await _occurs(self._nudged, delay):
            await _occurs(self._stopping, quarter - asyncio.get_running_loop().time())

    async def _release(self, messages: list[QueueMessage]) -> None:
        for message in messages:
            await self._settled(message, self._set_visible(_Held(message, str(message.pop_receipt)), after=0))

    def _delay(self, empty_polls: int) -> float:
        """Grows from the shortest interval by powers of two, with jitter, up to the longest."""
        shortest, longest = self._options.min_polling_interval, self._options.max_polling_interval
        if empty_polls == 0:
            return shortest
        growth = 2.0 ** min(empty_polls - 1, 30) * random.uniform(0.8, 1.2)
        return min(longest, shortest + growth * shortest)

    async def _receive(self) -> list[QueueMessage]:
        pages = self._queue.receive_messages(
            messages_per_page=self._options.batch_size, visibility_timeout=self._options.lease
        ).by_page()
        try:
            async for page in pages:  # one page is one request; asking on would cost a second one
                return [message async for message in page]
        except ResourceNotFoundError:
            log.debug("queue.missing", queue=self._function.queue)
        except AzureError as error:
            log.warning("queue.poll_failed", queue=self._function.queue, error=str(error))
        return []

    def _start(self, message: QueueMessage) -> None:
        task = asyncio.create_task(self._settled(message, self._handle(_Held(message, str(message.pop_receipt)))))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _room_for_a_batch(self) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while len(self._running) > self._options.new_batch_threshold and not stopping.done():
                await asyncio.wait((*self._running, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    async def _settled(self, message: QueueMessage, work: Awaitable[None]) -> None:
        """Lets nothing of Storage's through: whatever goes wrong there, the message comes back by itself."""
        try:
            await work
        except HttpResponseError as error:
            if error.status_code not in _GONE:
                log.warning("queue.settle_failed", **self._fields(message), error=str(error))
        except AzureError as error:
            log.warning("queue.settle_failed", **self._fields(message), error=str(error))

    async def _handle(self, held: _Held) -> None:
        if (held.message.dequeue_count or 0) > self._options.max_dequeue_count:
            return await self._move_to_poison(held)
        try:
            body = self._decode(held.message.content)
        except (binascii.Error, ValueError):
            log.warning("queue.message_undecodable", **self._fields(held.message))
            return await self._move_to_poison(held)
        async with self._renewed(held):
            succeeded = await self._call(held, body)
        if succeeded:
            await self._queue.delete_message(held.message.id, held.receipt)
        else:
            await self._give_back(held)
        return None

    def _decode(self, content: str) -> bytes:
        return base64.b64decode(content, validate=True) if self._options.base64 else content.encode()

    async def _call(self, held: _Held, body: bytes) -> bool:
        try:
            await self._function.call(**{self._function.argument: _as_function_message(held, body)})
        except asyncio.CancelledError:
            await self._set_visible(held, after=0)
            raise
        except Exception:
            log.exception("function.failed", function=self._function.name, **self._fields(held.message))
            return False
        return True

    async def _give_back(self, held: _Held) -> None:
        if self._poison is None:  # stays hidden until its lease ends: there is no other queue to break a fast loop
            return
        if (held.message.dequeue_count or 0) >= self._options.max_dequeue_count:
            await self._move_to_poison(held)
        else:
            await self._set_visible(held, after=int(self._options.visibility_timeout))

    async def _set_visible(self, held: _Held, after: int) -> None:
        await self._queue.update_message(held.message.id, held.receipt, visibility_timeout=after)

    async def _move_to_poison(self, held: _Held) -> None:
        if self._poison is None:
            return
        try:
            await self._poison.send_message(held.message.content)
        except ResourceNotFoundError:
            with contextlib.suppress(ResourceExistsError):
                await self._poison.create_queue()
            await self._poison.send_message(held.message.content)
        self._poisoned(self._poison.queue_name)
        await self._queue.delete_message(held.message.id, held.receipt)
        log.warning("queue.message_poisoned", **self._fields(held.message))

    @asynccontextmanager
    async def _renewed(self, held: _Held) -> AsyncGenerator[None]:
        renewal = asyncio.create_task(self._renew(held))
        try:
            yield
        finally:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)

    async def _renew(self, held: _Held) -> None:
        while True:
            await asyncio.sleep(self._options.lease / 2)
            try:
                renewed = await self._queue.update_message(
                    held.message.id, held.receipt, visibility_timeout=self._options.lease
                )
                held.receipt = str(renewed.pop_receipt)
            except AzureError as error:
                log.warning("queue.renewal_failed", **self._fields(held.message), error=str(error))

    def _fields(self, message: QueueMessage) -> dict[str, object]:
        return {"queue": self._function.queue, "message_id": message.id, "dequeue_count": message.dequeue_count}


async def _occurs(event: asyncio.Event, seconds: float) -> bool:
    """Whether it is set within that time."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), max(0.0, seconds))
    return event.is_set()


def poison_queue(queue: str) -> str | None:
    """A poison queue has none of its own, nor has a queue whose poison queue's name would be too long."""
    return None if queue.endswith(_POISON) or len(queue + _POISON) > _LONGEST_NAME else queue + _POISON


def _poison_client(service: QueueServiceClient, queue: str) -> QueueClient | None:
    name = poison_queue(queue)
    return service.get_queue_client(name) if name else None


def _as_function_message(held: _Held, body: bytes) -> FunctionMessage:
    message = held.message
    return FunctionMessage(
        id=message.id,
        body=body,
        dequeue_count=message.dequeue_count,
        expiration_time=message.expires_on,
        insertion_time=message.inserted_on,
        time_next_visible=message.next_visible_on,
        pop_receipt=message.pop_receipt,
    )
