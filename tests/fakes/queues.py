"""Queues that remember what was sent."""

import orjson

from shared.core.errors import TooLarge, Unavailable
from shared.core.ports import LARGEST_MESSAGE, Json


class FakeQueues:
    """`sent` holds (queue, body, delay) in order; while `down` is set, sending raises Unavailable."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Json, float]] = []
        self.down = False

    async def send(self, queue: str, body: Json, delay: float = 0) -> None:
        text = orjson.dumps(body)
        if len(text) > LARGEST_MESSAGE:
            raise TooLarge(f"A message of {len(text)} bytes: at most {LARGEST_MESSAGE} fit. Send a reference instead.")
        if self.down:
            raise Unavailable("The queue service does not answer. Try again in a moment.")
        self.sent.append((queue, orjson.loads(text), delay))

    def bodies(self, queue: str) -> list[Json]:
        return [body for name, body, _ in self.sent if name == queue]
