import asyncio
from dataclasses import replace

import pytest

from shared.core.clock import parse
from shared.core.errors import Conflict, Invalid, NotFound, RateLimited, Unavailable
from shared.core.ports import Json, Put
from shared.core.resources import Subject, TaskStatus
from shared.core.store import Commit
from shared.tasks.models import Later, StepContext
from shared.tasks.runner import Runner
from tests.unit.tasks.line import SUBJECT, TASK, TEAM, Crash, Line


class TestRun:
    async def test_a_whole_plan_runs_on_one_message(self) -> None:
        line = Line("one", "two", "three")
        await line.begin()
        done = await line.run()
        assert done.status == "succeeded"
        assert line.acts == ["one", "two", "three"]
        assert [step.status for step in done.steps] == ["succeeded"] * 3
        assert len(line.queues.sent) == 1

    async def test_steps_see_what_earlier_steps_returned(self) -> None:
        line = Line("one", "two")
        await line.begin()
        done = await line.run()
        assert line.seen == {"one": {"seed": 1}, "two": {"seed": 1, "one": "done"}}
        assert done.state == {"seed": 1, "one": "done", "two": "done"}

    async def test_watchers_see_it_created_progress_and_completed(self) -> None:
        line = Line("one")
        await line.begin()
        await line.run()
        types = await line.types(SUBJECT)
        assert (types[0], types[-1]) == ("task.created", "task.completed")
        assert set(types[1:-1]) == {"task.progress"}
        assert line.realtime.messages(f"team.{TEAM}") == line.realtime.messages("user.uada")
        (last,) = (await line.subject(SUBJECT))[-1:]
        assert last["data"]["task"]["status"] == "succeeded"
        assert "state" not in last["data"]["task"]

    async def test_finished_work_is_not_open_any_more(self) -> None:
        line = Line("one")
        await line.begin()
        assert line.open_rows() == [SUBJECT]
        await line.run()
        assert line.open_rows() == []

    async def test_an_unknown_task_is_no_error(self) -> None:
        await Line("one").runner.handle({"version": 1, "task_id": "gone", "epoch": 1})

    @pytest.mark.parametrize("version", [None, 0, 2, "1"])
    async def test_a_message_of_another_version_is_refused(self, version: object) -> None:
        line = Line("one")
        message = await line.begin()
        with pytest.raises(Invalid, match="version"):
            await line.runner.handle({**message, "version": version})
        assert line.acts == []

    @pytest.mark.parametrize(
        "changed",
        [{"task_id": None}, {"task_id": "../x"}, {"epoch": "1"}, {"epoch": True}, {"epoch": -1}, {"team_id": "t1"}],
    )
    async def test_a_message_that_does_not_fit_is_refused(self, changed: dict[str, object]) -> None:
        line = Line("one")
        message = await line.begin()
        with pytest.raises(Invalid, match="do not fit"):
            await line.runner.handle({**message, **changed})
        assert line.acts == []

    @pytest.mark.parametrize("task_id", ["", "../x", "A", "a/b", "a" * 65])
    async def test_what_cannot_be_a_task_is_not_found(self, task_id: str) -> None:
        with pytest.raises(NotFound):
            await Line("one").runner.load(task_id)

    async def test_after_a_minute_the_rest_gets_a_message_of_its_own(self) -> None:
        line = Line("one", "two", "three")

        async def slow(_: StepContext) -> Json:
            line.clock.advance(61)
            return {}

        line.script["one"] = [slow]
        await line.begin()
        await line.runner.handle(line.message())
        assert line.acts == ["one"]
        assert len(line.queues.sent) == 2
        line.taken = 1
        assert (await line.run()).status == "succeeded"
        assert line.acts == ["one", "two", "three"]


