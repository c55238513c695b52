import asyncio

import pytest

from shared.core.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from shared.core.ports import Json
from shared.tasks.models import Later, StepContext
from tests.unit.tasks.line import SUBJECT, TASK, Crash, Line


async def refused_at(name: str, *names: str, attempts: int = 5) -> Line:
    """A task whose step `name` is refused, before anybody works on it."""
    line = Line(*names, attempts=attempts)
    line.script[name] = [Conflict("The name is taken.")]
    await line.begin()
    return line


async def failed_at(name: str, *names: str) -> Line:
    line = Line(*names, attempts=1)
    line.script[name] = [Unavailable("away")]
    await line.begin()
    assert (await line.run()).status == "failed"
    return line


async def statuses(line: Line) -> list[str]:
    return [step.status for step in (await line.task()).steps]


class TestRefused:
    async def test_what_was_kept_for_people_is_never_undone_for_a_refusal(self) -> None:
        """They may have worked on it for days before somebody retried."""
        line = await failed_at("two", "one", "two")
        line.script["two"] = [Forbidden("No."), Forbidden("No.")]
        for _ in range(2):
            await line.runner.retry(TASK)
            done = await line.run()
            assert (done.status, done.error, line.made) == ("failed", "Two failed: No.", ["one"])
        await line.runner.cancel(TASK, "Ada")
        assert ((await line.run()).status, line.made) == ("cancelled", [])

    async def test_what_begins_anew_is_undone_again(self) -> None:
        line = await failed_at("two", "one", "two")
        await line.runner.cancel(TASK, "Ada")
        await line.run()
        line.script["two"] = [Conflict("No.")]
        await line.runner.retry(TASK)
        assert ((await line.run()).status, line.made) == ("rolled_back", [])

    @pytest.mark.parametrize("error", [Conflict("No."), Invalid("No."), NotFound("No."), Forbidden("No.")])
    async def test_what_repeating_cannot_mend_is_undone_in_reverse_and_says_why(self, error: Exception) -> None:
        line = Line("one", "two", "three", "four")
        line.script["three"] = [error]
        await line.begin()
        done = await line.run()
        assert (done.status, done.error) == ("rolled_back", "Three failed: No.")
        assert line.acts == ["one", "two", "three", "-three", "-two", "-one"]
        assert [step.status for step in done.steps] == ["undone", "undone", "undone", "pending"]
        assert line.made == []

    async def test_watchers_see_it_rolling_back_and_rolled_back(self) -> None:
        line = await refused_at("two", "one", "two")
        await line.run()
        seen = [(event["type"], event["data"]["task"]["status"]) for event in await line.subject(SUBJECT)]
        assert list(dict.fromkeys(seen)) == [
            ("task.created", "pending"),
            ("task.progress", "running"),
            ("task.progress", "rolling_back"),
            ("task.rolled_back", "rolled_back"),
        ]

    async def test_its_subject_hears_of_it_before_people_see_the_end(self) -> None:
        line = await refused_at("one", "one")
        done = await line.run()
        assert (line.ends, line.refusals) == (["rolled_back"], [done.error])
        assert line.open_rows() == []

    async def test_each_undo_is_committed_before_the_next_begins(self) -> None:
        line = await refused_at("two", "one", "two")
        seen: list[list[str]] = []

        async def look(_: StepContext) -> None:
            seen.append(await statuses(line))

        line.script |= {"-two": [look], "-one": [look]}
        await line.run()
        assert seen == [["succeeded", "undoing"], ["undoing", "undone"]]

    async def test_an_undo_that_is_not_done_is_called_again_then(self) -> None:
        line = await refused_at("one", "one")
        line.script["-one"] = [Later(7, 0.5, "half gone")]
        await line.runner.handle(line.message())
        (step,) = (await line.task()).steps
        assert (step.status, step.progress, step.note) == ("undoing", 0.5, "half gone")
        assert line.queues.sent[-1][2] == 7
        line.taken = 1
        assert (await line.run()).status == "rolled_back"
        assert line.acts == ["one", "-one", "-one"]

    async def test_an_undo_that_fails_in_passing_is_tried_again(self) -> None:
        line = await refused_at("one", "one")
        line.script["-one"] = [Unavailable("away"), RuntimeError("boom")]
        done = await line.run()
        assert (done.status, done.steps[0].error) == ("rolled_back", None)
        assert line.acts == ["one", "-one", "-one", "-one"]

    @pytest.mark.parametrize("errors", [[Unavailable("It is locked.")] * 3, [Forbidden("It is locked.")]])
    async def test_an_undo_that_cannot_succeed_needs_attention_and_says_why(self, errors: list[Exception]) -> None:
        line = await refused_at("two", "one", "two", attempts=3)
        line.script["-two"] = [*errors]
        done = await line.run()
        assert done.status == "needs_attention"
        assert done.error == "Two failed: The name is taken. Undoing this failed at 'Two': It is locked."
        assert [step.status for step in done.steps] == ["succeeded", "failed"]
        assert (await line.types(SUBJECT))[-1] == "task.failed"
        assert (line.ends, line.made) == (["needs_attention"], ["one"])

    async def test_a_retry_goes_on_undoing(self) -> None:
        line = await refused_at("two", "one", "two", attempts=1)
        line.script["-two"] = [Unavailable("locked")]
        await line.run()
        again = await line.runner.retry(TASK)
        assert (again.status, again.error) == ("rolling_back", "Two failed: The name is taken.")
        done = await line.run()
        assert (done.status, done.error) == ("rolled_back", "Two failed: The name is taken.")
        assert (line.acts, line.renewed) == (["one", "two", "-two", "-two", "-one"], 0)

    async def test_an_undo_that_takes_too_long_is_ended(self) -> None:
        line = await refused_at("one", "one", attempts=1)
        line.steps(timeout=0.05)

        async def hang(_: StepContext) -> None:
            await asyncio.sleep(60)

        line.script["-one"] = [hang]
        done = await line.run()
        assert done.status == "needs_attention"
        assert "It took longer than" in (done.error or "")

    async def test_after_a_minute_the_rest_is_undone_by_a_message_of_its_own(self) -> None:
        line = await refused_at("two", "one", "two")

        async def slow(_: StepContext) -> None:
            line.clock.advance(61)

        line.script["-two"] = [slow]
        await line.runner.handle(line.message())
        assert (await line.task()).status == "rolling_back"
        line.taken = 1
        assert (await line.run()).status == "rolled_back"

    async def test_the_watchdog_resumes_one_whose_holder_is_gone_while_undoing(self) -> None:
        line = await refused_at("two", "one", "two")
        line.script["-two"] = [Crash()]
        with pytest.raises(Crash):
            await line.run()
        assert (await line.task()).status == "rolling_back"
        line.clock.advance(31)
        assert await line.another_runner().watch() == 1
        assert (await line.run()).status == "rolled_back"
        assert line.acts == ["one", "two", "-two", "-two", "-one"]

    async def test_one_the_queue_gave_up_on_while_undoing_needs_attention(self) -> None:
        line = await refused_at("one", "one")
        line.script["-one"] = [Later(5)]
        await line.runner.handle(line.message())
        await line.runner.abandon(TASK, line.message()["epoch"], "Given up.")
        task = await line.task()
        assert (task.status, task.error) == ("needs_attention", "One failed: The name is taken. Given up.")
        line.taken = len(line.queues.sent)
        await line.runner.retry(TASK)
        assert (await line.run()).status == "rolled_back"

    @pytest.mark.parametrize("error", [Conflict("no"), Unavailable("no")])
    async def test_a_plan_that_cannot_be_undone_needs_attention(self, error: Exception) -> None:
        line = Line("one", "two", attempts=1, undoable=False)
        line.script["two"] = [error]
        await line.begin()
        assert (await line.run()).status == "needs_attention"
        await line.runner.retry(TASK)
        assert (await line.run()).status == "succeeded"
        assert line.acts == ["one", "two", "two"]


