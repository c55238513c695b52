"""Leaves a provider alone that keeps failing, and lets one call see whether it is back."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta

from shared.core.clock import Clock
from shared.core.errors import Unavailable


class Verdict:
    """What a call learned of the provider; None: nothing, for instance because the client left."""

    healthy: bool | None = None


class Breaker:
    """Closed, until `failures` calls in a row failed; open for `seconds`; then half-open: one call at a time."""

    def __init__(self, failures: int, seconds: float, clock: Clock) -> None:
        self._most, self._pause, self._clock = failures, timedelta(seconds=seconds), clock
        self._failures = 0
        self._opened: datetime | None = None
        self._probing = False

    def wait(self) -> float:
        """Seconds until a call may pass; 0: now."""
        if self._opened is None:
            return 0
        if self._probing:
            return 1
        return max(0, (self._opened + self._pause - self._clock.now()).total_seconds())

    @contextmanager
    def call(self) -> Generator[Verdict]:
        """One that may pass. Unavailable is a failure; who else cuts it off has learned nothing."""
        verdict, probe = Verdict(), self._opened is not None
        self._probing = self._probing or probe
        try:
            yield verdict
        except Unavailable:
            verdict.healthy = False
            raise
        finally:
            if probe:
                self._probing = False
            self._learn(verdict.healthy)

    def _learn(self, healthy: bool | None) -> None:
        if healthy:
            self._failures, self._opened = 0, None
        elif healthy is False:
            self._failures += 1
            if self._failures >= self._most:
                self._opened = self._clock.now()