class TestLater:
    async def test_a_step_that_is_not_done_is_called_again_then(self) -> None:
        line = Line("one", "two")
        line.script["one"] = [Later(7, 0.5, "half way"), {"one": "done"}]
        first = await line.begin()
        await line.runner.handle(first)
        waiting = await line.task()
        assert (waiting.steps[0].progress, waiting.steps[0].note) == (0.5, "half way")
        assert line.queues.sent[-1][2] == 7
        assert line.message()["epoch"] > first["epoch"]
        line.taken = 1
        assert (await line.run()).status == "succeeded"
        assert line.acts == ["one", "one", "two"]

    async def test_while_it_waits_the_watchdog_leaves_it_alone(self) -> None:
        line = Line("one")
        line.script["one"] = [Later(600)]
        await line.runner.handle(await line.begin())
        line.clock.advance(600)
        assert await line.runner.watch() == 0

    async def test_a_finished_step_shows_no_progress(self) -> None:
        line = Line("one")
        line.script["one"] = [Later(1, 0.5)]
        await line.begin()
        assert (await line.run()).steps[0].progress is None


class TestFailure:
    async def test_a_transient_failure_is_tried_again_with_growing_delays(self) -> None:
        line = Line("one")
        line.script["one"] = [Unavailable("away")] * 4
        await line.begin()
        done = await line.run()
        assert done.status == "succeeded"
        assert done.steps[0].error is None
        delays = [delay for _, _, delay in line.queues.sent[1:]]
        assert all(2**n * 0.5 <= delay <= 2**n for n, delay in enumerate(delays, 1))

    async def test_while_it_is_tried_again_the_reason_shows(self) -> None:
        line = Line("one")
        line.script["one"] = [Unavailable("GitHub is away.")]
        await line.runner.handle(await line.begin())
        task = await line.task()
        assert (task.status, task.steps[0].error, task.steps[0].attempts) == ("running", "GitHub is away.", 1)

    @pytest.mark.parametrize("error", [RateLimited("slow down", retry_after=17), Unavailable("busy", retry_after=17)])
    async def test_it_waits_as_long_as_it_is_told(self, error: Exception) -> None:
        line = Line("one")
        line.script["one"] = [error]
        await line.runner.handle(await line.begin())
        assert line.queues.sent[-1][2] == 17

    async def test_after_the_last_attempt_it_has_failed_and_says_why(self) -> None:
        line = Line("one", "two", attempts=3)
        line.script["one"] = [Unavailable("GitHub is away.")] * 9
        await line.begin()
        done = await line.run()
        assert done.status == "failed"
        assert done.error == "One failed: GitHub is away."
        assert line.acts == ["one"] * 3
        assert line.refusals == [done.error]
        assert (await line.types(SUBJECT))[-1] == "task.failed"
        assert line.open_rows() == []

    @pytest.mark.parametrize("error", [RuntimeError("boom"), KeyError("x"), ValueError("secret detail")])
    async def test_a_fault_in_a_step_ends_it_after_its_attempts(self, error: Exception) -> None:
        line = Line("one", attempts=3)
        line.script["one"] = [error] * 99
        await line.begin()
        done = await line.run()
        assert done.status == "failed"
        assert done.error == f"One failed: An unexpected {type(error).__name__}."
        assert len(line.acts) == 3

    async def test_a_step_that_takes_too_long_is_ended(self) -> None:
        line = Line("one", timeout=0.05, attempts=1)

        async def hang(_: StepContext) -> Json:
            await asyncio.sleep(60)
            return {}

        line.script["one"] = [hang]
        await line.begin()
        done = await line.run()
        assert done.status == "failed"
        assert done.error == "One failed: It took longer than 0 s."

    async def test_a_subject_that_cannot_be_told_still_gets_a_failed_task(self) -> None:
        line = Line("one", attempts=1)
        line.script["one"] = [Unavailable("no")]
        await line.begin()

        async def gone(ctx: StepContext, status: TaskStatus, reason: str) -> None:
            raise NotFound("There is no such team.")

        line.plans["line"] = replace(line.plans["line"], ended=gone)
        done = await line.run()
        assert (done.status, done.error) == ("failed", "One failed: no")
        assert line.open_rows() == []

    async def test_whoever_sees_it_failed_sees_its_subject_failed(self) -> None:
        line = Line("one", attempts=1)
        line.script["one"] = [Unavailable("no")]
        await line.begin()
        seen: list[str] = []

        async def look(ctx: StepContext, status: TaskStatus, reason: str) -> None:
            seen.append((await line.task()).status)
            assert (await line.types(SUBJECT))[-1] == "task.progress"

        line.plans["line"] = replace(line.plans["line"], ended=look)
        assert (await line.run()).status == "failed"
        assert seen == ["running"]

    async def test_after_a_crash_while_its_subject_was_told_it_is_tried_again(self) -> None:
        line = Line("one", attempts=1)
        line.script["one"] = [Unavailable("away")]
        await line.begin()
        tell, line.plans["line"] = line.plans["line"], replace(line.plans["line"], ended=_crash)
        with pytest.raises(Crash):
            await line.run()
        line.plans["line"] = tell
        line.clock.advance(31)
        await line.runner.watch()
        assert (await line.run()).status == "succeeded"


