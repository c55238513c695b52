"""What long work consists of: plans of steps, and the record of a task under way."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from shared.core.messages import VERSION, Count, PlainId, QueueMessage
from shared.core.ports import Json
from shared.core.resources import Resource, Step, Subject, Task, TaskStatus
from shared.core.teams import team_group, user_group


class TaskMessage(QueueMessage):
    """Work on this task. Another epoch than the task's is of the past."""

    task_id: PlainId
    epoch: Count


type Undone = Literal["rolled_back", "cancelled"]
"""How a task ends whose steps were undone: by a refusal, or by a person."""


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
type StepUndo = Callable[[StepContext], Awaitable[Later | None]]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step of a plan. Both may be repeated at any time.

    `run` returns what to add to the task's state, or Later. `undo` removes whatever `run` may have made, as far as it
    is there: it is called for a step that began, whether or not it was done. Without one, the plan cannot be undone.
    """

    name: str
    title: str
    run: StepRun
    undo: StepUndo | None = None
    timeout: float = 60
    """Seconds that one call may take."""
    attempts: int = 5
    longest: float = 3600
    """Seconds for which it may say Later."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A named list of steps.

    `ended` tells the subject that its task ended other than well, before people see that it did. `renew` is called
    before a task begins anew or goes on: Conflict when what the subject needs has been taken by others meanwhile.
    """

    name: str
    title: str
    steps: tuple[PlannedStep, ...]
    ended: Callable[[StepContext, TaskStatus, str], Awaitable[None]]
    renew: Callable[[StepContext], Awaitable[None]] | None = None

    @property
    def undoable(self) -> bool:
        return all(step.undo is not None for step in self.steps)


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
    given: dict[str, Any] = Field(default_factory=dict)
    """The state it began with, and begins with anew."""
    state: dict[str, Any] = Field(default_factory=dict)
    error: str | None = None
    undo_to: Undone | None = None
    """Its steps are being undone, and how it ends when they are."""
    cause: str | None = None
    """Why its steps are being undone."""
    kept: bool = False
    """It has stopped before, and what it had made was kept for people: only a person has it undone."""
    waited: float = 0
    """Seconds for which its step, or the undoing of that, has said Later: a clock may have jumped meanwhile."""
    held: bool = False
    """Somebody works on it, until `check_at` at least; else a message is on its way."""
    epoch: int = 1
    check_at: str
    """When the watchdog shall look whether anybody still works on it."""
    told_at: str | None = None
    """When watchers last heard of it."""
    created_at: str
    updated_at: str

    def task(self, sequence: int = 0) -> Task:
        shown = self.model_dump(
            exclude={"owner_id", "given", "state", "undo_to", "cause", "kept", "waited", "held"}
            | {"epoch", "check_at", "told_at"}
        )
        return Task(**shown, sequence=sequence)

    def message(self) -> Json:
        return TaskMessage(version=VERSION, task_id=self.id, epoch=self.epoch).model_dump()

    @property
    def reference(self) -> str:
        return f"task/{self.id}"

    @property
    def groups(self) -> tuple[str, ...]:
        return (user_group(self.owner_id), team_group(self.team_id))

    def next_step(self) -> Step | None:
        return next((step for step in self.steps if step.status != "succeeded"), None)

    def next_undo(self) -> Step | None:
        """The last step that began and is not undone."""
        return next((step for step in reversed(self.steps) if step.status not in ("pending", "undone")), None)
