"""Time comes in through here, so that tests are exact."""

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time as an aware UTC datetime."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until told to advance."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


def is_future(moment: str, clock: Clock) -> bool:
    """Whether it was noted by a clock that has been set back since: nobody notes what is more than a minute ahead."""
    return parse(moment) > clock.now() + timedelta(minutes=1)


def iso(moment: datetime) -> str:
    """RFC 3339 with milliseconds and Z: sorts as text, parses everywhere."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def parse(text: str) -> datetime:
    return datetime.fromisoformat(text)