async def _crash(ctx: StepContext, status: TaskStatus, reason: str) -> None:
    raise Crash


class TestRetry:
    async def failed(self) -> Line:
        line = Line("one", "two", "three", attempts=1)
        line.script["two"] = [Unavailable("away")]
        await line.begin()
        assert (await line.run()).status == "failed"
        return line

    async def test_it_goes_on_from_the_step_that_failed(self) -> None:
        line = await self.failed()
        again = await line.runner.retry(TASK)
        assert (again.status, again.error, again.steps[1].error) == ("pending", None, None)
        assert line.open_rows() == [SUBJECT]
        assert (await line.run()).status == "succeeded"
        assert line.acts == ["one", "two", "two", "three"]

    async def test_steps_can_tell_that_it_is_another_try(self) -> None:
        line = await self.failed()
        await line.runner.retry(TASK)
        await line.run()
        assert line.seen["two"]["retries"] == 1

    @pytest.mark.parametrize("again", [False, True])
    async def test_only_failed_tasks_can_be_retried(self, again: bool) -> None:
        line = Line("one")
        await line.begin()
        if again:
            await line.run()
        with pytest.raises(Conflict, match="Nothing is there to be retried"):
            await line.runner.retry(TASK)

    async def test_two_people_retrying_start_it_once(self) -> None:
        line = await self.failed()
        results = await asyncio.gather(*(line.runner.retry(TASK) for _ in range(2)), return_exceptions=True)
        assert sum(isinstance(result, Exception) for result in results) == 1
        await line.run()
        assert line.acts == ["one", "two", "two", "three"]

    @pytest.mark.parametrize("settler", ["holder", "watchdog", "queue"])
    async def test_one_made_while_its_end_is_settled_is_missed_by_the_watchdog(self, settler: str) -> None:
        """A person is faster than whoever ended it, and then the retry's holder dies."""
        line = Line("one", attempts=1)
        line.script["one"] = [Crash()] if settler == "queue" else [Unavailable("away"), Crash()]
        message, store = await line.begin(), line.another_store()
        runner, settle = Runner(store, line.plans), store.settle

        async def late(reference: str) -> None:
            await line.another_runner().retry(TASK)
            await settle(reference)

        if settler == "watchdog":
            await line.another_runner().handle(message)
            await line.store.file_open(SUBJECT)
        store.settle = late  # type: ignore[method-assign]
        match settler:
            case "holder":
                await runner.handle(message)
            case "watchdog":
                await runner.watch()
            case _:
                await runner.abandon(TASK, 1, "Given up.")
        assert line.open_rows() == [SUBJECT]
        with pytest.raises(Crash):
            await line.another_runner().handle(line.message())
        line.clock.advance(31)
        assert await line.another_runner().watch() == 1
        line.taken = len(line.queues.sent) - 1
        assert (await line.run()).status == "succeeded"


