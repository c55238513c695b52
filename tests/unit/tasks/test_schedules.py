"""Whatever happens to a task, in whatever order: it ends, and never otherwise than the state machine says."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, get_args

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core.errors import Conflict, Unavailable
from shared.core.ports import Doc, Json, Op, Put
from shared.core.resources import TASK_OVER, StepStatus, TaskStatus
from shared.core.store import Store
from shared.tasks.models import Later, StepContext
from shared.tasks.runner import Runner
from tests.unit.tasks.line import TASK, Crash, Line
from tests.unit.world import InterleavedDocuments

NAMES = ("one", "two", "three")

EDGES: dict[TaskStatus, set[TaskStatus]] = {
    "pending": {"running", "rolling_back", "needs_attention"},
    "running": {"succeeded", "failed", "rolling_back", "needs_attention"},
    "rolling_back": {"rolled_back", "cancelled", "needs_attention"},
    "succeeded": set(),
    "failed": {"pending", "rolling_back"},
    "rolled_back": {"pending"},
    "cancelled": {"pending"},
    "needs_attention": {"pending", "rolling_back"},
}
"""The state machine, as docs/architecture.md draws it."""

STEP_EDGES: dict[StepStatus, set[StepStatus]] = {
    "pending": {"running"},
    "running": {"succeeded", "failed", "undoing", "pending"},
    "succeeded": {"undoing"},
    "failed": {"pending", "undoing"},
    "undoing": {"undone", "failed"},
    "undone": {"pending"},
}
"""`running` and `failed` become `pending` by a retry."""

type Trouble = Literal[
    "transient",
    "permanent",
    "unexpected",
    "later",
    "crash",
    "crash after",
    "cancel",
    "overtaken",
    "overtaken and cancelled",
    "nothing",
]
"""What happens while a step is done or undone."""


@dataclass(frozen=True)
class Event:
    """Something that happens: a message (the n-th last) comes, alone or twice at once, or somebody does something."""

    kind: Literal["message", "twice", "cancel", "retry", "watch", "abandon", "cancel meanwhile", "crash at commit"]
    which: int = 0


@dataclass
class Version:
    """The task as it was committed, and who did it."""

    by: str
    body: Json


@dataclass
class Recording:
    """One process's view of the documents: every version of the task is noted with its name."""

    inner: InterleavedDocuments
    by: str
    history: list[Version]

    async def get(self, partition: str, id: str) -> Doc | None:
        return await self.inner.get(partition, id)

    async def query(self, partition: str, prefix: str = "", after: str = "", limit: int | None = None) -> list[Doc]:
        return await self.inner.query(partition, prefix, after, limit)

    async def commit(self, partition: str, ops: Sequence[Op]) -> dict[str, str]:
        etags = await self.inner.commit(partition, ops)
        for op in ops:
            if partition == f"tasks/{TASK}" and isinstance(op, Put) and op.id == "task":
                self.history.append(Version(self.by, orjson.loads(orjson.dumps(op.body))))
        return etags


