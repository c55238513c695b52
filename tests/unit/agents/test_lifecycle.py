import asyncio

import pytest

from shared.agents.models import RunCompletion
from shared.boards.models import CardChange
from shared.core.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from shared.core.permissions import Role
from shared.core.resources import Run
from tests.unit.agents.conftest import Site
from tests.unit.world import SETTINGS, World


def completion(commit: str | None, outcome: str = "succeeded", reason: str | None = None) -> RunCompletion:
    return RunCompletion.model_validate(
        {"outcome": outcome, "summary": "Did it.", "reason": reason, "commit": commit, "turns": 7}
    )


class TestLaunch:
    async def test_a_queued_run_becomes_a_container_job(self, site: Site) -> None:
        run = await site.moved()
        await site.world.pump()
        started = await site.run(run.id)
        assert started.status == "starting"
        assert started.started_at is not None
        (spec,) = site.world.host.specs
        assert spec.command == ("agent_container",)
        assert spec.team_id == site.workspace.team_id
        assert (spec.env["API_URL"], spec.env["RUN_ID"]) == ("https://api.example", run.id)
        assert spec.time_limit > run.limits.seconds

    async def test_its_token_is_this_runs_and_carries_its_cap(self, site: Site) -> None:
        run = await site.moved()
        await site.world.pump()
        token = site.world.host.specs[0].env["RUN_TOKEN"]
        claims = await site.world.platform.tokens.verify(token, "run")
        assert (claims["sub"], claims["team_id"], claims["card_id"]) == (run.id, run.team_id, run.card_id)
        assert claims["cap"] == round(run.limits.spend_cap_usd * 1_000_000)
        assert token not in repr(site.world.host.specs)

    async def test_a_job_that_an_earlier_try_started_is_adopted(self, site: Site) -> None:
        run = await site.moved()
        site.world.documents.fail("boards/", Unavailable("disk full"))
        message = site.world.waiting("agent-runs")[0]
        with pytest.raises(Unavailable):
            await site.world.consume("agent-runs", message)
        await site.world.consume("agent-runs", message)
        await site.world.pump(30)
        assert (await site.run(run.id)).status == "starting"
        assert len(site.world.host.specs) == 1

    async def test_a_job_lost_before_it_reported_is_started_again(self, site: Site) -> None:
        run = await site.moved()
        await site.world.pump()
        site.world.host.lose(site.world.job_name(run.id))
        await site.world.pump(3)
        assert len(site.world.host.specs) == 2
        assert (await site.run(run.id)).status == "starting"

    async def test_a_host_that_is_away_is_tried_again_with_growing_delays(self, site: Site) -> None:
        run = await site.moved()
        site.world.host.refusal = Unavailable("Docker does not answer.")
        await site.world.pump()
        assert (await site.run(run.id)).status == "starting"
        await site.world.pump(10)
        assert len(site.world.host.specs) == 1

    async def test_a_host_that_is_away_while_it_runs_costs_nothing(self, site: Site) -> None:
        """Neither the run nor the queue gives up on an engine that restarts."""
        run = await site.moved()
        await site.world.pump()
        site.world.host.outage = Unavailable("Docker does not answer.")
        for _ in range(8):
            await site.world.pump(3)
        assert (await site.run(run.id)).status == "starting"
        site.world.host.outage = None
        site.world.host.finish(site.world.job_name(run.id), 4)
        await site.world.pump(10)
        assert "exit code 4" in ((await site.run(run.id)).reason or "")

    async def test_after_five_tries_it_fails_and_says_why(self, site: Site) -> None:
        run = await site.moved()
        for _ in range(200):
            site.world.host.refusal = Unavailable("Docker does not answer.")
            await site.world.pump(1)
        failed = await site.run(run.id)
        assert failed.status == "failed"
        assert failed.reason == "No container could be started. Docker does not answer."
        assert site.world.host.specs == []
        assert site.world.open_rows() == []

    async def test_a_spec_the_host_refuses_fails_at_once(self, site: Site) -> None:
        run = await site.moved()
        site.world.host.refusal = Invalid("There is no such image.")
        await site.world.pump()
        failed = await site.run(run.id)
        assert (failed.status, failed.reason) == ("failed", "No container could be started. There is no such image.")

    async def test_a_card_deleted_meanwhile_fails_it(self, site: Site) -> None:
        run = await site.moved()
        partition = f"boards/{site.workspace.id}"
        del site.world.documents.partitions[partition][f"card/{run.card_id}"]
        await site.world.pump(10)
        failed = await site.run(run.id)
        assert (failed.status, failed.reason) == ("failed", "The card was deleted before its agent started.")
        assert site.world.open_rows() == []

    async def test_an_installation_that_may_not_run_agents_fails_it(self, site: Site) -> None:
        run = await site.moved()
        site.world.settings = SETTINGS.__class__(anthropic_api_key="", github_template=SETTINGS.github_template)
        site.world.platform = site.world.another_platform()
        await site.world.pump(10)
        failed = await site.run(run.id)
        assert failed.status == "failed"
        assert "No model is configured" in (failed.reason or "")
        assert site.world.host.specs == []

    async def test_a_person_editing_the_card_meanwhile_delays_nothing(self, site: Site) -> None:
        run = await site.moved()
        cards = site.world.platform.cards
        await asyncio.gather(
            site.world.pump(), *(cards.update(site.ada, run.card_id, CardChange(title=f"T{n}")) for n in range(3))
        )
        assert len(site.world.host.specs) == 1
        assert (await site.run(run.id)).status == "starting"


