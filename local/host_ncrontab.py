"""NCRONTAB: the timer trigger's schedule, `{second} {minute} {hour} {day} {month} {day of week}` in UTC."""

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_YEARS_AHEAD = 8  # 29 February comes at most this far apart


class ScheduleInvalid(ValueError):
    """The text is not an NCRONTAB expression, or names a day that never comes."""


@dataclass(frozen=True)
class _Field:
    name: str
    least: int
    most: int
    names: dict[str, int]


_FIELDS = (
    _Field("second", 0, 59, {}),
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day", 1, 31, {}),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 6, _DAYS),
)


@dataclass(frozen=True)
class Schedule:
    """Each field holds its allowed values in order. Day and day of week must both fit, unlike in cron."""

    seconds: Sequence[int]
    minutes: Sequence[int]
    hours: Sequence[int]
    days: Sequence[int]
    months: Sequence[int]
    weekdays: Sequence[int]

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        parts = text.split()
        if len(parts) == 5:
            parts = ["0", *parts]
        if len(parts) != len(_FIELDS):
            raise ScheduleInvalid(f"Schedule {text!r} must have six fields, as in '*/15 * * * * *'.")
        return cls(*(_values(part, field, text) for part, field in zip(parts, _FIELDS, strict=True)))

    def next_after(self, moment: datetime) -> datetime:
        """The first fitting second strictly after `moment`. Raises ScheduleInvalid when there is none."""
        start = moment.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
        day, time_of_day = start.date(), (start.hour, start.minute, start.second)
        for _ in range(_YEARS_AHEAD * 366):
            if day.day in self.days and day.month in self.months and day.isoweekday() % 7 in self.weekdays:
                found = self._time_from(time_of_day)
                if found:
                    return datetime(day.year, day.month, day.day, *found, tzinfo=UTC)
            day, time_of_day = day + timedelta(days=1), (0, 0, 0)
        raise ScheduleInvalid("The schedule names a day that never comes.")

    def _time_from(self, earliest: tuple[int, int, int]) -> tuple[int, int, int] | None:
        candidates = (
            (hour, minute, second)
            for hour in self.hours
            if hour >= earliest[0]
            for minute in self.minutes
            if (hour, minute) >= earliest[:2]
            for second in self.seconds
            if (hour, minute, second) >= earliest
        )
        return next(candidates, None)


def _values(text: str, field: _Field, whole: str) -> tuple[int, ...]:
    values: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        first, dash, last = span.partition("-")
        try:
            low = field.least if span == "*" else _value(first, field)
            high = field.most if span == "*" or (step and not dash) else _value(last, field) if dash else low
            stride = int(step) if "/" in item else 1
            if not field.least <= low <= high <= field.most or stride < 1:
                raise ValueError(item)
        except ValueError:
            raise ScheduleInvalid(f"Schedule {whole!r}: {item!r} does not fit the field '{field.name}'.") from None
        values.update(range(low, high + 1, stride))
    return tuple(sorted(values))


def _value(text: str, field: _Field) -> int:
    known = field.names.get(text.lower()[:3]) if text.isalpha() else None
    return int(text) if known is None else known