class TestEndless:
    async def test_a_step_that_is_never_done_fails_after_an_hour(self) -> None:
        line = Line("one")
        line.script["one"] = [Later(600)] * 99
        await line.begin()
        done = await line.run()
        assert (done.status, done.error) == ("failed", "One failed: It was not done after 60 minutes.")
        assert len(line.acts) == 8

    async def test_a_clock_that_jumps_makes_no_step_late(self) -> None:
        line = Line("one")
        line.script["one"] = [Later(1)] * 3
        await line.begin()
        await line.runner.handle(line.message())
        line.clock.advance(7200)
        assert (await line.run()).status == "succeeded"

    async def test_an_undo_that_is_never_done_needs_attention(self) -> None:
        line = await refused_at("one", "one")
        line.script["-one"] = [Later(600)] * 99
        assert (await line.run()).status == "needs_attention"


class TestCancel:
    async def test_before_anybody_works_on_it_there_is_nothing_to_undo(self) -> None:
        line = Line("one", "two")
        await line.begin()
        assert (await line.runner.cancel(TASK, "Ada")).status == "rolling_back"
        done = await line.run()
        assert (done.status, done.error) == ("cancelled", "Cancelled by Ada.")
        assert line.acts == []
        assert (await line.types(SUBJECT))[-1] == "task.cancelled"
        assert (line.ends, line.open_rows()) == (["cancelled"], [])

    async def test_while_it_waits_it_is_undone_in_reverse(self) -> None:
        line = Line("one", "two", "three")
        line.script["two"] = [Later(600)]
        await line.begin()
        await line.runner.handle(line.message())
        await line.runner.cancel(TASK, "Ada")
        line.taken = len(line.queues.sent) - 1
        assert (await line.run()).status == "cancelled"
        assert line.acts == ["one", "two", "-two", "-one"]

    async def test_the_step_under_way_is_ended_and_undone_by_whoever_held_it(self) -> None:
        line = Line("one", "two", lease=0.09)
        entered, ended = asyncio.Event(), asyncio.Event()

        async def hang(_: StepContext) -> Json:
            entered.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()
            return {}

        async def undo(_: StepContext) -> None:
            assert ended.is_set(), "the step was still at work while it was undone"

        line.script |= {"two": [hang], "-two": [undo]}
        message = await line.begin()
        handling = asyncio.create_task(line.runner.handle(message))
        await entered.wait()
        sent = len(line.queues.sent)
        cancelled = await line.another_runner().cancel(TASK, "Ada")
        assert (cancelled.status, len(line.queues.sent)) == ("rolling_back", sent)
        async with asyncio.timeout(2):
            await handling
        assert (await line.task()).status == "cancelled"
        assert line.acts == ["one", "two", "-two", "-one"]
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0

    async def test_a_step_that_was_done_at_that_moment_is_undone_too(self) -> None:
        line = Line("one", "two")

        async def done(_: StepContext) -> Json:
            await line.another_runner().cancel(TASK, "Ada")
            return {}

        line.script["one"] = [done]
        await line.begin()
        assert (await line.run()).status == "cancelled"
        assert line.acts == ["one", "-one"]

    @pytest.mark.parametrize("error", [Unavailable("away"), Conflict("refused"), RuntimeError("boom")])
    async def test_a_step_that_failed_at_that_moment_is_undone_as_cancelled(self, error: Exception) -> None:
        line = Line("one", "two", attempts=1)

        async def fail(_: StepContext) -> Json:
            await line.another_runner().cancel(TASK, "Ada")
            raise error

        line.script["one"] = [fail]
        await line.begin()
        done = await line.run()
        assert (done.status, done.error) == ("cancelled", "Cancelled by Ada.")
        assert line.acts == ["one", "-one"]

    async def test_after_a_crash_of_whoever_held_it_the_watchdog_sees_to_it(self) -> None:
        line = Line("one")
        line.script["one"] = [Crash()]
        await line.begin()
        with pytest.raises(Crash):
            await line.run()
        await line.runner.cancel(TASK, "Ada")
        assert await line.runner.watch() == 0
        line.clock.advance(31)
        assert await line.runner.watch() == 1
        assert (await line.run()).status == "cancelled"

    async def test_one_that_failed_is_undone(self) -> None:
        line = await failed_at("two", "one", "two", "three")
        await line.runner.cancel(TASK, "Ada")
        assert line.open_rows() == [SUBJECT]
        assert (await line.run()).status == "cancelled"
        assert line.acts == ["one", "two", "-two", "-one"]
        assert line.made == []

    async def test_one_whose_undo_failed_is_undone_further(self) -> None:
        line = await refused_at("one", "one", attempts=1)
        line.script["-one"] = [Unavailable("locked")]
        assert (await line.run()).status == "needs_attention"
        await line.runner.cancel(TASK, "Ada")
        assert (await line.run()).status == "cancelled"

    async def test_twice_is_fine(self) -> None:
        line = Line("one")
        line.script["one"] = [Later(600)]
        await line.begin()
        await line.runner.handle(line.message())
        await asyncio.gather(*(line.another_runner().cancel(TASK, name) for name in ("Ada", "Grace")))
        line.taken = len(line.queues.sent) - 1
        assert (await line.run()).status == "cancelled"
        assert (await line.runner.cancel(TASK, "Ada")).status == "cancelled"
        assert line.acts == ["one", "-one"]

    async def test_one_that_is_being_undone_goes_on_so(self) -> None:
        line = await refused_at("one", "one")
        line.script["-one"] = [Later(5)]
        await line.runner.handle(line.message())
        assert (await line.runner.cancel(TASK, "Ada")).status == "rolling_back"
        line.taken = 1
        assert (await line.run()).status == "rolled_back"
        assert (await line.runner.cancel(TASK, "Ada")).status == "rolled_back"

    async def test_one_that_succeeded_is_to_be_deleted_instead(self) -> None:
        line = Line("one")
        await line.begin()
        await line.run()
        with pytest.raises(Conflict, match="Delete the team"):
            await line.runner.cancel(TASK, "Ada")

    async def test_a_deletion_goes_on(self) -> None:
        line = Line("one", undoable=False)
        await line.begin()
        with pytest.raises(Conflict, match="cannot be cancelled"):
            await line.runner.cancel(TASK, "Ada")
        assert (await line.run()).status == "succeeded"

    async def test_a_race_with_the_last_commit_has_one_winner(self) -> None:
        for turns in range(12):
            line = Line("one")
            message = await line.begin()

            async def cancel(line: Line = line, turns: int = turns) -> str:
                for _ in range(turns):
                    await asyncio.sleep(0)
                try:
                    return (await line.another_runner().cancel(TASK, "Ada")).status
                except Conflict:
                    return "refused"

            _, answer = await asyncio.gather(line.runner.handle(message), cancel())
            line.taken = 1
            ended = (await line.run()).status
            assert (ended, answer) in (("succeeded", "refused"), ("cancelled", "rolling_back"))
            assert line.made == (["one"] if ended == "succeeded" else [])


