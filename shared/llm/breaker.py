"""Leaves a provider alone that keeps failing, and lets one call see whether it is back."""

from datetime import datetime, timedelta

from shared.core.clock import Clock


class Breakers:
    """One for each team: what a team sends may make a provider fail, and must not shut it off for the others."""

    def __init__(self, failures: int, seconds: float, clock: Clock) -> None:
        self._failures, self._seconds, self._clock = failures, seconds, clock
        self._failing: dict[str, Breaker] = {}
        """Of those teams alone whose last call failed."""

    def wait(self, team_id: str) -> float:
        return self._failing[team_id].wait() if team_id in self._failing else 0

    def begin(self, team_id: str) -> bool:
        return self._failing[team_id].begin() if team_id in self._failing else False

    def end(self, team_id: str, probe: bool, healthy: bool | None) -> None:
        if healthy:
            self._failing.pop(team_id, None)
        elif healthy is False or team_id in self._failing:
            fresh = Breaker(self._failures, self._seconds, self._clock)
            self._failing.setdefault(team_id, fresh).end(probe, healthy)


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

    def begin(self) -> bool:
        """A call that may pass sets out; whether it is the one that tries a provider left alone, for `end`."""
        probe = self._opened is not None
        self._probing = self._probing or probe
        return probe

    def end(self, probe: bool, healthy: bool | None) -> None:
        """What the call learned; None: nothing, for instance because the client left."""
        if probe:
            self._probing = False
        if healthy:
            self._failures, self._opened = 0, None
        elif healthy is False:
            self._failures += 1
            if self._failures >= self._most:
                self._opened = self._clock.now()
