"""Counters in memory, expiring by the given clock."""

from datetime import datetime, timedelta

from shared.core.clock import Clock, SystemClock
from shared.core.errors import Unavailable


class FakeCounters:
    """`values` holds key -> (total, when it expires); while `down` is set, every call raises Unavailable."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.values: dict[str, tuple[int, datetime]] = {}
        self.down = False
        self._clock = clock or SystemClock()

    async def add(self, key: str, amount: int, ttl: int) -> int:
        if ttl < 1:
            raise ValueError(f"a counter cannot live {ttl} seconds: at least 1")
        total, expires = self._live(key) or (0, self._clock.now() + timedelta(seconds=ttl))
        self.values[key] = (total + amount, expires)
        return total + amount

    async def get(self, key: str) -> int:
        live = self._live(key)
        return live[0] if live else 0

    def _live(self, key: str) -> tuple[int, datetime] | None:
        if self.down:
            raise Unavailable("Redis does not answer. Try again in a moment.")
        value = self.values.get(key)
        return value if value and value[1] > self._clock.now() else None
