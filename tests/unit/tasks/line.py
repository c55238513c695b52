"""A plan whose steps are scripted, and what became of it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from shared.core.ports import Json
from shared.core.resources import Subject, TaskStatus
from shared.tasks.models import Later, Plan, PlannedStep, StepContext, TaskRecord
from shared.tasks.runner import Runner
from tests.unit.world import StoreWorld

TEAM = "t0123456789"
TASK = "task1"
SUBJECT = f"task/{TASK}"

type Act = Callable[[StepContext], Awaitable[Json | Later | None]]


class Crash(BaseException):
    """The process is gone."""


class Line(StoreWorld):
    """A plan of steps `one`, `two`, ..., whose acts are scripted; `acts` tells which ran, in order.

    Undoing `one` is the act `-one`. `made` holds what is there; `ends` what the subject was told.
    """

    def __init__(
        self, *names: str, lease: float = 30, timeout: float = 60, attempts: int = 5, undoable: bool = True
    ) -> None:
        super().__init__()
        self.made: list[str] = []
        self.ends: list[TaskStatus] = []
        self.renewed = 0
        self.renewal: Exception | None = None
        self.acts: list[str] = []
        self.script: dict[str, list[Act | Json | Later | BaseException]] = {}
        self.refusals: list[str] = []
        self.seen: dict[str, Json] = {}
        steps = tuple(
            PlannedStep(name, name.title(), self._act(name), self._undo(name) if undoable else None, timeout, attempts)
            for name in names
        )
        self.plans = {"line": Plan("line", "Building", steps, self.ended, self._renew)}
        self.lease = lease
        self.runner = self.another_runner()
        self.taken = 0

    def another_runner(self) -> Runner:
        return Runner(self.another_store(), self.plans, self.lease)

    def steps(self, **changes: Any) -> None:
        """Change every step of the plan."""
        plan = self.plans["line"]
        self.plans["line"] = replace(plan, steps=tuple(replace(step, **changes) for step in plan.steps))

    def _act(self, name: str) -> Callable[[StepContext], Awaitable[Json | Later]]:
        async def run(ctx: StepContext) -> Json | Later:
            self.seen[name] = dict(ctx.state)
            result = await self._play(name, ctx)
            if isinstance(result, Later):
                return result
            if name not in self.made:  # ensure-style
                self.made.append(name)
            return result or {name: "done"}

        return run

    def _undo(self, name: str) -> Callable[[StepContext], Awaitable[Later | None]]:
        async def undo(ctx: StepContext) -> Later | None:
            result = await self._play(f"-{name}", ctx)
            if isinstance(result, Later):
                return result
            if name in self.made:
                self.made.remove(name)
            return None

        return undo

    async def _play(self, act: str, ctx: StepContext) -> Json | Later | None:
        self.acts.append(act)
        planned = self.script.get(act, [])
        what = planned.pop(0) if planned else None
        if isinstance(what, BaseException):
            raise what
        return await what(ctx) if callable(what) else what

    async def ended(self, ctx: StepContext, status: TaskStatus, reason: str) -> None:
        self.ends.append(status)
        self.refusals.append(reason)

    async def _renew(self, ctx: StepContext) -> None:
        self.renewed += 1
        if self.renewal:
            raise self.renewal

    async def begin(self) -> Json:
        """The task exists; returns the message that starts it."""
        subject = Subject(kind="team", id=TEAM, name="Rockets")
        task = self.runner.creation(TASK, "line", subject, TEAM, "uada", {"seed": 1})
        await self.store.commit(task)
        return self.message()

    def message(self) -> Json:
        """The last message sent."""
        return self.queues.sent[-1][1]

    async def task(self) -> TaskRecord:
        return (await self.runner.load(TASK))[0]

    async def run(self, runner: Runner | None = None) -> TaskRecord:
        """Handle messages, each when it is due, until none is left."""
        for _ in range(100):
            if self.taken == len(self.queues.sent):
                return await self.task()
            _, body, delay = self.queues.sent[self.taken]
            self.taken += 1
            self.clock.advance(delay)
            await (runner or self.runner).handle(body)
        raise AssertionError("the task never came to rest")
