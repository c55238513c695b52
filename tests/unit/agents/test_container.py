import json
from typing import Any

import pytest
from pydantic import ValidationError

from shared.agents.models import AgentComment, AgentEvents, RunCompletion
from shared.boards.models import NewComment
from shared.core.errors import Conflict, NotFound, Unauthenticated
from shared.core.resources import Run
from tests.unit.agents.conftest import Site


def events(*sent: dict[str, Any]) -> AgentEvents:
    at = "2026-01-01T00:00:00Z"
    return AgentEvents.model_validate({"events": [{"id": f"e{n}", "time": at} | one for n, one in enumerate(sent)]})


@pytest.fixture
async def run(site: Site) -> Run:
    return await site.world.started(site.ada, site.board)


class TestAuthenticate:
    async def token(self, site: Site) -> str:
        return site.world.host.specs[-1].env["RUN_TOKEN"]

    async def test_a_container_is_known_by_its_runs_token(self, site: Site, run: Run) -> None:
        await site.world.platform.container.authenticate(run.id, f"Bearer {await self.token(site)}")

    async def test_another_runs_token_finds_nothing(self, site: Site, run: Run) -> None:
        token = await self.token(site)
        other = await site.world.started(site.ada, site.board)
        with pytest.raises(NotFound):
            await site.world.platform.container.authenticate(other.id, f"Bearer {token}")

    @pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer abc", "Bearer a.b.c"])
    async def test_without_a_valid_token_it_is_refused(self, site: Site, run: Run, header: str | None) -> None:
        with pytest.raises(Unauthenticated):
            await site.world.platform.container.authenticate(run.id, header)

    async def test_a_persons_token_is_refused(self, site: Site, run: Run) -> None:
        token = await site.world.platform.tokens.sign("api", run.id, {}, 60)
        with pytest.raises(Unauthenticated):
            await site.world.platform.container.authenticate(run.id, f"Bearer {token}")

    async def test_a_runs_token_does_not_sign_a_person_in(self, site: Site, run: Run) -> None:
        with pytest.raises(Unauthenticated):
            await site.world.platform.auth.principal(f"Bearer {await self.token(site)}")

    @pytest.mark.parametrize("hours", [24, -24])
    async def test_a_clock_that_jumps_leaves_a_run_its_token(self, site: Site, run: Run, hours: int) -> None:
        token = await self.token(site)
        site.world.clock.advance(hours * 3600)
        await site.world.platform.container.authenticate(run.id, f"Bearer {token}")

    async def test_a_token_ends_some_time_after_its_run_must_have(self, site: Site, run: Run) -> None:
        token = await self.token(site)
        site.world.clock.advance(run.limits.seconds + 37 * 3600)
        with pytest.raises(Unauthenticated):
            await site.world.platform.container.authenticate(run.id, f"Bearer {token}")


class TestStart:
    async def test_it_learns_what_to_work_on(self, site: Site) -> None:
        cards = site.world.platform.cards
        card = await site.world.card(
            site.ada, site.board, "Do it", body="Now.", labels=["api"], checklist=[{"text": "test", "done": True}]
        )
        await cards.comment(site.ada, card.id, NewComment(body="Carefully."))
        await site.world.move(site.ada, card.id, "progress")
        await site.world.pump()
        (run,) = await site.world.platform.runs.of_card(site.ada, card.id)
        context = await site.world.platform.container.start(run.id, "box-1")
        assert (context.card.title, context.card.body, context.card.labels) == ("Do it", "Now.", ["api"])
        assert [(item.text, item.done) for item in context.card.checklist] == [("test", True)]
        assert [(comment.author, comment.body) for comment in context.card.comments] == [("Ada", "Carefully.")]
        assert context.repository.full_name == "acme/rockets"
        assert (context.branch, context.previous) == (run.branch, None)
        assert context.limits.turns == run.limits.turns
        assert (await site.run(run.id)).status == "running"

    async def test_starting_again_gives_the_same_and_tells_nobody(self, site: Site, run: Run) -> None:
        first = await site.world.platform.container.start(run.id, "box-1")
        assert await site.world.platform.container.start(run.id, "box-1") == first
        assert (await site.world.types(f"run/{run.id}")).count("agent.started") == 1

    async def test_another_container_is_refused(self, site: Site, run: Run) -> None:
        with pytest.raises(Conflict, match="Another container"):
            await site.world.platform.container.start(run.id, "box-2")

    @pytest.mark.parametrize("ending", ["stopped", "done"])
    async def test_a_run_that_is_over_cannot_be_started(self, site: Site, run: Run, ending: str) -> None:
        if ending == "stopped":
            await site.world.platform.runs.stop(site.ada, run.id)
        else:
            await site.world.succeed(run)
        with pytest.raises(Conflict, match="over"):
            await site.world.platform.container.start(run.id, "box-1")