class TestMessages:
    async def test_duplicates_start_one_job(self, site: Site) -> None:
        await site.moved()
        message = site.world.waiting("agent-runs")[0]
        platforms = [site.world.another_platform() for _ in range(4)]
        await asyncio.gather(*(platform.lifecycle.handle(message) for platform in platforms))
        await site.world.platform.lifecycle.handle(message)
        assert len(site.world.host.specs) == 1
        assert len(site.world.waiting("agent-runs")) == 2

    async def test_late_ones_are_no_ops(self, site: Site) -> None:
        run = await site.moved()
        message = site.world.waiting("agent-runs")[0]
        await site.world.pump(60)
        before = (await site.run(run.id), len(site.world.queues.sent))
        await site.world.platform.lifecycle.handle(message)
        assert (await site.run(run.id), len(site.world.queues.sent)) == before

    async def test_an_unknown_run_is_no_error(self, site: Site) -> None:
        message = {"version": 1, "run_id": "run_w0123456789_gone", "epoch": 1}
        await site.world.platform.lifecycle.handle(message)

    @pytest.mark.parametrize("version", [None, 2])
    async def test_a_message_of_another_version_is_refused(self, site: Site, version: object) -> None:
        with pytest.raises(Invalid, match="version"):
            await site.world.platform.lifecycle.handle({"version": version, "run_id": "x", "epoch": 1})

    @pytest.mark.parametrize(
        "changed",
        [
            {"run_id": None},
            {"run_id": "nonsense"},
            {"run_id": "task_w0123456789_1/../x"},
            {"epoch": "1"},
            {"epoch": -1},
            {"epoch": 2**60},
            {"epoch": None},
            {"more": 1},
            {"undelivered": {}},
        ],
    )
    async def test_a_message_that_does_not_fit_is_refused(self, site: Site, changed: dict[str, object]) -> None:
        message = {"version": 1, "run_id": "run_w0123456789_1", "epoch": 1} | changed
        with pytest.raises(Invalid, match="do not fit"):
            await site.world.platform.lifecycle.handle(message)

    async def test_each_run_has_one_chain_of_looks(self, site: Site) -> None:
        await site.world.started(site.ada, site.board)
        for _ in range(10):
            await site.world.pump(6)
            assert len({message["epoch"] for message in site.world.waiting("agent-runs")}) == 1

    async def test_an_agent_that_tells_its_progress_does_not_break_the_chain(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        await site.world.pump(3)
        look = site.world.waiting("agent-runs")[-1]
        job = site.world.host.job

        async def meanwhile(name: str) -> object:
            await site.world.platform.cards.update(site.ada, run.card_id, CardChange(title="Other"))
            await site.world.platform.container._update(run.id, turns=4)
            site.world.host.job = job  # type: ignore[method-assign]
            return await job(name)

        site.world.host.job = meanwhile  # type: ignore[method-assign,assignment]
        await site.world.consume("agent-runs", look)
        assert site.world.waiting("agent-runs")[-1]["epoch"] > look["epoch"]


class TestEnding:
    async def test_a_container_that_ends_without_a_result_fails_the_run(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        site.world.host.finish(site.world.job_name(run.id), exit_code=137)
        await site.world.pump(10)
        failed = await site.run(run.id)
        assert failed.status == "failed"
        assert failed.reason == "The agent's container ended before it reported a result (exit code 137)."
        assert failed.finished_at is not None
        await site.world.pump(10)
        assert site.world.open_rows() == []

    async def test_a_container_that_ends_before_it_begins_fails_the_run(self, site: Site) -> None:
        run = await site.moved()
        await site.world.pump()
        site.world.host.finish(site.world.job_name(run.id), exit_code=1)
        await site.world.pump(10)
        assert (await site.run(run.id)).status == "failed"

    async def test_a_working_container_that_vanishes_fails_the_run(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        site.world.host.lose(site.world.job_name(run.id))
        await site.world.pump(10)
        failed = await site.run(run.id)
        assert failed.reason == "The agent's container ended before it reported a result."
        assert len(site.world.host.specs) == 1

    async def test_a_run_over_its_time_is_stopped(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        await site.world.pump(run.limits.seconds)
        assert (await site.run(run.id)).status == "running"
        await site.world.pump(300)
        failed = await site.run(run.id)
        assert failed.reason == "Stopped after 1800 s, the time limit of this run."
        assert site.world.host.stopped == [site.world.job_name(run.id)]
        assert site.world.open_rows() == []

    async def test_a_clock_that_jumps_a_day_ahead_does_not_end_it(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        site.world.clock.advance(24 * 3600)
        await site.world.pump(60)
        assert (await site.run(run.id)).status == "running"

    async def test_the_watchdog_takes_it_up_after_a_clock_was_set_back(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        site.world.lose_messages()
        site.world.clock.advance(-3600)
        assert await site.world.platform.lifecycle.watch() == 1
        site.world.host.finish(site.world.job_name(run.id), exit_code=1)
        await site.world.pump(10)
        assert (await site.run(run.id)).status == "failed"

    async def test_the_card_shows_what_became_of_its_run(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        site.world.host.finish(site.world.job_name(run.id), exit_code=1)
        await site.world.pump(10)
        card = await site.world.platform.cards.get(site.ada, run.card_id)
        assert card.run is not None
        assert (card.run.status, card.column_id) == ("failed", "progress")

    async def test_watchers_see_every_stage(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        await site.world.succeed(run)
        types = await site.world.types(f"run/{run.id}")
        assert types == ["agent.queued", "agent.starting", "agent.started", "agent.completed"]


class TestCancel:
    async def test_a_stopped_run_is_cancelled_and_its_job_ended(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        stopped = await site.world.platform.runs.stop(site.ada, run.id)
        assert (stopped.status, stopped.reason) == ("cancelled", "Stopped by Ada.")
        await site.world.pump()
        assert site.world.host.stopped == [site.world.job_name(run.id)]
        assert site.world.open_rows() == []

    async def test_stopping_it_before_it_starts_starts_nothing(self, site: Site) -> None:
        run = await site.moved()
        await site.world.platform.runs.stop(site.ada, run.id)
        await site.world.pump(60)
        assert site.world.host.specs == []
        assert site.world.open_rows() == []

    async def test_stopping_it_again_changes_nothing(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        await site.world.succeed(run)
        assert (await site.world.platform.runs.stop(site.ada, run.id)).status == "succeeded"

    async def test_one_click_stops_every_agent_of_the_team(self, site: Site) -> None:
        runs = [await site.world.started(site.ada, site.board) for _ in range(3)]
        await site.world.succeed(runs[0])
        stopped = await site.world.platform.runs.stop_all(site.ada, site.workspace.team_id)
        assert stopped.stopped == 2
        await site.world.pump(10)
        assert set(site.world.host.stopped) == {site.world.job_name(run.id) for run in runs}
        assert [(await site.run(run.id)).status for run in runs] == ["succeeded", "cancelled", "cancelled"]

    async def test_viewers_cannot_stop_agents(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        viewer = await site.world.member(site.ada, site.workspace.team_id, "Vera", Role.VIEWER)
        with pytest.raises(Forbidden):
            await site.world.platform.runs.stop(viewer, run.id)
        with pytest.raises(Forbidden):
            await site.world.platform.runs.stop_all(viewer, site.workspace.team_id)
        assert (await site.world.platform.runs.get(viewer, run.id)).status == "running"

    async def test_strangers_do_not_learn_that_a_run_exists(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        stranger = await site.world.person("Bob")
        for call in (site.world.platform.runs.get, site.world.platform.runs.stop, site.world.platform.runs.diff):
            with pytest.raises(NotFound):
                await call(stranger, run.id)


class TestComplete:
    async def test_success_shows_what_the_branch_holds(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        sha = await site.world.push(run, {"app.py": "print(1)\nprint(2)\n", "new.py": "x = 1\n"})
        done = await site.world.platform.container.complete(run.id, completion(sha))
        assert done.status == "succeeded"
        assert (done.turns, done.summary) == (7, "Did it.")
        assert done.result is not None
        assert (done.result.commit, done.result.commits, done.result.branch) == (sha, 1, run.branch)
        assert (done.result.additions, done.result.deletions, done.result.files_changed) == (2, 0, 2)
        diff = await site.world.platform.runs.diff(site.ada, run.id)
        assert [(file.path, file.status) for file in diff.files] == [("app.py", "modified"), ("new.py", "added")]

    async def test_the_card_goes_to_review_with_the_result(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        other = await site.world.card(site.ada, site.board, "Waiting", column_id="review")
        done = await site.world.succeed(run)
        card = await site.world.platform.cards.get(site.ada, run.card_id)
        assert card.column_id == "review"
        assert card.rank > other.rank
        assert card.result == done.result
        moved = (await site.world.subject(f"board/{site.board}"))[-1]
        assert (moved["type"], moved["data"]["by"]["kind"]) == ("card.moved", "agent")
        assert moved["data"]["from_column"] == "progress"

    async def test_a_card_that_somebody_moved_elsewhere_stays_there(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        await site.world.move(site.ada, run.card_id, "backlog")
        await site.world.succeed(run)
        card = await site.world.platform.cards.get(site.ada, run.card_id)
        assert card.column_id == "backlog"
        assert card.result is not None

    async def test_reporting_it_again_changes_nothing(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        sha = await site.world.push(run, {"app.py": "print(2)\n"})
        complete = site.world.platform.container.complete
        first = await complete(run.id, completion(sha))
        again = await complete(run.id, completion(sha))
        other = await complete(run.id, completion(None, "failed", "changed my mind"))
        assert first.status == again.status == other.status == "succeeded"
        assert (await site.world.types(f"run/{run.id}")).count("agent.completed") == 1

    async def test_simultaneous_reports_complete_it_once(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        sha = await site.world.push(run, {"app.py": "print(2)\n"})
        platforms = [site.world.another_platform() for _ in range(4)]
        await asyncio.gather(*(platform.container.complete(run.id, completion(sha)) for platform in platforms))
        assert (await site.world.types(f"run/{run.id}")).count("agent.completed") == 1

    async def test_a_failure_keeps_the_agents_own_words(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        done = await site.world.platform.container.complete(run.id, completion(None, "failed", "No tests to run."))
        assert (done.status, done.reason, done.summary) == ("failed", "No tests to run.", "Did it.")

    async def test_a_job_that_lingers_after_its_report_is_ended(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        await site.world.succeed(run)
        await site.world.pump(10)
        assert site.world.host.stopped == [site.world.job_name(run.id)]
        assert site.world.open_rows() == []

    async def test_a_report_after_a_stop_does_not_count(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        await site.world.platform.runs.stop(site.ada, run.id)
        assert (await site.world.succeed(run)).status == "cancelled"


class TestLyingAgent:
    async def refused(self, site: Site, run: Run, commit: str | None) -> str:
        done = await site.world.platform.container.complete(run.id, completion(commit))
        assert done.status == "failed"
        assert done.result is None
        card = await site.world.platform.cards.get(site.ada, run.card_id)
        assert (card.column_id, card.result) == ("progress", None)
        with pytest.raises(NotFound):
            await site.world.platform.runs.diff(site.ada, run.id)
        return done.reason or ""

    async def test_success_without_a_commit_is_a_failure(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        assert "without a commit" in await self.refused(site, run, None)

    async def test_a_commit_that_was_not_pushed_is_a_failure(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        assert "does not hold its commit" in await self.refused(site, run, "f" * 40)

    async def test_another_commit_than_the_pushed_one_is_a_failure(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        await site.world.push(run, {"app.py": "print(2)\n"})
        assert "does not hold its commit" in await self.refused(site, run, "f" * 40)

    async def test_a_branch_without_any_change_is_a_failure(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        hosted = next(iter(site.world.repositories.repositories.values()))
        hosted.branches[run.branch] = hosted.branches["main"]
        assert "holds no change" in await self.refused(site, run, hosted.branches["main"])

    async def test_a_branch_without_common_history_is_a_failure(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        hosted = next(iter(site.world.repositories.repositories.values()))
        hosted.branches[run.branch] = site.world.repositories._commit(None, {"app.py": "other"})
        assert "history" in await self.refused(site, run, hosted.branches[run.branch])

    async def test_the_default_branch_cannot_be_pushed_to(self, site: Site) -> None:
        hosted = next(iter(site.world.repositories.repositories.values()))
        assert hosted.protected == {"main"}


class TestWatch:
    async def test_a_run_whose_messages_were_lost_is_taken_up(self, site: Site) -> None:
        run = await site.moved()
        site.world.lose_messages()
        assert await site.world.platform.lifecycle.watch() == 0
        site.world.clock.advance(60)
        assert await site.world.platform.lifecycle.watch() == 1
        await site.world.pump()
        assert (await site.run(run.id)).status == "starting"

    async def test_a_followed_run_is_left_alone(self, site: Site) -> None:
        await site.world.started(site.ada, site.board)
        for _ in range(20):
            await site.world.pump(10)
            assert await site.world.platform.lifecycle.watch() == 0

    async def test_the_job_of_a_stopped_run_is_ended_even_when_its_message_was_lost(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        await site.world.platform.runs.stop(site.ada, run.id)
        site.world.lose_messages()
        site.world.clock.advance(60)
        await site.world.platform.lifecycle.watch()
        await site.world.pump()
        assert site.world.host.stopped == [site.world.job_name(run.id)]
        assert site.world.open_rows() == []

    async def test_a_run_that_never_came_to_be_is_forgotten(self, site: Site) -> None:
        await site.world.platform.store.file_open(f"run/run_{site.workspace.id}_never")
        site.world.clock.advance(3601)
        await site.world.platform.lifecycle.watch()
        assert site.world.open_rows() == []

    async def test_one_that_cannot_be_taken_up_does_not_hold_up_others(self, site: Site) -> None:
        await asyncio.gather(site.moved(), site.moved())
        await site.world.platform.store.idle()  # what is still put in order would meet the failure instead
        site.world.lose_messages()
        site.world.clock.advance(60)
        site.world.documents.fail("boards/", Unavailable("disk full"))
        assert await site.world.platform.lifecycle.watch() == 1


class TestAbandon:
    async def test_a_run_the_queue_gave_up_on_fails(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        look = site.world.waiting("agent-runs")[-1]
        await site.world.platform.lifecycle.abandon(run.id, look["epoch"], "Given up.")
        assert (await site.run(run.id)).reason == "Given up."
        await site.world.pump(10)
        assert site.world.host.stopped == [site.world.job_name(run.id)]

    async def test_one_that_was_looked_at_since_goes_on(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        late = site.world.waiting("agent-runs")[-1]
        await site.world.pump(10)
        await site.world.platform.lifecycle.abandon(run.id, late["epoch"], "Given up.")
        assert (await site.run(run.id)).status == "running"

    async def test_one_that_is_over_stays_as_it_is(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        await site.world.succeed(run)
        look = site.world.waiting("agent-runs")[-1]
        await site.world.platform.lifecycle.abandon(run.id, look["epoch"], "Given up.")
        assert (await site.run(run.id)).status == "succeeded"


class TestRetry:
    async def test_a_failed_run_is_tried_again_on_the_same_branch(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        await site.world.platform.container.complete(run.id, completion(None, "failed", "stuck"))
        again = await site.world.platform.runs.retry(site.ada, run.id)
        assert again.id != run.id
        assert (again.status, again.attempt, again.branch) == ("queued", 2, run.branch)
        await site.world.pump()
        context = await site.world.platform.container.start(again.id, "box-2")
        assert context.previous is not None
        assert context.previous.reason == "stuck"

    async def test_a_working_one_is_not(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        with pytest.raises(Conflict, match="still working"):
            await site.world.platform.runs.retry(site.ada, run.id)

    async def test_one_whose_card_has_moved_on_is_not(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        await site.world.succeed(run)
        with pytest.raises(Conflict, match="moved on"):
            await site.world.platform.runs.retry(site.ada, run.id)

    async def test_one_whose_card_was_deleted_is_not(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        await site.world.platform.runs.stop(site.ada, run.id)
        await site.world.platform.cards.delete(site.ada, run.card_id)
        with pytest.raises(Conflict, match="deleted"):
            await site.world.platform.runs.retry(site.ada, run.id)

    async def test_two_people_retrying_start_one_agent(self, site: Site) -> None:
        run = await site.world.started(site.ada, site.board)
        await site.world.platform.runs.stop(site.ada, run.id)
        platforms = [site.world.another_platform() for _ in range(3)]
        results = await asyncio.gather(
            *(platform.runs.retry(site.ada, run.id) for platform in platforms), return_exceptions=True
        )
        assert sum(isinstance(result, Conflict) for result in results) == 2
        await site.world.pump(60)
        assert len(site.world.host.specs) == 2

    async def test_an_unsandboxed_real_model_is_refused(self) -> None:
        world = World(SETTINGS.__class__(anthropic_api_key="sk-real"), isolated=False)
        ada = await world.person("Ada")
        workspace = await world.workspace(ada)
        card = await world.card(ada, workspace.board_id)
        with pytest.raises(Conflict, match="ALLOW_UNSANDBOXED"):
            await world.move(ada, card.id, "progress")
