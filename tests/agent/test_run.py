"""One run against a real HTTP API, real git over HTTP and a model that follows a script."""

import asyncio
from pathlib import Path

import pytest

from tests.agent.conftest import Agent
from tests.agent.platform_api import PlatformApi, git, make_repository, push_files
from tests.agent.scripted_model import finish, refused, say, turn, use
from tests.serving import base_url, listening_socket, serve

HELLO = use("create", path="hello.txt", content="hello\n")


class TestSuccess:
    async def test_the_branch_holds_the_commit_and_the_platform_is_told(self, api: PlatformApi, agent: Agent) -> None:
        api.model.turns = [
            turn(say("I look first."), use("view", path=".")),
            turn(HELLO),
            turn(use("bash", command="cat hello.txt && exit 3")),
            turn(use("commit", message="Add a greeting")),
            turn(finish("Added hello.txt.")),
        ]
        assert await agent.run() == 0
        sha = git(api.repository, "rev-parse", api.branch)
        expected = {"outcome": "succeeded", "branch": api.branch, "commit": sha, "turns": 5, "reason": None}
        assert expected.items() <= api.completion.items()
        assert api.completion["summary"] == "Added hello.txt."
        assert git(api.repository, "show", f"{api.branch}:hello.txt") == "hello"
        assert git(api.repository, "log", "-1", "--format=%an <%ae> %s", api.branch) == (
            "Kanban agent <agent@kanban.invalid> Add a greeting"
        )

    async def test_every_step_is_an_event_in_order(self, api: PlatformApi, agent: Agent) -> None:
        api.model.turns = [turn(say("Now."), HELLO), turn(use("commit", message="Add it")), turn(finish())]
        await agent.run()
        assert [event["kind"] for event in api.events] == [
            "status", "status",
            "text", "turn", "tool_use", "tool_result",
            "turn", "tool_use", "commit", "tool_result",
            "turn", "tool_use", "tool_result",
            "status", "push",
        ]  # fmt: skip
        use_event, result = api.of_kind("tool_use")[0], api.of_kind("tool_result")[0]
        assert use_event["tool_use_id"] == result["tool_use_id"] == "toolu_1_1"
        assert use_event["input"] == {"path": "hello.txt", "content": "hello\n"}
        assert result["is_error"] is False
        assert isinstance(result["duration_ms"], int)
        assert api.of_kind("turn")[0]["usage"]["input_tokens"] == 100
        assert api.of_kind("commit")[0]["files"] == ["A hello.txt"]
        assert api.of_kind("push")[0]["sha"] == api.completion["commit"]

    async def test_what_was_not_committed_is_committed_under_the_cards_title(
        self, api: PlatformApi, agent: Agent
    ) -> None:
        api.model.turns = [turn(HELLO), turn(finish())]
        assert await agent.run() == 0
        assert git(api.repository, "log", "-1", "--format=%s", api.branch) == "Greet"

    async def test_what_tools_leave_behind_is_not_committed(self, api: PlatformApi, agent: Agent) -> None:
        leave = "mkdir -p pkg/__pycache__ node_modules/x && touch pkg/__pycache__/a.pyc node_modules/x/i.js pkg/new.py"
        api.model.turns = [turn(use("bash", command=leave)), turn(use("commit", message="Add it")), turn(finish())]
        assert await agent.run() == 0
        assert api.of_kind("commit")[0]["files"] == ["A pkg/new.py"]

    async def test_a_branch_that_is_there_is_continued(self, api: PlatformApi, agent: Agent) -> None:
        before = push_files(api.repository, api.branch, {"earlier.txt": "x\n"}, start="origin/main")
        api.previous = {"reason": "Stopped after 60 turns."}
        api.model.turns = [turn(HELLO), turn(finish())]
        assert await agent.run() == 0
        assert git(api.repository, "rev-parse", f"{api.branch}~1") == before
        assert "earlier work" in str(api.model.requests[0]["system"])
        assert "Stopped after 60 turns." in str(api.model.requests[0]["messages"][0])

    async def test_what_others_pushed_meanwhile_is_kept(self, api: PlatformApi, agent: Agent) -> None:
        async def somebody_pushes() -> None:
            await asyncio.to_thread(push_files, api.repository, api.branch, {"theirs.txt": "x\n"}, "origin/main")

        api.before_push = somebody_pushes
        api.model.turns = [turn(HELLO), turn(finish())]
        assert await agent.run() == 0
        listing = git(api.repository, "ls-tree", "--name-only", api.branch).split()
        assert {"hello.txt", "theirs.txt"} <= set(listing)
        assert api.completion["commit"] == git(api.repository, "rev-parse", api.branch)

    async def test_an_empty_repository_gets_its_first_commit(self, api: PlatformApi, agent: Agent) -> None:
        git(api.repository, "update-ref", "-d", "refs/heads/main")
        api.model.turns = [turn(HELLO), turn(finish())]
        assert await agent.run() == 0
        assert git(api.repository, "rev-list", "--count", api.branch) == "1"

    async def test_the_first_message_holds_card_and_comments(self, api: PlatformApi, agent: Agent) -> None:
        api.card |= {
            "labels": ["copy"],
            "checklist": [{"text": "greet", "done": False}],
            "comments": [{"author": 'Ada "A"', "body": "In English.</comment>", "created_at": ""}],
        }
        api.model.turns = [turn(HELLO), turn(finish())]
        await agent.run()
        first = api.model.requests[0]["messages"][0]["content"]
        text = first if isinstance(first, str) else first[0]["text"]
        assert text.startswith("<card>\n# Greet\n\nSay hello in hello.txt.\n</card>")
        assert '<comment author="Ada &quot;A&quot;">\nIn English.<\\/comment>\n</comment>' in text
        assert "- [ ] greet" in text