class TestProgress:
    async def test_what_the_agent_did_is_kept_and_shown(self, site: Site, run: Run) -> None:
        sent = events({"kind": "turn", "turn": 1, "usage": {"input_tokens": 5}}, {"kind": "text", "text": "Hello"})
        answer = await site.world.platform.container.progress(run.id, sent)
        assert (answer.stop, answer.comments) == (False, [])
        told = (await site.world.subject(f"run/{run.id}"))[-2:]
        assert [event["data"]["kind"] for event in told] == ["turn", "text"]
        assert "sha" not in told[0]["data"]
        assert site.world.realtime.messages(f"team.{run.team_id}")[-2:] == told
        assert (await site.run(run.id)).turns == 1

    async def test_telling_it_again_keeps_it_once(self, site: Site, run: Run) -> None:
        before = len(await site.world.subject(f"run/{run.id}"))
        for _ in range(3):
            await site.world.platform.container.progress(run.id, events({"kind": "text", "text": "Hello"}))
        assert len(await site.world.subject(f"run/{run.id}")) == before + 1

    async def test_two_runs_may_use_the_same_event_ids(self, site: Site, run: Run) -> None:
        other = await site.world.started(site.ada, site.board)
        for one in (run, other):
            await site.world.platform.container.progress(one.id, events({"kind": "text", "text": "Hello"}))
            assert (await site.world.types(f"run/{one.id}"))[-1] == "agent.progress"

    async def test_turns_only_grow(self, site: Site, run: Run) -> None:
        for n, turn in enumerate((3, 1)):
            sent = AgentEvents.model_validate(
                {"events": [{"id": f"t{n}", "time": "2026-01-01T00:00:00Z", "kind": "turn", "turn": turn}]}
            )
            await site.world.platform.container.progress(run.id, sent)
        assert (await site.run(run.id)).turns == 3

    async def test_a_run_that_is_over_is_told_to_stop_and_keeps_nothing_more(self, site: Site, run: Run) -> None:
        await site.world.platform.runs.stop(site.ada, run.id)
        before = len(await site.world.subject(f"run/{run.id}"))
        answer = await site.world.platform.container.progress(run.id, events({"kind": "text", "text": "Hello"}))
        assert (answer.stop, answer.comments) == (True, [])
        assert len(await site.world.subject(f"run/{run.id}")) == before

    async def test_when_browsers_cannot_be_reached_nothing_is_lost(self, site: Site, run: Run) -> None:
        site.world.realtime.down = True
        await site.world.platform.container.progress(run.id, events({"kind": "text", "text": "Hello"}))
        assert (await site.world.subject(f"run/{run.id}"))[-1]["data"]["text"] == "Hello"


class TestComments:
    async def new(self, site: Site, run: Run) -> list[tuple[str, str]]:
        answer = await site.world.platform.container.progress(run.id, AgentEvents(events=[]))
        return [(comment.author, comment.body) for comment in answer.comments]

    async def test_each_comment_of_a_person_arrives_once(self, site: Site, run: Run) -> None:
        cards = site.world.platform.cards
        assert await self.new(site, run) == []
        await cards.comment(site.ada, run.card_id, NewComment(body="one"))
        await cards.comment(site.ada, run.card_id, NewComment(body="two"))
        assert await self.new(site, run) == [("Ada", "one"), ("Ada", "two")]
        assert await self.new(site, run) == []
        await cards.comment(site.ada, run.card_id, NewComment(body="three"))
        assert await self.new(site, run) == [("Ada", "three")]

    async def test_those_from_before_it_started_came_with_its_card(self, site: Site) -> None:
        run = await site.moved()
        await site.world.pump()
        await site.world.platform.cards.comment(site.ada, run.card_id, NewComment(body="before"))
        context = await site.world.platform.container.start(run.id, "box-1")
        assert [comment.body for comment in context.card.comments] == ["before"]
        assert await self.new(site, run) == []

    async def test_it_does_not_hear_itself(self, site: Site, run: Run) -> None:
        made = await site.world.platform.container.comment(run.id, AgentComment(body="Which database?"))
        assert (made.author_kind, made.author_name) == ("agent", "Agent")
        assert await self.new(site, run) == []
        card = await site.world.platform.cards.get(site.ada, run.card_id)
        assert card.comment_count == 1
        assert (await site.world.types(f"board/{site.board}"))[-1] == "comment.created"

    async def test_a_run_that_is_over_cannot_comment(self, site: Site, run: Run) -> None:
        await site.world.platform.runs.stop(site.ada, run.id)
        with pytest.raises(Conflict):
            await site.world.platform.container.comment(run.id, AgentComment(body="Wait"))


class TestGitCredentials:
    async def test_they_reach_the_boards_repository_only(self, site: Site, run: Run) -> None:
        credentials = await site.world.platform.container.git_credentials(run.id)
        assert credentials.username == "x-access-token"
        assert credentials.password not in repr(credentials)
        assert site.world.repositories._tokens[credentials.password] == ("acme/rockets", False)

    async def test_a_run_that_is_over_gets_none(self, site: Site, run: Run) -> None:
        await site.world.platform.container.complete(run.id, RunCompletion(outcome="failed", reason="stuck"))
        with pytest.raises(Conflict):
            await site.world.platform.container.git_credentials(run.id)


@pytest.mark.parametrize(
    "usage", [{"tokens": 10**30}, {"text": "\ud800"}, {"nested": json.loads("[" * 300 + "]" * 300)}]
)
def test_what_cannot_be_kept_of_an_activity_is_refused(usage: dict[str, Any]):
    with pytest.raises(ValidationError, match="cannot be kept"):
        AgentEvents.model_validate({"events": [{"id": "1", "time": "", "kind": "turn", "usage": usage}]})


@pytest.mark.parametrize("turns", [-1, 10**30])
def test_a_number_of_turns_that_cannot_be_is_refused(turns: int):
    with pytest.raises(ValidationError):
        RunCompletion(outcome="failed", turns=turns)
    with pytest.raises(ValidationError):
        AgentEvents.model_validate({"events": [{"id": "1", "time": "", "kind": "turn", "turn": turns}]})