class TestMessages:
    async def test_duplicates_are_no_ops(self) -> None:
        line = Line("one", "two")
        message = await line.begin()
        for _ in range(3):
            await line.runner.handle(message)
        assert line.acts == ["one", "two"]

    async def test_simultaneous_duplicates_act_once(self) -> None:
        line = Line("one", "two", "three")
        message = await line.begin()
        await asyncio.gather(*(line.another_runner().handle(message) for _ in range(6)))
        assert line.acts == ["one", "two", "three"]
        assert (await line.task()).status == "succeeded"

    async def test_late_and_reordered_ones_are_no_ops(self) -> None:
        line = Line("one")
        line.script["one"] = [Later(1), Later(1), {"one": "done"}]
        first = await line.begin()
        await line.runner.handle(first)
        second = line.message()
        await line.runner.handle(second)
        for old in (first, second, {**second, "epoch": 99}):
            await line.runner.handle(old)
        assert line.acts == ["one", "one"]
        await line.runner.handle(line.message())
        await line.runner.handle(second)
        assert line.acts == ["one"] * 3
        assert (await line.task()).status == "succeeded"

    async def test_a_message_of_a_finished_task_settles_it(self) -> None:
        line = Line("one")
        message = await line.begin()
        await line.run()
        await line.store.file_open(SUBJECT)
        await line.runner.handle(message)
        assert line.open_rows() == []


class TestLease:
    async def test_whoever_is_overtaken_stops_without_effect(self) -> None:
        line = Line("one", "two")

        async def stolen(_: StepContext) -> Json:
            line.clock.advance(31)
            assert await line.another_runner().watch() == 1
            return {"one": "too late"}

        line.script["one"] = [stolen, {"one": "second"}]
        await line.begin()
        await line.runner.handle(line.message())
        assert "one" not in (await line.task()).state
        assert line.acts == ["one"]
        line.taken = 1
        done = await line.run()
        assert done.status == "succeeded"
        assert done.state["one"] == "second"
        assert line.acts == ["one", "one", "two"]

    async def test_whoever_is_overtaken_cannot_fail_the_task(self) -> None:
        line = Line("one", attempts=1)

        async def stolen(_: StepContext) -> Json:
            line.clock.advance(31)
            await line.another_runner().watch()
            raise Conflict("too late")

        line.script["one"] = [stolen]
        await line.begin()
        assert (await line.run()).status == "succeeded"
        assert line.refusals == []

    async def test_the_watchdog_resumes_a_task_whose_holder_is_gone(self) -> None:
        line = Line("one", "two")
        line.script["two"] = [Crash()]
        await line.begin()
        with pytest.raises(Crash):
            await line.run()
        assert await line.runner.watch() == 0
        line.clock.advance(31)
        assert await line.another_runner().watch() == 1
        assert (await line.run()).status == "succeeded"
        assert line.acts == ["one", "two", "two"]

    async def test_the_watchdog_resumes_a_task_whose_message_was_lost(self) -> None:
        line = Line("one")
        await line.begin()
        line.taken = 1
        line.clock.advance(31)
        assert await line.runner.watch() == 1
        assert (await line.run()).status == "succeeded"

    async def test_one_task_that_cannot_be_resumed_does_not_hold_up_others(self) -> None:
        line = Line("one")
        await line.begin()
        subject = Subject(kind="team", id=TEAM, name="Rockets")
        for name in ("task2", "task3"):
            await line.store.commit(line.runner.creation(name, "line", subject, TEAM, "uada", {}))
        line.clock.advance(31)
        line.documents.fail("tasks/", Unavailable("disk full"))
        assert await line.runner.watch() == 2
        assert await line.runner.watch() == 1

    async def test_two_watchdogs_resume_it_once(self) -> None:
        line = Line("one")
        await line.begin()
        line.clock.advance(31)
        assert sum(await asyncio.gather(line.runner.watch(), line.another_runner().watch())) == 1

    async def test_the_watchdog_settles_what_is_over(self) -> None:
        line = Line("one")
        await line.begin()
        await line.run()
        await line.store.file_open(SUBJECT)
        assert await line.runner.watch() == 0
        assert line.open_rows() == []

    async def test_the_watchdog_forgets_work_that_never_came_to_be(self) -> None:
        line = Line("one")
        await line.store.file_open("task/never")
        assert await line.runner.watch() == 0
        assert line.open_rows() == ["task/never"]
        line.clock.advance(3601)
        await line.runner.watch()
        assert line.open_rows() == []

    @pytest.mark.parametrize("place", ["after the act", "before the act"])
    async def test_a_crash_before_the_commit_repeats_the_step(self, place: str) -> None:
        line = Line("one", "two")

        async def crash(_: StepContext) -> Json:
            line.documents.fail(f"tasks/{TASK}", Crash())
            return {"one": "unsaved"}

        if place == "after the act":
            line.script["one"] = [crash]
        else:
            line.script["one"] = [Crash()]
        await line.begin()
        with pytest.raises(Crash):
            await line.run()
        assert "one" not in (await line.task()).state
        line.clock.advance(31)
        await line.runner.watch()
        done = await line.run()
        assert done.status == "succeeded"
        assert line.acts == ["one", "one", "two"]

    async def test_a_host_that_shuts_down_leaves_the_task_to_be_resumed(self) -> None:
        line = Line("one")
        entered = asyncio.Event()

        async def hang(_: StepContext) -> Json:
            entered.set()
            await asyncio.sleep(60)
            return {}

        line.script["one"] = [hang]
        await line.begin()
        handling = asyncio.create_task(line.run())
        await entered.wait()
        handling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await handling
        assert (await line.task()).status == "running"
        line.clock.advance(31)
        await line.runner.watch()
        assert (await line.run()).status == "succeeded"