@dataclass
class Schedule:
    line: Line = field(default_factory=lambda: Line(*NAMES, attempts=2))
    history: list[Version] = field(default_factory=list)
    processes: int = 0

    def process(self) -> Runner:
        """A fresh process."""
        self.processes += 1
        line = self.line
        documents = Recording(line.documents, f"process {self.processes}", self.history)
        store = Store(documents, line.events, line.queues, line.realtime, line.clock)
        return Runner(store, line.plans, line.lease)

    def trouble(self, act: str, kinds: list[Trouble]) -> None:
        async def crash_after(_: StepContext) -> Json:
            self.line.documents.fail(f"tasks/{TASK}", Crash())
            return {}

        async def cancel(_: StepContext) -> Json:
            with contextlib.suppress(Conflict):
                await self.process().cancel(TASK, "Ada")
            return {}

        async def overtaken(_: StepContext) -> Json:
            self.line.clock.advance(31)
            await self.process().watch()
            return {}

        async def overtaken_and_cancelled(ctx: StepContext) -> Json:
            await overtaken(ctx)
            return await cancel(ctx)

        happens = {
            "transient": Unavailable("away"),
            "permanent": Conflict("no"),
            "unexpected": RuntimeError("boom"),
            "later": Later(1),
            "crash": Crash(),
            "crash after": crash_after,
            "cancel": cancel,
            "overtaken": overtaken,
            "overtaken and cancelled": overtaken_and_cancelled,
            "nothing": None,
        }
        self.line.script[act] = [happens[kind] for kind in kinds]

    async def happen(self, event: Event) -> None:
        line = self.line
        message = line.queues.sent[-1 - event.which % len(line.queues.sent)][1]
        with contextlib.suppress(Conflict, Crash):
            match event.kind:
                case "message":
                    await self.process().handle(message)
                case "twice":
                    await self.at_once(self.process().handle(message), self.process().handle(message))
                case "cancel meanwhile":
                    await self.at_once(self.process().handle(message), self.process().cancel(TASK, "Ada"))
                case "crash at commit":
                    line.documents.fail(f"tasks/{TASK}", Crash())
                    await self.process().handle(message)
                case "cancel":
                    await self.process().cancel(TASK, "Ada")
                case "retry":
                    await self.process().retry(TASK)
                case "abandon":
                    await self.process().abandon(TASK, message["epoch"], "Given up.")
                case "watch":
                    line.clock.advance(31)
                    await self.process().watch()

    async def at_once(self, *works: object) -> None:
        """A process that dies takes nobody with it."""

        async def one(work: object) -> None:
            with contextlib.suppress(Conflict, Crash):
                await work  # type: ignore[misc]

        await asyncio.gather(*(one(work) for work in works))

    async def settle(self) -> None:
        """No more trouble: messages that were lost are missed by the watchdog."""
        self.line.script.clear()
        self.line.documents.failures.clear()
        for _ in range(60):
            if (await self.line.task()).status in TASK_OVER:
                return
            self.line.clock.advance(61)
            await self.process().watch()
            await self.process().handle(self.line.message())
        raise AssertionError(f"it never ended: {await self.line.task()}")

    # -- what must hold -------------------------------------------------------------------------

    async def check(self) -> None:
        bodies = [version.body for version in self.history]
        for before, after in pairwise(bodies):
            self.check_edges(before, after)
            assert before["epoch"] <= after["epoch"], "an older holder wrote after a newer one"
        for body in bodies:
            self.check_order([step["status"] for step in body["steps"]], body["status"])
        self.check_holders()
        self.check_acts()
        task = await self.line.task()
        if task.status == "succeeded":
            assert self.line.made == list(NAMES)
        if task.status in ("rolled_back", "cancelled"):
            assert self.line.made == []

    def check_edges(self, before: Json, after: Json) -> None:
        if before["status"] != after["status"]:
            assert after["status"] in EDGES[before["status"]], (before["status"], after["status"])
        for step, then in zip(before["steps"], after["steps"], strict=True):
            if step["status"] != then["status"]:
                assert then["status"] in STEP_EDGES[step["status"]], (step["status"], then["status"])

    def check_order(self, statuses: list[StepStatus], task: TaskStatus) -> None:
        busy = [place for place, status in enumerate(statuses) if status in ("running", "undoing")]
        assert len(busy) <= 1, "two steps at once"
        for place, status in enumerate(statuses):
            if status == "running":
                assert set(statuses[:place]) <= {"succeeded"}
                assert set(statuses[place + 1 :]) <= {"pending"}
            if status in ("undoing", "undone"):
                assert set(statuses[place + 1 :]) <= {"pending", "undone"}, "not in reverse order"
        if task in ("rolled_back", "cancelled"):
            assert set(statuses) <= {"pending", "undone"}
        if task == "succeeded":
            assert set(statuses) == {"succeeded"}

    def check_holders(self) -> None:
        """An epoch belongs to the process that raised it: nobody else commits in it, but one who cancels."""
        owners: dict[int, str] = {}
        for before, version in pairwise(self.history):
            turned = version.body["undo_to"] == "cancelled" and before.body["undo_to"] is None
            owner = owners.setdefault(version.body["epoch"], version.by)
            assert turned or owner == version.by, "two runners committed"

    def check_acts(self) -> None:
        began: set[str] = set()
        for act in self.line.acts:
            if act.startswith("-"):
                assert act[1:] in began or self.intended(act[1:]), f"{act} of a step that never began"
            else:
                began.add(act)

    def intended(self, name: str) -> bool:
        place = NAMES.index(name)
        return any(version.body["steps"][place]["status"] == "running" for version in self.history)


troubles = st.lists(st.sampled_from(get_args(Trouble.__value__)), max_size=4)
events = st.builds(
    Event,
    st.sampled_from(
        ["message"] * 6
        + ["twice"] * 2
        + ["watch"] * 3
        + ["cancel", "retry", "abandon", "cancel meanwhile", "crash at commit"]
    ),
    st.sampled_from([0, 0, 0, 1, 2, 5]),
)


@given(
    st.fixed_dictionaries({act: troubles for name in NAMES for act in (name, f"-{name}")}),
    st.lists(events, max_size=14),
)
@settings(max_examples=250, derandomize=True)
def test_a_task_ends_as_the_state_machine_says(script: dict[str, list[Trouble]], happening: list[Event]) -> None:
    async def play() -> None:
        schedule = Schedule()
        await schedule.line.begin()
        schedule.history.append(Version("creator", (await schedule.line.task()).json_body()))
        for act, kinds in script.items():
            schedule.trouble(act, kinds)
        for event in happening:
            await schedule.happen(event)
        await schedule.settle()
        await schedule.check()

    asyncio.run(play())
