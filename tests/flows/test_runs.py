"""Agents at work: a card is moved, an agent does what it says, and everybody can follow, stop and retry it."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from local.cloud import LocalCloud
from tests.flows import jobs
from tests.flows.world import (
    Json,
    Person,
    bare_repository,
    board_of,
    events_of,
    events_to_end,
    finished_run,
    git,
    join,
    make_card,
    make_workspace,
    move,
    run_card,
    run_in,
    runs_of,
    started_cloud,
)
from tests.waiting import until

HELLO = """Say hello.

1. Create `hello/{name}.txt`:

   ```
   Hello, {name}
   ```

2. Run: `test -f hello/{name}.txt`
"""
SLOW = "Run: `sleep 60`"


@pytest.fixture(scope="module")
async def desk(ada: Person) -> Json:
    """A workspace for runs."""
    return await make_workspace(ada, "Desk")


@pytest.fixture(scope="module")
async def watched(ada: Person, desk: Json) -> tuple[Json, Json, list[Json]]:
    """A card, its run, which is over, and the events that the team saw live."""
    async with ada.watching() as socket:
        card, run = await run_card(ada, desk["board_id"], "Greet people", HELLO.format(name="people"))
        run = await finished_run(ada, run["id"])

        async def all_seen() -> bool:
            told = [message["data"] for message in socket.messages]
            seen = {event["sequence"] for event in told if event["subject"] == f"run/{run['id']}"}
            moved = [e for e in told if e["type"] == "card.moved" and e["data"]["card"]["id"] == card["id"]]
            return len(moved) == 2 and len(seen) >= len(await events_to_end(ada, f"runs/{run['id']}"))

        await until(all_seen)
        return card, run, [message["data"] for message in socket.messages]


@pytest.fixture(scope="module")
def done(watched: tuple[Json, Json, list[Json]]) -> tuple[Json, Json]:
    """A card and its run, which succeeded."""
    card, run, _ = watched
    return card, run


async def _usage(person: Person, run_id: str) -> Json:
    async def counted() -> Json | None:
        run = await person.get(f"/api/runs/{run_id}")
        return run["usage"] if run["usage"]["requests"] else None

    return await until(counted, within=10)


async def _event(person: Person, run_id: str, **wanted: Any) -> Json:
    """The first progress event that fits."""

    async def there() -> Json | None:
        items = (await person.get(f"/api/runs/{run_id}/events"))["items"]
        return next((e for e in items if all(e["data"].get(name) == value for name, value in wanted.items())), None)

    return await until(there, within=30)


class TestRun:
    async def test_hands_the_card_back_for_review_with_its_result(self, ada: Person, done: tuple[Json, Json]):
        card, run = done
        assert run["status"] == "succeeded", run["reason"]
        assert (run["attempt"], run["demo_model"], run["model"]) == (1, True, "demo-1")
        assert run["started_by"] == "Ada Developer"
        assert run["created_at"] <= run["started_at"] <= run["finished_at"]
        assert run["summary"]
        after = await ada.get(f"/api/cards/{card['id']}")
        assert after["column_id"] == "review"
        assert after["run"] == {"id": run["id"], "status": "succeeded", "pull_request": "open"}
        assert after["result"] == run["result"]
        assert (run["result"]["files_changed"], run["result"]["additions"], run["result"]["commits"]) == (1, 1, 1)
        assert len(await runs_of(ada, card["id"])) == 1

    async def test_its_branch_holds_the_commit(self, desk: Json, done: tuple[Json, Json], cloud: LocalCloud):
        _, run = done
        bare, branch = bare_repository(cloud, desk), run["result"]["branch"]
        assert branch == run["branch"]
        assert git(bare, "rev-parse", f"refs/heads/{branch}") == run["result"]["commit"]
        assert git(bare, "show", f"{branch}:hello/people.txt") == "Hello, people"
        assert git(bare, "log", "-1", "--format=%s", branch) == "Greet people"
        assert git(bare, "rev-list", "--count", f"main..{branch}") == "1"

    async def test_tells_its_life_in_order(self, ada: Person, done: tuple[Json, Json]):
        _, run = done
        await _usage(ada, run["id"])
        events = await events_of(ada, f"runs/{run['id']}")
        life = [event["type"] for event in events if event["type"] not in ("agent.progress", "usage.recorded")]
        assert life == ["agent.queued", "agent.starting", "agent.started", "agent.completed"]
        statuses = [event["data"]["run"]["status"] for event in events if "run" in event["data"]]
        assert statuses == ["queued", "starting", "running", "succeeded"]
        kinds = [event["data"]["kind"] for event in events if event["type"] == "agent.progress"]
        assert {"status", "turn", "text", "tool_use", "tool_result", "commit", "push"} == set(kinds)
        used = [e["data"]["tool_use_id"] for e in events if e["data"].get("kind") == "tool_use"]
        answered = [e["data"]["tool_use_id"] for e in events if e["data"].get("kind") == "tool_result"]
        assert answered == [one for one in used if one in answered]
        assert {e["subject"] for e in events} == {f"run/{run['id']}"}

    async def test_is_seen_live_by_the_team(self, ada: Person, watched: tuple[Json, Json, list[Json]]):
        card, run, live = watched
        told = [event for event in live if event["subject"] == f"run/{run['id']}"]
        kept = {event["sequence"]: event["id"] for event in await events_of(ada, f"runs/{run['id']}")}
        assert sorted(event["sequence"] for event in told) == list(range(1, len(told) + 1))
        assert all(event["id"] == kept[event["sequence"]] for event in told)
        assert "agent.completed" in [event["type"] for event in told]
        mine = [e for e in live if e["type"] == "card.moved" and e["data"]["card"]["id"] == card["id"]]
        assert [event["data"]["card"]["column_id"] for event in mine] == ["progress", "review"]

    async def test_its_diff_can_be_read(self, ada: Person, done: tuple[Json, Json]):
        files = (await ada.get(f"/api/runs/{done[1]['id']}/diff"))["files"]
        assert [(file["path"], file["status"], file["additions"]) for file in files] == [
            ("hello/people.txt", "added", 1)
        ]
        assert "+Hello, people" in files[0]["patch"]

    async def test_its_usage_counts_for_run_card_and_team(self, ada: Person, desk: Json, done: tuple[Json, Json]):
        card, run = done
        usage = await _usage(ada, run["id"])
        assert usage["output_tokens"] > 0
        assert usage["cost_usd"] > 0
        team = await ada.get(f"/api/teams/{desk['team_id']}/usage")
        mine = next(item for item in team["runs"] if item["run_id"] == run["id"])
        assert mine["card_id"] == card["id"]
        assert mine["usage"]["output_tokens"] > 0
        assert team["total"]["output_tokens"] >= mine["usage"]["output_tokens"]
        assert sum(day["usage"]["requests"] for day in team["days"]) == team["total"]["requests"]

    async def test_its_history_says_who_moved_the_card(self, ada: Person, done: tuple[Json, Json]):
        history = (await ada.get(f"/api/cards/{done[0]['id']}/history"))["items"]
        assert [(entry["text"], entry["by_kind"]) for entry in history] == [
            ("moved it from In Progress to Review", "agent"),
            ("moved it from Backlog to In Progress", "user"),
            ("created the card", "user"),
        ]

    async def test_strangers_see_nothing_of_it(self, grace: Person, done: tuple[Json, Json]):
        for path in ("", "/events", "/diff"):
            assert (await grace.refused("GET", f"/api/runs/{done[1]['id']}{path}"))["status"] == 404
        for action in ("stop", "retry"):
            assert (await grace.refused("POST", f"/api/runs/{done[1]['id']}/{action}"))["status"] == 404

    async def test_one_that_is_over_can_neither_be_stopped_nor_retried_from_review(
        self, ada: Person, done: tuple[Json, Json]
    ):
        run = done[1]
        assert (await ada.post(f"/api/runs/{run['id']}/stop"))["status"] == "succeeded"
        refused = await ada.refused("POST", f"/api/runs/{run['id']}/retry")
        assert refused["status"] == 409

    async def test_a_second_card_of_the_same_title_has_a_branch_of_its_own(self, ada: Person, desk: Json):
        made = [await make_card(ada, desk["board_id"], "Twins", HELLO.format(name="twin")) for _ in range(2)]
        for card in made:
            await move(ada, card["id"], "progress")
        branches = set()
        for card in made:
            run = await until(lambda card=card: _first(ada, card["id"]))
            branches.add(run["branch"])
            await ada.post(f"/api/runs/{run['id']}/stop")
        assert len(branches) == 2


async def _first(person: Person, card_id: str) -> Json | None:
    runs = await runs_of(person, card_id)
    return runs[0] if runs else None


@pytest.fixture(scope="module")
async def failed(ada: Person, desk: Json) -> tuple[Json, Json]:
    """A card that no agent can carry out, and its run."""
    card, run = await run_card(ada, desk["board_id"], "Dream", "Make everything better, please.")
    return card, await finished_run(ada, run["id"])


class TestFailedRun:
    async def test_says_why_and_leaves_the_card_where_it_is(self, ada: Person, failed: tuple[Json, Json]):
        card, run = failed
        assert run["status"] == "failed"
        assert "instruction" in run["reason"]
        assert run["result"] is None
        after = await ada.get(f"/api/cards/{card['id']}")
        assert after["column_id"] == "progress"
        assert after["run"] == {"id": run["id"], "status": "failed", "pull_request": None}
        events = await events_to_end(ada, f"runs/{run['id']}")
        told = next(event for event in events if event["type"] == "agent.failed")
        assert told["data"]["run"]["reason"] == run["reason"]
        assert (await ada.refused("GET", f"/api/runs/{run['id']}/diff"))["status"] == 404

    async def test_can_be_retried_once_the_card_is_put_right(self, ada: Person, failed: tuple[Json, Json]):
        card, run = failed
        await ada.patch(f"/api/cards/{card['id']}", {"body": HELLO.format(name="dreamer")})
        answers = await asyncio.gather(*(ada.request("POST", f"/api/runs/{run['id']}/retry") for _ in range(3)))
        assert sorted(answer.status_code for answer in answers) == [202, 409, 409]
        retried = next(answer.json() for answer in answers if answer.status_code == 202)
        assert (retried["attempt"], retried["branch"]) == (2, run["branch"])
        again = await finished_run(ada, retried["id"])
        assert again["status"] == "succeeded", again["reason"]
        assert (await ada.get(f"/api/cards/{card['id']}"))["column_id"] == "review"
        assert [r["attempt"] for r in await runs_of(ada, card["id"])] == [2, 1]

    async def test_names_the_command_that_failed(self, ada: Person, desk: Json):
        _, run = await run_card(ada, desk["board_id"], "Break", "Run: `echo no luck; exit 3`")
        ended = await finished_run(ada, run["id"])
        assert ended["status"] == "failed"
        assert "3" in ended["reason"]
        assert "no luck" in ended["reason"]


@dataclass(frozen=True)
class LongRun:
    """A run that was stopped in the middle of a long command, and what people were told before."""

    card: Json
    running: Json
    refused: dict[str, Json]
    runs: int
    seen_by_viewer: Json
    stopped: Json


@pytest.fixture(scope="module")
async def long_run(ada: Person, bob: Person, desk: Json, cloud: LocalCloud) -> LongRun:
    card, run = await run_card(ada, desk["board_id"], "Take long", SLOW)

    async def sleeps() -> bool:
        return any("sleep" in line for line in jobs.command_lines(cloud, run["id"]))

    await until(sleeps)
    running, stop = await ada.get(f"/api/runs/{run['id']}"), f"/api/runs/{run['id']}/stop"
    await move(ada, card["id"], "ready")
    await join(ada, desk["team_id"], bob, "viewer")
    refused = {
        "start": await ada.refused("POST", f"/api/cards/{card['id']}/move", {"column_id": "progress"}),
        "delete": await ada.refused("DELETE", f"/api/cards/{card['id']}"),
        "retry": await ada.refused("POST", f"/api/runs/{run['id']}/retry"),
        "stop by a viewer": await bob.refused("POST", stop),
    }
    return LongRun(
        card=card,
        running=running,
        refused=refused,
        runs=len(await runs_of(ada, card["id"])),
        seen_by_viewer=await bob.get(f"/api/runs/{run['id']}"),
        stopped=await ada.post(stop),
    )


class TestWhileItRuns:
    async def test_the_card_cannot_start_another_nor_be_deleted(self, long_run: LongRun):
        assert long_run.running["status"] == "running"
        assert [long_run.refused[what]["status"] for what in ("start", "delete", "retry")] == [409] * 3
        assert "still working" in long_run.refused["start"]["detail"]
        assert long_run.runs == 1

    async def test_a_viewer_cannot_stop_it(self, long_run: LongRun):
        assert long_run.refused["stop by a viewer"]["status"] == 403
        assert long_run.seen_by_viewer["status"] == "running"

    async def test_stop_ends_it_and_its_processes_within_seconds(
        self, ada: Person, long_run: LongRun, cloud: LocalCloud
    ):
        run, stopped = long_run.running, long_run.stopped
        assert (stopped["status"], stopped["reason"]) == ("cancelled", "Stopped by Ada Developer.")

        async def gone() -> bool:
            return not jobs.processes(cloud, run["id"])

        await until(gone, within=15)  # a look at the queue, 6 s of grace for what will not end, and the commits
        assert (await ada.get(f"/api/runs/{run['id']}"))["status"] == "cancelled"
        after = await ada.get(f"/api/cards/{long_run.card['id']}")
        assert (after["column_id"], after["run"]["status"]) == ("ready", "cancelled")
        assert (await events_of(ada, f"runs/{run['id']}"))[-1]["type"] in ("agent.cancelled", "usage.recorded")

    async def test_a_comment_reaches_the_agent_at_work(self, ada: Person, desk: Json, cloud: LocalCloud):
        body = HELLO.format(name="first") + "\n3. Run: `sleep 15`\n"
        card, run = await run_card(ada, desk["board_id"], "Listen", body)
        await _event(ada, run["id"], kind="tool_use", name="bash", input={"command": "sleep 15"})
        await ada.post(f"/api/cards/{card['id']}/comments", {"body": "Create `late.txt`:\n\n```\nAlso this\n```\n"})
        ended = await finished_run(ada, run["id"])
        assert ended["status"] == "succeeded", ended["reason"]
        bare = bare_repository(cloud, desk)
        assert git(bare, "show", f"{ended['branch']}:late.txt") == "Also this"


class TestMoveCard:
    async def test_into_a_start_column_starts_one_run(self, ada: Person, bob: Person, desk: Json):
        card = await make_card(ada, desk["board_id"], "Impatient", SLOW)
        body = {"column_id": "progress", "expected_column": "backlog"}
        answers = await asyncio.gather(
            *(ada.request("POST", f"/api/cards/{card['id']}/move", json=body) for _ in range(4))
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
        run = await until(lambda: _first(ada, card["id"]))
        await run_in(ada, run["id"], "running")
        assert len(await runs_of(ada, card["id"])) == 1
        await ada.post(f"/api/runs/{run['id']}/stop")

    async def test_back_and_forth_before_the_agent_came_starts_one_at_a_time(self, ada: Person, desk: Json):
        card = await make_card(ada, desk["board_id"], "Undecided", SLOW)
        for column in ("progress", "backlog", "progress"):
            await ada.request("POST", f"/api/cards/{card['id']}/move", json={"column_id": column})
        await until(lambda: _first(ada, card["id"]))
        await asyncio.sleep(2)
        active = [r for r in await runs_of(ada, card["id"]) if r["status"] in ("queued", "starting", "running")]
        assert len(active) == 1
        path = f"/api/teams/{desk['team_id']}/stop-agents"
        assert (await ada.post(path))["stopped"] >= 1
        assert {run["status"] for run in await runs_of(ada, card["id"])} == {"cancelled"}
        assert await ada.post(path) == {"stopped": 0}

    async def test_out_again_at_once_starts_nothing(self, ada: Person, desk: Json):
        card = await make_card(ada, desk["board_id"], "Slipped", SLOW)
        await move(ada, card["id"], "progress")
        await move(ada, card["id"], "backlog")
        await asyncio.sleep(2)
        active = [r for r in await runs_of(ada, card["id"]) if r["status"] in ("queued", "starting", "running")]
        if (await ada.get(f"/api/cards/{card['id']}"))["run"] is None:
            assert active == []
        await ada.post(f"/api/teams/{desk['team_id']}/stop-agents")

    async def test_by_a_viewer_starts_nothing(self, ada: Person, bob: Person, desk: Json):
        await join(ada, desk["team_id"], bob, "viewer")
        card = await make_card(ada, desk["board_id"], "Not theirs", SLOW)
        assert (await bob.refused("POST", f"/api/cards/{card['id']}/move", {"column_id": "progress"}))["status"] == 403
        assert await runs_of(ada, card["id"]) == []

    async def test_a_card_cannot_be_made_in_a_start_column(self, ada: Person, desk: Json):
        body = {"title": "Shortcut", "column_id": "progress"}
        assert (await ada.refused("POST", f"/api/boards/{desk['board_id']}/cards", body))["status"] == 409
        assert (await board_of(ada, desk["board_id"]))["agents"]["enabled"] is True


async def held_run(ada: Person, desk: Json, cloud: LocalCloud) -> tuple[str, Json]:
    """The token that a run's container was given, read from its process, and the run, which goes on for a minute."""
    _, run = await run_card(ada, desk["board_id"], "Held", SLOW)
    await _event(ada, run["id"], kind="tool_use", name="bash")
    found = jobs.token(cloud, run["id"])
    assert found, "no process of the job has a run token"
    return found, run


