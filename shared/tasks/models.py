"""What long work consists of: plans of steps, and the record of a task under way."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from shared.core.messages import VERSION, Count, PlainId, QueueMessage
from shared.core.ports import Json
from shared.core.resources import Resource, Step, Subject, Task, TaskStatus


class TaskMessage(QueueMessage):
    """Work on this task. Another epoch than the task's is of the past."""

    task_id: PlainId
    epoch: Count


@dataclass(frozen=True, slots=True)
class Later:
    """A step is not done yet: call it again in `seconds`. `progress` is 0..1, `note` says what is going on."""

    seconds: float
    progress: float | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a step sees: its task, what earlier steps returned, and a way to tell how far it is."""

    task_id: str
    subject: Subject
    team_id: str
    owner_id: str
    state: Json
    report: Callable[[float | None, str | None], Awaitable[None]]
    """Progress 0..1 and a note; told to watchers at most once a second."""


type StepRun = Callable[[StepContext], Awaitable[Json | Later]]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step of a plan. `run` returns what to add to the task's state, or Later. It may be repeated at any time."""

    name: str
    title: str
    run: StepRun
    timeout: float = 60
    attempts: int = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """A named list of steps. `failed` records on the subject that the task ended in failure."""

    name: str
    title: str
    steps: tuple[PlannedStep, ...]
    failed: Callable[[StepContext, str], Awaitable[None]]


class TaskRecord(Resource):
    """A task as kept: what people see, and what the runner needs."""

    id: str
    plan: str
    title: str
    subject: Subject
    team_id: str
    owner_id: str
    status: TaskStatus = "pending"
    steps: list[Step]
    state: dict[str, Any] = Field(default_factory=dict)
    error: str | None = None
    epoch: int = 1
    check_at: str
    """When the watchdog shall look whether anybody still works on it."""
    told_at: str | None = None
    """When watchers last heard of it."""
    created_at: str
    updated_at: str

    def task(self, sequence: int = 0) -> Task:
        shown = self.model_dump(exclude={"owner_id", "state", "epoch", "check_at", "told_at"})
        return Task(**shown, sequence=sequence)

    def message(self) -> Json:
        return TaskMessage(version=VERSION, task_id=self.id, epoch=self.epoch).model_dump()

    @property
    def reference(self) -> str:
        return f"task/{self.id}"

    @property
    def groups(self) -> tuple[str, ...]:
        return (f"user.{self.owner_id}", f"team.{self.team_id}")

    def next_step(self) -> Step | None:
        return next((step for step in self.steps if step.status != "succeeded"), None)