class TestHeartbeat:
    async def test_the_lease_of_a_working_step_is_renewed(self) -> None:
        line = Line("one", lease=0.06)

        async def slow(_: StepContext) -> Json:
            for _ in range(5):
                line.clock.advance(0.04)
                await asyncio.sleep(0.04)
                assert await line.another_runner().watch() == 0
            return {}

        line.script["one"] = [slow]
        await line.begin()
        assert (await line.run()).status == "succeeded"
        assert line.acts == ["one"]

    async def test_a_step_whose_lease_was_lost_is_cancelled(self) -> None:
        line = Line("one", lease=0.06)
        cancelled: list[bool] = []

        async def hang(_: StepContext) -> Json:
            record, etag = await line.runner.load(TASK)
            await line.documents.commit(f"tasks/{TASK}", [Put("task", record.json_body(), etag)])
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
            return {}

        line.script["one"] = [hang]
        await line.begin()
        await line.runner.handle(line.message())
        assert cancelled == [True]
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0

    async def test_a_beat_under_way_does_not_cost_the_step_its_result(self) -> None:
        line = Line("one", "two", lease=0.06)
        commit, entered = line.documents.commit, asyncio.Event()

        async def slow_commit(partition: str, ops: list[Put]) -> dict[str, str]:
            etags = await commit(partition, ops)
            if partition == f"tasks/{TASK}" and len(ops) == 1 and not entered.is_set() and line.acts:
                entered.set()
                await asyncio.sleep(0.05)
            return etags

        async def until_beat(_: StepContext) -> Json:
            await entered.wait()
            return {"one": "done"}

        line.script["one"] = [until_beat]
        await line.begin()
        line.documents.commit = slow_commit  # type: ignore[method-assign,assignment]
        await line.runner.handle(line.message())
        assert (await line.task()).status == "succeeded"
        assert line.acts == ["one", "two"]


