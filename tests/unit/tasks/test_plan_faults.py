"""Every step of every plan is cut off, before and after what it does or undoes: it ends as if it were not."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shared.core.access import Principal
from shared.core.errors import Conflict
from shared.core.resources import TASK_OVER
from shared.tasks.models import Plan, PlannedStep, StepContext
from shared.teams.models import NewTeam
from shared.workspaces.models import NewWorkspace
from tests.unit.tasks.line import Crash
from tests.unit.world import World

SOURCE = "https://git.example/other/repository.git"
PLACES = ("before", "after")


def names(plan: str) -> list[str]:
    return [step.name for step in World().platform.runner._plans[plan].steps]


CREATIONS = [(plan, step) for plan in ("team.create", "workspace.create", "workspace.import") for step in names(plan)]
DELETIONS = [(plan, step) for plan in ("team.delete", "workspace.delete") for step in names(plan)]


class Cut:
    """A world in which one act of one step is cut off once, right before or right after what it does."""

    def __init__(self, plan: str = "", step: str = "", act: str = "run", place: str = "before") -> None:
        self.world = World()
        self.cuts = 0
        if plan:
            plans: Any = self.world.platform.runner._plans
            plans[plan] = self._cutting(plans[plan], step, act, place)

    def _cutting(self, plan: Plan, name: str, act: str, place: str) -> Plan:
        steps = (self._cut(step, act, place) if step.name == name else step for step in plan.steps)
        return replace(plan, steps=tuple(steps))

    def _cut(self, step: PlannedStep, act: str, place: str) -> PlannedStep:
        real: Any = getattr(step, act)

        async def cut(ctx: StepContext) -> Any:
            if place == "before" and not self.cuts:
                self.cuts += 1
                raise Crash
            result = await real(ctx)
            if place == "after" and not self.cuts:
                self.cuts += 1
                raise Crash
            return result

        return replace(step, **{act: cut})

    async def pump(self) -> None:
        """What the queues and timers do; whoever is cut off is missed by the watchdog."""
        for _ in range(12):
            try:
                await self.world.pump(30)
            except Crash:
                self.world.lose_messages()
            for job in list(self.world.host._jobs):
                if self.world.host._jobs[job].status == "running":
                    hosted = self.world.repositories.repositories["acme/rockets"]
                    hosted.branches["trunk"] = self.world.repositories._commit(None, {"README.md": "# Imported"})
                    self.world.host.finish(job, 0, "default-branch trunk")
            self.world.clock.advance(31)
            await self.world.platform.store.sweep()
            await self.world.platform.runner.watch()
        await self.world.platform.store.idle()

    async def begin(self, ada: Principal, plan: str) -> tuple[str, str, str]:
        """Ids of the team, its scope, and the task."""
        if plan.startswith("team"):
            team = await self.world.platform.teams.create(ada, NewTeam(name="Rockets"))
            return team.team.id, team.team.id, team.task_id
        url = SOURCE if plan == "workspace.import" else None
        started = await self.world.platform.workspaces.create(ada, NewWorkspace(name="Rockets", import_url=url))
        return started.workspace.team_id, started.workspace.id, started.task_id

    async def state(self, team: str, scope: str, *tasks: str) -> list[str]:
        """All that is left in any store or outside, without what differs from world to world."""
        world, known = self.world, {task: f"TASK{n}" for n, task in enumerate(tasks)} | {team: "TEAM", scope: "SCOPE"}
        left = [
            f"{partition} {key} {raw.decode()}"
            for partition, rows in world.documents.partitions.items()
            for key, (_, raw) in rows.items()
            if not partition.startswith(("open/", "tasks/", "portal/user", "portal/session"))
        ]
        left += [f"blob {name}" for name in world.blobs.blobs]
        left += [f"secret {name}" for name in world.secrets.secrets]
        left += [f"host {each.name}" for each in await world.host.hosted()]
        left += [f"repository {h.description} {sorted(h.protected)}" for h in world.repositories.repositories.values()]
        left += [f"{kind}" for kind in await world.types(f"team/{team}")]
        return sorted(_plain(text, known) for text in left)


def _plain(text: str, known: dict[str, str]) -> str:
    for id_, name in known.items():
        text = text.replace(id_, name)
    text = re.sub(r"[0-9a-f]{64}|(?<=key_TEAM_|ey_SCOPE_)[0-9a-f]{16}", "DIGEST", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    text = re.sub(r"\b01[0-9a-z]{18}\b", "ID", text)
    text = re.sub(r"\bkvk_[0-9a-z]{6}\b", "KEY", text)
    return re.sub(r"import-TASK\d-\d", "import", text)


async def created(cut: Cut, plan: str) -> tuple[str, list[str]]:
    ada = await cut.world.person("Ada")
    team, scope, task_id = await cut.begin(ada, plan)
    await cut.pump()
    return (await cut.world.platform.tasks.get(ada, task_id)).status, await cut.state(team, scope, task_id)


async def undone(cut: Cut, plan: str) -> tuple[str, list[str]]:
    """Its last step is refused."""
    plans: Any = cut.world.platform.runner._plans
    last = plans[plan].steps[-1]

    async def refuse(ctx: StepContext) -> Any:
        await last.run(ctx)
        raise Conflict("no")

    plans[plan] = replace(plans[plan], steps=(*plans[plan].steps[:-1], replace(last, run=refuse)))
    return await created(cut, plan)


async def deleted(cut: Cut, plan: str) -> tuple[str, list[str]]:
    ada, world = await cut.world.person("Ada"), cut.world
    if plan == "team.delete":
        team = await world.team(ada)
        ids = team.id, team.id, team.task_id
        started = await world.platform.teams.delete(ada, team.id)
    else:
        workspace = await world.workspace(ada)
        ids = workspace.team_id, workspace.id, workspace.task_id
        started = await world.platform.workspaces.delete(ada, workspace.id, "delete")
    await cut.pump()
    task = await world.platform.tasks.get(ada, started.task_id)
    return task.status, await cut.state(*ids, started.task_id)


_calm: dict[str, tuple[str, list[str]]] = {}


async def calm(what: Callable[..., Any], plan: str) -> tuple[str, list[str]]:
    key = f"{what.__name__} {plan}"
    if key not in _calm:
        _calm[key] = await what(Cut(), plan)
        assert _calm[key][0] in TASK_OVER
    return _calm[key]


class TestCutOff:
    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize(("plan", "step"), CREATIONS)
    async def test_a_creation_is_whole_and_nothing_is_there_twice(self, plan: str, step: str, place: str) -> None:
        cut = Cut(plan, step, "run", place)
        assert await created(cut, plan) == await calm(created, plan)
        assert (cut.cuts, (await calm(created, plan))[0]) == (1, "succeeded")

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize(("plan", "step"), CREATIONS)
    async def test_an_undoing_leaves_nothing(self, plan: str, step: str, place: str) -> None:
        cut = Cut(plan, step, "undo", place)
        assert await undone(cut, plan) == await calm(undone, plan)
        assert (cut.cuts, (await calm(undone, plan))[0]) == (1, "rolled_back")

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize(("plan", "step"), DELETIONS)
    async def test_a_deletion_ends_and_is_told_once(self, plan: str, step: str, place: str) -> None:
        cut = Cut(plan, step, "run", place)
        assert await deleted(cut, plan) == await calm(deleted, plan)
        assert (cut.cuts, (await calm(deleted, plan))[0]) == (1, "succeeded")

    async def test_what_is_undone_leaves_its_records_alone(self) -> None:
        """And nothing else: no board, key, secret, repository, container or reservation."""
        for plan in ("team.create", "workspace.create", "workspace.import"):
            _, left = await calm(undone, plan)
            records = ("portal/team/", "portal/workspace/SCOPE workspace", "secret token-signing-key")
            told = ("team.provisioned", "workspace.provisioned")
            assert [text for text in left if not text.startswith(records) and text not in told] == []