@pytest.fixture(scope="module")
async def token(ada: Person, desk: Json, cloud: LocalCloud) -> tuple[str, Json]:
    return await held_run(ada, desk, cloud)


class TestRunToken:
    async def test_opens_its_own_run_and_nothing_else(
        self, ada: Person, cloud: LocalCloud, token: tuple[str, Json], done: tuple[Json, Json]
    ):
        secret, run = token
        headers = {"authorization": f"Bearer {secret}"}
        async with Person(cloud) as container:
            own = await container.request("POST", f"/api/runs/{run['id']}/events", json={"events": []}, headers=headers)
            assert own.json() == {"stop": False, "comments": []}
            other = await container.refused("POST", f"/api/runs/{done[1]['id']}/events", {"events": []}, **headers)
            assert other["status"] == 404
            for path in ("/api/auth/me", "/api/teams", f"/api/runs/{run['id']}", f"/api/cards/{run['card_id']}"):
                assert (await container.refused("GET", path, **headers))["status"] == 401, path

    async def test_a_persons_token_is_none(self, ada: Person, token: tuple[str, Json]):
        run = token[1]
        for action, body in (("start", {}), ("events", {"events": []}), ("git-credentials", {})):
            assert (await ada.refused("POST", f"/api/runs/{run['id']}/{action}", body))["status"] == 401
        complete = {"outcome": "succeeded", "commit": "0" * 40}
        assert (await ada.refused("POST", f"/api/runs/{run['id']}/complete", complete))["status"] == 401
        models = await ada.request("GET", "/api/v1/models")
        assert models.status_code == 401

    async def test_a_claim_of_success_without_the_commit_is_a_failure(self, ada: Person, desk: Json, cloud: LocalCloud):
        secret, run = await held_run(ada, desk, cloud)
        headers = {"authorization": f"Bearer {secret}"}
        body = {"outcome": "succeeded", "commit": "0" * 40, "turns": 1}
        async with Person(cloud) as container:
            answer = await container.request("POST", f"/api/runs/{run['id']}/complete", json=body, headers=headers)
            assert answer.json()["status"] == "failed"
            assert "does not hold its commit" in answer.json()["reason"]
            again = await container.request("POST", f"/api/runs/{run['id']}/complete", json=body, headers=headers)
            assert again.json()["status"] == "failed"
            late = await container.refused("POST", f"/api/runs/{run['id']}/git-credentials", {}, **headers)
            assert late["status"] == 409
            told = await container.request(
                "POST", f"/api/runs/{run['id']}/events", json={"events": []}, headers=headers
            )
            assert told.json()["stop"] is True