class TestReport:
    async def test_progress_is_told_at_most_once_a_second(self) -> None:
        line = Line("one")

        async def busy(ctx: StepContext) -> Json:
            for n in range(50):
                await ctx.report(n / 50, f"{n} of 50")
                line.clock.advance(0.1)
            return {}

        line.script["one"] = [busy]
        await line.begin()
        before = len(await line.subject(SUBJECT))
        await line.run()
        told = [event["data"]["task"]["steps"][0]["note"] for event in (await line.subject(SUBJECT))[before:]]
        assert [note for note in dict.fromkeys(told) if note] == [f"{n} of 50" for n in (10, 20, 30, 40)]


class TestAbandon:
    async def test_a_task_the_queue_gave_up_on_needs_attention(self) -> None:
        line = Line("one")
        await line.begin()
        await line.runner.abandon(TASK, 1, "Given up.")
        task = await line.task()
        assert (task.status, task.error) == ("needs_attention", "Given up.")
        assert line.refusals == ["Given up."]
        assert (await line.types(SUBJECT))[-1] == "task.failed"
        assert line.open_rows() == []

    async def test_it_can_be_retried(self) -> None:
        line = Line("one")
        await line.begin()
        await line.runner.abandon(TASK, 1, "Given up.")
        line.taken = 1
        await line.runner.retry(TASK)
        assert (await line.run()).status == "succeeded"

    async def test_one_that_is_over_stays_as_it_is(self) -> None:
        line = Line("one")
        await line.begin()
        await line.run()
        await line.runner.abandon(TASK, 1, "Given up.")
        assert (await line.task()).status == "succeeded"

    async def test_a_task_of_a_plan_that_is_gone_needs_attention_too(self) -> None:
        line = Line("one")
        await line.begin()
        line.plans.clear()
        with pytest.raises(Invalid, match="no plan"):
            await line.run()
        await line.runner.abandon(TASK, 1, "Given up.")
        assert (await line.task()).status == "needs_attention"

    async def test_one_that_the_watchdog_has_sent_a_newer_message_goes_on(self) -> None:
        line = Line("one")
        late = await line.begin()
        line.clock.advance(31)
        assert await line.another_runner().watch() == 1
        await line.another_runner().abandon(TASK, late["epoch"], "Given up.")
        assert line.open_rows() == [SUBJECT]
        line.taken = 1
        assert (await line.run()).status == "succeeded"

    async def test_whoever_holds_it_is_left_alone(self) -> None:
        line = Line("one", "two")

        async def given_up(_: StepContext) -> Json:
            await line.another_runner().abandon(TASK, 1, "Given up.")
            return {}

        line.script["one"] = [given_up]
        await line.begin()
        assert (await line.run()).status == "succeeded"
        assert line.acts == ["one", "two"]

    async def test_whoever_begins_on_it_meanwhile_stops_or_goes_on_alone(self) -> None:
        line = Line("one")
        message = await line.begin()
        await asyncio.gather(
            line.runner.handle(message), line.another_runner().abandon(TASK, message["epoch"], "Given up.")
        )
        task = await line.task()
        assert (task.status, line.acts) in [("succeeded", ["one"]), ("needs_attention", [])]
        assert line.open_rows() == []


class TestCreation:
    async def test_the_same_task_is_created_once(self) -> None:
        line = Line("one")
        await line.begin()
        subject = Subject(kind="team", id=TEAM, name="Rockets")
        again = line.runner.creation(TASK, "line", subject, TEAM, "uada", {})
        await line.store.commit(Commit(f"portal/team/{TEAM}", [Put("team", {})], follow=[again]))
        await line.run()
        assert line.acts == ["one"]
        assert (await line.types(SUBJECT)).count("task.created") == 1

    async def test_its_lease_begins_at_once(self) -> None:
        line = Line("one")
        await line.begin()
        assert (parse((await line.task()).check_at) - line.clock.now()).total_seconds() == 30