class TestFailure:
    async def test_no_change_is_a_failure(self, api: PlatformApi, agent: Agent) -> None:
        api.model.turns = [turn(finish("Nothing to do."))]
        assert await agent.run() == 1
        assert api.completion["reason"] == "The agent made no change."
        assert api.completion["summary"] == "Nothing to do."
        assert "refs/heads/kanban" not in git(api.repository, "for-each-ref")

    async def test_blocked_fails_with_the_agents_reason_and_keeps_its_commits(
        self, api: PlatformApi, agent: Agent
    ) -> None:
        api.model.turns = [turn(HELLO), turn(use("commit", message="Half")), turn(finish("No design.", "blocked"))]
        assert await agent.run() == 1
        assert api.completion["outcome"] == "failed"
        assert api.completion["reason"] == "No design."
        assert git(api.repository, "log", "-1", "--format=%s", api.branch) == "Half"

    async def test_an_endless_reason_is_cut(self, api: PlatformApi, agent: Agent) -> None:
        api.model.turns = [turn(finish("so " * 20_000, "blocked"))]
        assert await agent.run() == 1
        assert len(api.completion["reason"]) < 2_000
        assert len(api.completion["summary"]) < 16_000

    async def test_turn_limit(self, api: PlatformApi, agent: Agent) -> None:
        api.limits["turns"] = 2
        api.model.turns = [turn(use("view", path=".")) for _ in range(3)]
        assert await agent.run() == 1
        assert api.completion["reason"] == "Stopped after 2 turns, the limit of this run."
        assert len(api.model.requests) == 2

    async def test_token_limit(self, api: PlatformApi, agent: Agent) -> None:
        api.limits["tokens"] = 200
        api.model.turns = [turn(use("view", path="."), output_tokens=50) for _ in range(3)]
        await agent.run()
        assert api.completion["reason"] == "Stopped after 300 tokens; the limit of this run is 200."

    async def test_time_limit_also_ends_a_command(self, api: PlatformApi, agent: Agent) -> None:
        api.limits["seconds"] = 3
        api.model.turns = [turn(use("bash", command="sleep 60"))]
        started = asyncio.get_running_loop().time()
        await agent.run()
        assert api.completion["reason"] == "Stopped after 3 seconds, the time limit of this run."
        assert asyncio.get_running_loop().time() - started < 20

    async def test_a_time_limit_that_ends_before_the_clone(self, api: PlatformApi, agent: Agent) -> None:
        api.limits["seconds"] = 0
        await agent.run()
        assert api.completion["reason"] == "Stopped after 0 seconds, the time limit of this run."

    async def test_spend_cap_speaks_with_the_gateways_words(self, api: PlatformApi, agent: Agent) -> None:
        api.model.turns = [refused(402, "The run reached its spend cap of $5.00.")]
        await agent.run()
        assert api.completion["reason"] == "The run reached its spend cap of $5.00."

    async def test_a_model_that_is_not_there_is_named(self, api: PlatformApi, agent: Agent) -> None:
        api.model.turns = [refused(404, "model: scripted-1")]
        await agent.run()
        assert api.completion["reason"] == "The model is not available: model: scripted-1"

    async def test_a_model_that_never_finishes_is_asked_twice(self, api: PlatformApi, agent: Agent) -> None:
        api.model.turns = [turn(say("Done!")) for _ in range(5)]
        await agent.run()
        assert len(api.model.requests) == 3
        assert "without calling `finish`" in str(api.model.requests[1]["messages"][-1])
        assert api.completion["reason"] == "The model stopped without saying whether the card is done."

    async def test_a_repository_that_cannot_be_cloned(self, api: PlatformApi, agent: Agent) -> None:
        api.repository.rename(api.repository.with_suffix(".gone"))
        await agent.run()
        assert api.completion["reason"].startswith("The repository could not be cloned:")

    async def test_a_run_of_another_container_is_left_alone(self, api: PlatformApi, agent: Agent) -> None:
        api.taken = True
        assert await agent.run() == 3
        assert not api.completions


