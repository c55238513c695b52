"""Brings a connection's messages to its socket: from the ring where nothing is missing before them, else from Redis."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from local.pubsub.doorbell import Message
from local.pubsub.store import BATCH, Drained, Session

_RENEW_EVERY = 20
_LOOK_EVERY = 5


class Mailboxes(Protocol):
    """What `Store` has of connections' messages."""

    async def drain(self, session: Session, sent: int, *, remove: bool) -> Drained: ...

    async def renew(self, session: Session) -> None: ...


class Delivery:
    """One socket's. `send` takes the text of a message.

    A message that comes with a ring is sent within the ring: waking a task for each of hundreds of sockets takes longer
    than sending does. Its task is only waited for where the socket cannot take it at once.
    """

    def __init__(
        self,
        mailboxes: Mailboxes,
        session: Session,
        send: Callable[[str], Awaitable[None]],
        *,
        reliable: bool,
        look_every: float = _LOOK_EVERY,
        renew_every: float = _RENEW_EVERY,
    ) -> None:
        """`look_every`: seconds without a ring after which one may have been lost. `renew_every`: seconds too, well
        below those that a connection is kept for."""
        self._mailboxes, self._session, self._send_text = mailboxes, session, send
        self._reliable, self._look_every, self._renew_every = reliable, look_every, renew_every
        self._rung = asyncio.Event()
        self._in_step = False
        """All there was is sent: what comes next may go out at once."""
        self._sending: asyncio.Task[None] | None = None
        self._heard = self._renewed = time.monotonic()
        self.sent = 0

    def ring(self, message: Message | None) -> None:
        """None: there is something else to be told than messages."""
        if message and message[0] <= self.sent:
            return  # the mailbox had told it
        if message is None or not self._in_step or message[0] != self.sent + 1:
            self._rung.set()
            return
        self._heard = time.monotonic()
        sending = asyncio.Task(self._send(message), loop=asyncio.get_running_loop(), eager_start=True)
        if not sending.done() or sending.exception():
            self._in_step, self._sending = False, sending
            self._rung.set()

    async def run(self) -> Drained:
        """Returns when the connection is no longer open; raises what `send` does."""
        try:
            while True:
                self._rung.clear()
                if self._sending:
                    await self._sending
                    self._sending = None
                await self._renew()
                drained = await self._mailboxes.drain(self._session, self.sent, remove=not self._reliable)
                if drained.state != "open":
                    return drained
                for message in drained.messages:
                    await self._send(message)
                if len(drained.messages) < BATCH:
                    await self._rest()
        finally:
            self._in_step = False
            if self._sending:
                self._sending.cancel()
                await asyncio.gather(self._sending, return_exceptions=True)

    async def _rest(self) -> None:
        """Until there is reason to look into the mailbox: a ring, or none for a while, since one may be lost."""
        self._heard = time.monotonic()
        self._in_step = self._reliable and not self._rung.is_set()
        while not self._rung.is_set() and (left := self._heard + self._look_every - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._rung.wait()
            await self._renew()
        self._in_step = False

    async def _renew(self) -> None:
        if time.monotonic() - self._renewed >= self._renew_every:
            await self._mailboxes.renew(self._session)
            self._renewed = time.monotonic()

    async def _send(self, message: Message) -> None:
        self.sent, text = message
        await self._send_text(f'{text[:-1]},"sequenceId":{self.sent}}}' if self._reliable else text)
