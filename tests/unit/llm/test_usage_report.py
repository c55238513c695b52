import hmac
from dataclasses import replace
from datetime import date
from typing import Any

import orjson
import pytest

from shared.core import ids
from shared.core.access import Principal
from shared.core.errors import Invalid, NotFound
from shared.core.resources import Run
from shared.llm.usage_service import Question, as_csv
from shared.workspaces.models import Workspace
from tests.unit.llm.test_usage import message, used
from tests.unit.world import SETTINGS, World

SECRET = "what GitHub and we know"
WEEK = {"first": date(2026, 1, 1), "last": date(2026, 1, 7)}


async def recorded(world: World, workspace: Workspace, **changes: Any) -> None:
    key = f"key_{workspace.team_id}_0123456789abcdef"
    of = {"team_id": workspace.team_id, "key_id": key, "run_id": None, "card_id": None}
    await world.platform.books.record(message(used(ids.sortable(), **of | changes)))


async def asked(world: World, by: Principal, **question: Any) -> dict[str, tuple[int, float]]:
    report = await world.platform.usage_reports.report(by, Question(**WEEK | question))
    return {row.key: (row.usage.requests, row.usage.cost_usd) for row in report.rows}


async def succeeded(world: World, by: Principal, board: str) -> Run:
    return await world.succeed(await world.started(by, board))


async def merged(world: World, place: Workspace, number: int) -> None:
    pull = {"number": number, "html_url": "https://git.example/x", "state": "closed", "merged_at": "2026-01-01T10:00Z"}
    assert place.repository
    repository = {"full_name": place.repository.full_name}
    body = orjson.dumps({"action": "closed", "pull_request": pull, "repository": repository})
    signature = hmac.new(SECRET.encode(), body, "sha256").hexdigest()
    headers = {"x-hub-signature-256": f"sha256={signature}", "x-github-event": "pull_request"}
    await world.platform.pull_requests.receive(headers, body)


async def merges(world: World, by: Principal, **question: Any) -> tuple[int | None, float | None]:
    outcomes = (await world.platform.usage_reports.report(by, Question(**WEEK | question))).outcomes
    return outcomes.merged_pull_requests, outcomes.cost_per_merged_pull_request_usd


@pytest.fixture
async def desk() -> tuple[World, Principal, Workspace]:
    world = World(replace(SETTINGS, github_webhook_secret=SECRET))
    ada = await world.person("ada")
    return world, ada, await world.workspace(ada)