class TestPeople:
    async def test_a_comment_reaches_the_next_turn(self, api: PlatformApi, agent: Agent) -> None:
        api.human_comments = [{"author": "Ada", "body": "Say it in French.", "created_at": ""}]
        api.model.turns = [turn(use("bash", command="sleep 1")), turn(HELLO), turn(finish())]
        assert await agent.run() == 0
        results = api.model.requests[1]["messages"][-1]["content"]
        assert [block["type"] for block in results] == ["tool_result", "text"]
        assert results[1]["text"] == '<comment author="Ada">\nSay it in French.\n</comment>'
        assert len(api.of_kind("tool_use")) == 3

    async def test_the_agent_comments_on_the_card(self, api: PlatformApi, agent: Agent) -> None:
        api.model.turns = [turn(HELLO, use("comment", body="Which **tone**?")), turn(finish())]
        await agent.run()
        assert api.comments == ["Which **tone**?"]

    async def test_stopped_by_a_person(self, api: PlatformApi, agent: Agent) -> None:
        api.model.turns = [turn(use("bash", command="sleep 60"))]
        running = asyncio.create_task(agent.run())
        while not api.of_kind("tool_use"):
            await asyncio.sleep(0.05)
        api.stop = True
        assert await asyncio.wait_for(running, 15) == 1
        assert api.completion["reason"] == "Stopped by a person."


class TestTrouble:
    async def test_a_restarting_platform_is_waited_for(self, api: PlatformApi, agent: Agent) -> None:
        api.failures = 4
        api.model.turns = [turn(HELLO), turn(finish())]
        assert await agent.run() == 0

    async def test_a_platform_that_crashes_mid_way_is_waited_for(self, tmp_path: Path) -> None:
        api = PlatformApi(tmp_path / "repositories")
        make_repository(api.repository, files={"README.md": "# Site\n"})
        agent = Agent(api, tmp_path / "home")
        agent.home.mkdir()
        sock = listening_socket()
        port, api.base_url = sock.getsockname()[1], base_url(sock)
        api.model.turns = [turn(use("bash", command="sleep 2")), turn(HELLO), turn(finish())]
        async with serve(api.app(), sock):
            running = asyncio.create_task(agent.run())
            while not api.of_kind("tool_use"):
                await asyncio.sleep(0.02)
        await asyncio.sleep(3)
        assert not running.done()
        async with serve(api.app(), listening_socket(port=port)):
            assert await asyncio.wait_for(running, 60) == 0
        assert len(api.of_kind("tool_result")) == 3

    async def test_a_broken_stream_repeats_the_turn(self, api: PlatformApi, agent: Agent) -> None:
        api.model.turns = [turn(HELLO), turn(say("..."), breaks=True), refused(529, "busy"), turn(finish())]
        assert await agent.run() == 0
        assert len(api.of_kind("turn")) == 2

    async def test_a_repeated_turn_is_heard_once(self, api: PlatformApi, agent: Agent) -> None:
        api.model.turns = [turn(HELLO, say("Half")), turn(say("Now"), HELLO, breaks=True), turn(say("Now"), finish())]
        assert await agent.run() == 0
        assert [event["text"] for event in api.events if event["kind"] == "text"] == ["Half", "Now"]

    async def test_a_reply_cut_off_goes_on(self, api: PlatformApi, agent: Agent) -> None:
        cut = turn(say("First"), use("bash", command="touch never"), stop_reason="max_tokens")
        api.model.turns = [cut, turn(HELLO), turn(finish())]
        assert await agent.run() == 0
        assert not (agent.checkout / "never").exists()
        assert "cut off" in str(api.model.requests[1]["messages"][-1])

    @pytest.mark.filterwarnings("ignore:Tool 'fly' not found")
    async def test_mistakes_of_the_model_are_explained_to_it(self, api: PlatformApi, agent: Agent) -> None:
        api.model.turns = [
            turn(use("replace", path="README.md", old="nope", new="x"), use("view"), use("fly", to="moon")),
            turn(HELLO),
            turn(finish()),
        ]
        assert await agent.run() == 0
        results = api.model.requests[1]["messages"][-1]["content"]
        assert all(block["is_error"] for block in results)
        assert "does not occur in README.md" in str(results[0])
        assert "path" in str(results[1])
        assert len(api.of_kind("tool_result")) == 5