class TestTimeLimit:
    async def test_ends_the_run_and_is_named(self, cloud_parts: None, tmp_path: Any):
        async with (
            started_cloud(tmp_path / "brief", RUN_TIME_LIMIT="8") as brief,
            Person.signed_in(brief, "ada@contoso.test") as person,
        ):
            made = await make_workspace(person, "Hasty")
            card, run = await run_card(person, made["board_id"], "Take long", SLOW)
            ended = await finished_run(person, run["id"])
            assert ended["status"] == "failed"
            assert "8 s" in ended["reason"]
            assert (await person.get(f"/api/cards/{card['id']}"))["column_id"] == "progress"


class TestSpendCap:
    async def test_ends_the_run_and_is_named(self, cloud_parts: None, tmp_path: Any):
        async with (
            started_cloud(tmp_path / "small", RUN_SPEND_CAP_USD="0.0005") as small,
            Person.signed_in(small, "ada@contoso.test") as person,
        ):
            made = await make_workspace(person, "Thrifty")
            body = "\n".join(HELLO.format(name=f"n{number}") for number in range(6))
            card, run = await run_card(person, made["board_id"], "Expensive", body)
            ended = await finished_run(person, run["id"])
            assert ended["status"] == "failed"
            assert "$0.0005" in ended["reason"]
            assert ended["limits"]["spend_cap_usd"] == 0.0005
            assert (await _usage(person, run["id"]))["cost_usd"] < 0.002
            assert (await person.get(f"/api/cards/{card['id']}"))["column_id"] == "progress"