class TestReport:
    async def test_each_dimension_adds_up(self, desk: tuple[World, Principal, Workspace]):
        world, ada, place = desk
        card, run = f"card_{place.id}_0001", f"run_{place.id}_0001"
        await recorded(world, place, run_id=run, card_id=card)
        await recorded(world, place, run_id=run, card_id=card, time="2026-01-02T00:00:00.000Z")
        await recorded(world, place, model="llama-9", cost_micro_usd=None)
        assert await asked(world, ada) == {"2026-01-01": (2, 0.0015), "2026-01-02": (1, 0.0015)}
        assert await asked(world, ada, group_by="team") == {place.team_id: (3, 0.003)}
        assert await asked(world, ada, group_by="workspace") == {place.id: (3, 0.003)}
        assert await asked(world, ada, group_by="card") == {card: (2, 0.003), "": (1, 0)}
        assert await asked(world, ada, group_by="run") == {run: (2, 0.003), "": (1, 0)}
        assert await asked(world, ada, group_by="model") == {"demo-1": (2, 0.003), "llama-9": (1, 0)}
        assert await asked(world, ada, group_by="key") == {f"key_{place.team_id}_0123456789abcdef": (3, 0.003)}
        assert await asked(world, ada, group_by="model", run_id=run) == {"demo-1": (2, 0.003)}
        assert await asked(world, ada, last=date(2026, 1, 1)) == {"2026-01-01": (2, 0.0015)}

    async def test_a_cost_that_is_not_known_is_counted_as_such(self, desk: tuple[World, Principal, Workspace]):
        world, ada, place = desk
        await recorded(world, place, cost_micro_usd=None)
        report = await world.platform.usage_reports.report(ada, Question(**WEEK))
        assert (report.total.requests, report.total.unpriced_requests, report.total.cost_usd) == (1, 1, 0)

    async def test_it_says_what_a_successful_run_and_a_done_card_cost(self, desk: tuple[World, Principal, Workspace]):
        world, ada, place = desk
        run = await world.started(ada, f"board_{place.id}")
        await recorded(world, place, run_id=run.id, card_id=run.card_id)
        outcomes = (await world.platform.usage_reports.report(ada, Question(**WEEK))).outcomes
        assert (outcomes.runs, outcomes.runs_succeeded, outcomes.cost_per_successful_run_usd) == (1, 0, None)
        await world.succeed(run)
        await world.move(ada, run.card_id, "done")
        outcomes = (await world.platform.usage_reports.report(ada, Question(**WEEK))).outcomes
        assert (outcomes.runs_succeeded, outcomes.cards_done) == (1, 1)
        assert outcomes.cost_per_successful_run_usd == outcomes.cost_per_done_card_usd == 0.0015
        assert (outcomes.merged_pull_requests, outcomes.cost_per_merged_pull_request_usd) == (0, None)

    async def test_it_says_what_a_merged_pull_request_cost(self, desk: tuple[World, Principal, Workspace]):
        """All runs of its card worked for it, and one that is not merged cost money too."""
        world, ada, place = desk
        board = f"board_{place.id}"
        runs = [await succeeded(world, ada, board)]
        await world.move(ada, runs[0].card_id, "progress")
        await world.pump()
        runs.append((await world.platform.runs.of_card(ada, runs[0].card_id))[0])
        await world.platform.container.start(runs[1].id, "box-2")
        await world.succeed(runs[1])
        runs.append(await succeeded(world, ada, board))
        for run in runs:
            await recorded(world, place, run_id=run.id, card_id=run.card_id)
        await merged(world, place, 1)
        assert await merges(world, ada) == (1, 0.0045)
        assert await merges(world, ada, team_id=place.team_id) == (1, 0.0045)
        assert await merges(world, ada, workspace_id=place.id) == (1, 0.0045)
        assert await merges(world, ada, card_id=runs[0].card_id) == (1, 0.003)
        assert await merges(world, ada, card_id=runs[2].card_id) == (0, None)
        assert await merges(world, ada, first=date(2026, 1, 2)) == (0, None)
        for part in ({"run_id": runs[0].id}, {"model": "demo-1"}, {"key_id": f"key_{place.team_id}_0123456789abcdef"}):
            assert await merges(world, ada, **part) == (None, None)

    async def test_strangers_see_nothing(self, desk: tuple[World, Principal, Workspace]):
        world, _, place = desk
        eve = await world.person("eve")
        await recorded(world, place)
        assert await asked(world, eve) == {}
        for question in ({"team_id": place.team_id}, {"workspace_id": place.id}, {"team_id": "../x"}):
            with pytest.raises(NotFound):
                await asked(world, eve, **question)

    @pytest.mark.parametrize(
        "days", [{"first": date(2026, 1, 2), "last": date(2026, 1, 1)}, {"first": date(2024, 1, 1)}]
    )
    async def test_days_that_do_not_fit_are_refused(self, desk: tuple[World, Principal, Workspace], days: Any):
        world, ada, _ = desk
        with pytest.raises(Invalid, match="from"):
            await asked(world, ada, **days)


async def test_a_csv_has_a_line_for_each_row_and_no_formula(desk: tuple[World, Principal, Workspace]):
    world, ada, place = desk
    await recorded(world, place, model="=1+1")
    report = await world.platform.usage_reports.report(ada, Question(group_by="model", **WEEK))
    head, line = as_csv(report).splitlines()
    assert head.startswith("model,input_tokens,output_tokens")
    assert line == "'=1+1,1,2,3,4,1,0,0,0.0015"