class TestBeginAnew:
    @pytest.mark.parametrize("end", ["rolled_back", "cancelled"])
    async def test_a_retry_of_what_was_undone_begins_anew(self, end: str) -> None:
        line = await refused_at("two", "one", "two")
        if end == "cancelled":
            await line.runner.cancel(TASK, "Ada")
            line.taken = 1
            line.script.clear()
        assert (await line.run()).status == end
        line.acts.clear()
        again = await line.runner.retry(TASK)
        assert (again.status, again.error, {step.status for step in again.steps}) == ("pending", None, {"pending"})
        done = await line.run()
        assert (done.status, line.acts, line.made, line.renewed) == ("succeeded", ["one", "two"], ["one", "two"], 1)
        assert line.seen["one"] == {"seed": 1, "retries": 1}

    async def test_it_is_refused_when_others_have_taken_what_it_needs(self) -> None:
        line = await refused_at("one", "one")
        await line.run()
        line.renewal = Conflict("The name has been taken.")
        with pytest.raises(Conflict, match="has been taken"):
            await line.runner.retry(TASK)
        assert (await line.task()).status == "rolled_back"

    async def test_one_that_is_being_undone_cannot_be_retried_yet(self) -> None:
        line = await refused_at("one", "one")
        line.script["-one"] = [Later(5)]
        await line.runner.handle(line.message())
        with pytest.raises(Conflict, match="being undone"):
            await line.runner.retry(TASK)


class TestCrashWhileUndoing:
    @pytest.mark.parametrize("place", ["before the act", "after the act", "after the commit"])
    @pytest.mark.parametrize("name", ["-two", "-one"])
    async def test_ends_as_if_undisturbed(self, place: str, name: str) -> None:
        line = await refused_at("three", "one", "two", "three")

        async def crash(_: StepContext) -> None:
            line.documents.fail(f"tasks/{TASK}", Crash())

        async def crash_later(_: StepContext) -> None:
            line.documents.fail(f"tasks/{TASK}", Crash(), happens=True)

        line.script[name] = {"before the act": [Crash()], "after the act": [crash], "after the commit": [crash_later]}[
            place
        ]
        with pytest.raises(Crash):
            await line.run()
        line.clock.advance(31)
        await line.runner.watch()
        done = await line.run()
        assert (done.status, line.made) == ("rolled_back", [])
        order = list(dict.fromkeys(act for act in line.acts if act.startswith("-")))
        assert order == ["-three", "-two", "-one"]
