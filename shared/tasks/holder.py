"""Works on one task: step after step, or back, each committed with its event, while the lease is kept."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shared.core.clock import iso
from shared.core.errors import PlatformError, Stale
from shared.core.log import Log
from shared.core.ports import Json
from shared.core.resources import Step, TaskStatus
from shared.core.store import Store
from shared.tasks.changes import ENDS, context, tell_subject, undo
from shared.tasks.lease import Lease, Overtaken, Turned
from shared.tasks.models import Later, Plan, PlannedStep, StepContext, TaskRecord

log = Log(__name__)

RUN_ON_SECONDS = 60.0

type Act = Callable[[StepContext], Awaitable[Json | Later | None]]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step did not succeed. `passing`: it may succeed when it is tried again, after `wait` seconds if given."""

    reason: str
    passing: bool = True
    wait: float | None = None
    last: bool = False
    """Not to be tried again now, even so."""


class Holder:
    """One runner's hold on one task. Raises Overtaken as soon as somebody else has it."""

    def __init__(self, store: Store, plan: Plan, record: TaskRecord, etag: str, lease: float) -> None:
        self._clock, self._plan = store.clock, plan
        self._lease = Lease(store, record, etag, lease)
        self._started = self._clock.now()

    @property
    def record(self) -> TaskRecord:
        return self._lease.record

    async def run_on(self) -> None:
        """Step after step until one says Later, one fails, or the time for one message is up."""
        try:
            if self.record.undo_to is None:
                self.record.status = "running"
                await self._go_forward()
        except Turned:
            log.info("task.turned", task_id=self.record.id)
        if self.record.status == "rolling_back":
            await self._go_back()

    # -- forward --------------------------------------------------------------------------------

    async def _go_forward(self) -> None:
        while (step := self.record.next_step()) is not None:
            if self._time_is_up():
                return await self._lease.postpone(0)
            if not await self._run(step, self._planned(step)):
                return None
        self.record.status = "succeeded"
        return await self._lease.end(ENDS["succeeded"])

    async def _run(self, step: Step, planned: PlannedStep) -> bool:
        """True when the step is done and the next may begin."""
        again, step.status, step.error = step.status == "running", "running", None
        if not again:
            self.record.waited = 0
        step.started_at = step.started_at or iso(self._clock.now())
        await self._lease.write("task.progress", mere=again)
        result = await self._attempt(step, planned, planned.run)
        if isinstance(result, Later):
            return await self._wait(step, result)
        if isinstance(result, Failure):
            if not await self._tries_again(step, planned, result):
                await self._run_failed(step, result)
            return False
        step.status, step.progress, step.finished_at = "succeeded", None, iso(self._clock.now())
        self.record.state |= result or {}
        await self._lease.write("task.progress")
        return True

    async def _run_failed(self, step: Step, failure: Failure) -> None:
        """What repeating cannot mend is undone; what may pass is kept as it is, to be gone on with.

        What was kept once may hold people's work since: it is never undone for a refusal.
        """
        step.status, step.finished_at = "failed", iso(self._clock.now())
        reason = f"{step.title} failed: {failure.reason}"
        log.warning("task.step_failed", task_id=self.record.id, step=step.name, reason=failure.reason)
        if self._plan.undoable and not failure.passing and not self.record.kept:
            undo(self.record, "rolled_back", reason)
            return await self._lease.write("task.progress")
        return await self._end("failed" if self._plan.undoable else "needs_attention", reason)

    # -- back -----------------------------------------------------------------------------------

    async def _go_back(self) -> None:
        while (step := self.record.next_undo()) is not None:
            if self._time_is_up():
                return await self._lease.postpone(0)
            if not await self._undo(step, self._planned(step)):
                return None
        return await self._end(self.record.undo_to or "rolled_back", self.record.cause or "")

    async def _undo(self, step: Step, planned: PlannedStep) -> bool:
        """True when the step is undone and the one before it may be."""
        again = step.status == "undoing"
        if not again:
            self.record.waited = 0
            step.status, step.progress, step.note, step.attempts = "undoing", None, None, 0
            step.started_at, step.finished_at = iso(self._clock.now()), None
        await self._lease.write("task.progress", mere=again)
        if planned.undo is None:
            raise ValueError(f"{self._plan.name}: {step.name} cannot be undone")
        result = await self._attempt(step, planned, planned.undo)
        if isinstance(result, Later):
            return await self._wait(step, result)
        if isinstance(result, Failure):
            if not await self._tries_again(step, planned, result):
                step.status, step.finished_at = "failed", iso(self._clock.now())
                undoing = f"Undoing this failed at {step.title!r}: {result.reason}"
                await self._end("needs_attention", f"{self.record.cause} {undoing}")
            return False
        step.status, step.progress, step.error, step.finished_at = "undone", None, None, iso(self._clock.now())
        await self._lease.write("task.progress")
        return True

    # -- shared ---------------------------------------------------------------------------------

    async def _attempt(self, step: Step, planned: PlannedStep, act: Act) -> Json | Later | Failure | None:
        try:
            async with asyncio.timeout(planned.timeout), self._lease.kept():
                result = await act(context(self.record, self._lease.report))
        except (Overtaken, Turned):
            raise
        except TimeoutError:
            return Failure(f"It took longer than {planned.timeout:.0f} s.")
        except Stale as error:
            return Failure(error.detail)
        except PlatformError as error:
            return Failure(error.detail, error.transient, getattr(error, "retry_after", None))
        except Exception as error:
            log.exception("task.step_raised", task_id=self.record.id, step=step.name)
            return Failure(f"An unexpected {type(error).__name__}.")
        if isinstance(result, Later) and self.record.waited > planned.longest:
            return Failure(f"It was not done after {planned.longest / 60:.0f} minutes.", last=True)
        return result

    async def _wait(self, step: Step, later: Later) -> bool:
        step.progress, step.note = later.progress, later.note
        self.record.waited += later.seconds
        await self._lease.postpone(later.seconds, mere=True)
        return False

    async def _tries_again(self, step: Step, planned: PlannedStep, failure: Failure) -> bool:
        step.attempts += 1
        step.error = failure.reason
        if not failure.passing or failure.last or step.attempts >= planned.attempts:
            return False
        await self._lease.postpone(failure.wait or min(60.0, 2**step.attempts * random.uniform(0.5, 1)))
        return True

    async def _end(self, status: TaskStatus, reason: str) -> None:
        await self._lease.hold()
        self.record.status, self.record.error = status, reason
        await tell_subject(self._plan, self.record)
        await self._lease.end(ENDS[status])
        log.info("task.ended", task_id=self.record.id, status=status, reason=reason)

    def _planned(self, step: Step) -> PlannedStep:
        return next(planned for planned in self._plan.steps if planned.name == step.name)

    def _time_is_up(self) -> bool:
        return (self._clock.now() - self._started).total_seconds() > RUN_ON_SECONDS
