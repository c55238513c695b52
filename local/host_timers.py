"""Timer triggers: fire on schedule in UTC, never overlapping themselves; occurrences missed meanwhile are skipped."""

import asyncio
import contextlib
from datetime import UTC, datetime

from azure.functions.timer import TimerRequest

from local.host_app import AppInvalid, TimerFunction
from local.host_ncrontab import Schedule, ScheduleInvalid
from shared.core.log import Log

_LONGEST_SLEEP = 60.0  # a laptop that slept, or a corrected clock, is noticed within this time

log = Log("local.host.timers")


class TimerListener:
    """`run()` returns after `stop()`, once a running invocation has finished."""

    def __init__(self, function: TimerFunction) -> None:
        self._function = function
        try:
            self._schedule = Schedule.parse(function.schedule)
            self._schedule.next_after(datetime.now(UTC))
        except ScheduleInvalid as error:
            raise AppInvalid(f"Function {function.name}: {error}") from None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        if self._function.run_on_startup:
            await self._fire()
        while await self._reached(self._schedule.next_after(datetime.now(UTC))):
            await self._fire()

    def stop(self) -> None:
        self._stopping.set()

    async def _reached(self, due: datetime) -> bool:
        """False when stopped before."""
        seen = datetime.now(UTC)
        while not self._stopping.is_set():
            now = datetime.now(UTC)
            if now < seen:  # the clock was set back
                due = self._schedule.next_after(now)
            seen, left = now, (due - now).total_seconds()
            if left <= 0:
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), min(left, _LONGEST_SLEEP))
        return False

    async def _fire(self) -> None:
        try:
            await self._function.call(**{self._function.argument: TimerRequest(past_due=False)})
        except Exception:
            log.exception("function.failed", function=self._function.name)
