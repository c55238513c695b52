"""The realtime emulator brings a socket each message once and in order, whatever comes with the rings."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from local.pubsub.delivery import Delivery
from local.pubsub.doorbell import Message
from local.pubsub.store import BATCH, Drained, Session
from tests.waiting import until

SESSION = Session(id="c", hub="h", user="", roles=frozenset(), token="t", owner="o")


class _Mailboxes:
    """One mailbox that keeps what is not acknowledged."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.state, self.looks, self.renewals = "open", 0, 0
        self.slow = 0.0

    def put(self, count: int = 1) -> Message:
        for _ in range(count):
            number = len(self.messages) + 1
            self.messages.append((number, f'{{"n":{number}}}'))
        return self.messages[-1]

    async def drain(self, session: Session, sent: int, *, remove: bool) -> Drained:
        await asyncio.sleep(self.slow)
        self.looks += 1
        return Drained(self.state, "", self.messages[sent:][:BATCH])

    async def renew(self, session: Session) -> None:
        self.renewals += 1


class _Socket:
    """Takes messages while it is `open`."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.broken = False
        self.texts: list[str] = []

    async def send(self, text: str) -> None:
        await self.open.wait()
        if self.broken:
            raise ConnectionResetError
        self.texts.append(text)


def _sent(count: int) -> list[str]:
    return [f'{{"n":{n},"sequenceId":{n}}}' for n in range(1, count + 1)]


class TestDelivery:
    async def test_what_comes_with_a_ring_goes_out_in_it(self) -> None:
        async with _running() as (mailboxes, socket, delivery, _):
            looks = mailboxes.looks
            for count in (1, 2, 3):
                delivery.ring(mailboxes.put())
                assert socket.texts == _sent(count)
            await asyncio.sleep(0.01)
            assert mailboxes.looks == looks

    @pytest.mark.parametrize("rung", [None, (4, '{"n":4}'), (3, '{"n":3}')])
    async def test_whatever_else_is_rung_the_mailbox_tells_what_to_send(self, rung: Message | None) -> None:
        async with _running() as (mailboxes, socket, delivery, _):
            delivery.ring(mailboxes.put())
            mailboxes.put(4)
            delivery.ring(rung)
            await until(lambda: len(socket.texts) == 5)
            delivery.ring(mailboxes.put())
            assert socket.texts == _sent(6)

    async def test_a_socket_that_is_full_gets_the_rest_later(self) -> None:
        async with _running() as (mailboxes, socket, delivery, _):
            socket.open.clear()
            for _ in range(2 * BATCH + 7):
                delivery.ring(mailboxes.put())
                await asyncio.sleep(0)
            assert socket.texts == []
            socket.open.set()
            await until(lambda: len(socket.texts) == 2 * BATCH + 7)
            assert socket.texts == _sent(2 * BATCH + 7)

    async def test_messages_that_come_while_it_looks_are_not_missed(self) -> None:
        async with _running() as (mailboxes, socket, delivery, _):
            delivery.ring(None)
            for _ in range(50):
                delivery.ring(mailboxes.put())
                await asyncio.sleep(0)
            await until(lambda: len(socket.texts) == 50)
            assert socket.texts == _sent(50)

    async def test_a_lost_ring_is_a_delay_however_lively_it_was_before(self) -> None:
        async with _running(look_every=0.1) as (mailboxes, socket, delivery, _):
            for _ in range(10):
                await asyncio.sleep(0.02)
                delivery.ring(mailboxes.put())
            mailboxes.put()
            await until(lambda: len(socket.texts) == 11)
            assert socket.texts == _sent(11)

    @pytest.mark.parametrize("reliable", [True, False])
    async def test_its_connection_lives_on_however_busy_it_is(self, reliable: bool) -> None:
        async with _running(reliable=reliable, renew_every=0.05) as (mailboxes, _, delivery, _):
            mailboxes.slow, before = 0.03, mailboxes.renewals
            for _ in range(40):
                mailboxes.put()
                delivery.ring(None)
                await asyncio.sleep(0.01)
            assert mailboxes.renewals - before >= 3

    @pytest.mark.parametrize("full", [False, True], ids=["at once", "later"])
    async def test_a_socket_that_breaks_ends_it(self, full: bool) -> None:
        async with _running() as (mailboxes, socket, delivery, running):
            socket.broken = True
            if full:
                socket.open.clear()
            delivery.ring(mailboxes.put())
            await asyncio.sleep(0.01)
            socket.open.set()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(running, 5)

    async def test_a_connection_that_is_closed_ends_it(self) -> None:
        async with _running() as (mailboxes, _, delivery, running):
            mailboxes.state = "closing"
            delivery.ring(None)
            assert (await asyncio.wait_for(running, 5)).state == "closing"

    async def test_a_full_socket_is_let_go_of_with_it(self) -> None:
        async with _running() as (mailboxes, socket, delivery, running):
            socket.open.clear()
            delivery.ring(mailboxes.put())
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            socket.open.set()
            await asyncio.sleep(0.01)
            assert socket.texts == []

    async def test_the_plain_subprotocol_is_served_from_the_mailbox(self) -> None:
        async with _running(reliable=False) as (mailboxes, socket, delivery, _):
            delivery.ring(mailboxes.put())
            await until(lambda: socket.texts == ['{"n":1}'])


type _Running = tuple[_Mailboxes, _Socket, Delivery, asyncio.Task[Drained]]


@asynccontextmanager
async def _running(
    *, reliable: bool = True, look_every: float = 60, renew_every: float = 60
) -> AsyncGenerator[_Running]:
    """One that has looked into its empty mailbox, and waits for rings."""
    mailboxes, socket = _Mailboxes(), _Socket()
    every = {"look_every": look_every, "renew_every": renew_every}
    delivery = Delivery(mailboxes, SESSION, socket.send, reliable=reliable, **every)
    running = asyncio.create_task(delivery.run())
    await until(lambda: mailboxes.looks > 0)
    await asyncio.sleep(0.01)
    yield mailboxes, socket, delivery, running
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
