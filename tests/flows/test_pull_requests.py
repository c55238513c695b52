"""From a card to a merge: an agent's run opens a pull request, a person merges it, the board and the report know."""

import hashlib
import hmac
import uuid
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import orjson
import pytest

from local.cloud import LocalCloud
from tests.flows.github import GitHub
from tests.flows.world import (
    Json,
    Person,
    bare_repository,
    events_of,
    finished_run,
    git,
    make_workspace,
    move,
    problem,
    run_card,
    started_run,
)
from tests.waiting import until

HELLO = "Say hello.\n\nCreate `{name}.txt`:\n\n```\nHello, {name}\n```\n"


@pytest.fixture(scope="module")
async def github(cloud: LocalCloud) -> AsyncGenerator[GitHub]:
    async with GitHub.of(cloud) as github:
        yield github


@pytest.fixture(scope="module")
async def place(ada: Person) -> Json:
    return await make_workspace(ada, "Pulled")


@pytest.fixture(scope="module")
async def opened(ada: Person, place: Json) -> tuple[Json, Json]:
    """A card, and its finished run."""
    card, run = await run_card(ada, place["board_id"], "Greet people", HELLO.format(name="people"))
    return card, await finished_run(ada, run["id"])


@pytest.fixture(scope="module")
async def merged(ada: Person, place: Json, opened: tuple[Json, Json], github: GitHub) -> Json:
    """The card, merged at GitHub."""
    number = opened[1]["result"]["pull_request"]["number"]
    await github.merge(place["repository"]["full_name"], number)

    async def shown() -> Json | None:
        card = await ada.get(f"/api/cards/{opened[0]['id']}")
        return card if card["run"]["pull_request"] == "merged" else None

    return await until(shown, within=10)


async def outcomes(person: Person, **asked: str) -> Json:
    return (await person.get("/api/usage", **asked))["outcomes"]


class TestPullRequest:
    async def test_is_opened_by_a_run_that_succeeds(
        self, ada: Person, place: Json, opened: tuple[Json, Json], github: GitHub
    ):
        card, run = opened
        assert run["status"] == "succeeded", run["reason"]
        pull_request = run["result"]["pull_request"]
        found = await github.pull_request(place["repository"]["full_name"], pull_request["number"])
        assert found["html_url"] == pull_request["html_url"]
        assert (found["title"], found["head"]["ref"], found["base"]["ref"]) == ("Greet people", run["branch"], "main")
        assert found["head"]["sha"] == run["result"]["commit"]
        assert f"{ada.cloud.web_url}/boards/{place['board_id']}/cards/{card['id']}" in found["body"]
        assert run["summary"] in found["body"]

    async def test_is_shown_with_the_card_in_review(self, ada: Person, opened: tuple[Json, Json]):
        async def handed_back() -> Json | None:
            events = await events_of(ada, f"boards/{opened[1]['board_id']}")
            card = next(event["data"]["card"] for event in reversed(events) if event["type"] == "card.moved")
            return card if card["column_id"] == "review" else None

        assert (await until(handed_back, within=10))["run"]["pull_request"] == "open"

    async def test_that_is_merged_is_known_to_card_board_and_run_within_seconds(
        self, ada: Person, opened: tuple[Json, Json], merged: Json
    ):
        pull_request = merged["result"]["pull_request"]
        assert (pull_request["state"], pull_request["number"]) == ("merged", 1)
        assert pull_request["merged_at"]
        run = await ada.get(f"/api/runs/{opened[1]['id']}")
        assert run["result"]["pull_request"] == pull_request
        board = await ada.get(f"/api/boards/{merged['board_id']}")
        assert [card["run"]["pull_request"] for card in board["cards"] if card["id"] == merged["id"]] == ["merged"]

        async def told() -> Json | None:
            event = (await events_of(ada, f"boards/{merged['board_id']}"))[-1]
            return event if event["type"] == "card.updated" else None

        assert (await until(told, within=10))["data"]["changes"] == ["pull_request"]

    async def test_that_is_merged_is_counted_by_the_usage_report(self, ada: Person, place: Json, merged: Json):
        async def counted() -> Json | None:
            found = await outcomes(ada, workspace_id=place["id"])
            return found if found["runs"] else None

        found = await until(counted, within=20)
        assert (found["merged_pull_requests"], found["runs_succeeded"]) == (1, 1)
        assert found["cost_per_merged_pull_request_usd"] == found["cost_per_successful_run_usd"] > 0
        assert (await outcomes(ada, card_id=merged["id"]))["merged_pull_requests"] == 1
        assert (await outcomes(ada, run_id=merged["run"]["id"]))["merged_pull_requests"] is None

    async def test_brings_the_work_to_the_default_branch(self, ada: Person, place: Json, merged: Json, github: GitHub):
        bare = bare_repository(ada.cloud, place)
        pull = await github.pull_request(place["repository"]["full_name"], 1)
        assert git(bare, "rev-parse", "main") == pull["merge_commit_sha"]
        assert git(bare, "show", "main:people.txt") == "Hello, people"

    async def test_is_a_new_one_for_work_after_the_merge(self, ada: Person, merged: Json):
        await ada.patch(f"/api/cards/{merged['id']}", {"body": HELLO.format(name="animals")})
        await move(ada, merged["id"], "progress")

        async def second() -> Json | None:
            run = await started_run(ada, merged["id"])
            return run if run["id"] != merged["run"]["id"] else None

        run = await finished_run(ada, (await until(second))["id"])
        assert run["status"] == "succeeded", run["reason"]
        assert (run["result"]["pull_request"]["number"], run["result"]["pull_request"]["state"]) == (2, "open")
        first = await ada.get(f"/api/runs/{merged['run']['id']}")
        assert first["result"]["pull_request"]["state"] == "merged"


@pytest.fixture(scope="module")
async def run(ada: Person, place: Json, merged: Json) -> Json:
    """A finished run whose pull request stays open."""
    _, started = await run_card(ada, place["board_id"], "Greet stones", HELLO.format(name="stones"))
    return await finished_run(ada, started["id"])


class TestWebhook:
    """What must not be believed."""

    def body(self, place: Json, run: Json, **changes: Any) -> bytes:
        pull: Json = run["result"]["pull_request"] | {
            "state": "closed",
            "merged": True,
            "merged_at": "2026-11-25T10:00:00Z",
        }
        repository = {"full_name": place["repository"]["full_name"]}
        return orjson.dumps({"action": "closed", "pull_request": pull, "repository": repository} | changes)

    def signed(self, ada: Person, body: bytes, **changes: str) -> dict[str, str]:
        secret = ada.cloud.settings["GITHUB_WEBHOOK_SECRET"].encode()
        signature = f"sha256={hmac.new(secret, body, hashlib.sha256).hexdigest()}"
        known = {
            "x-github-event": "pull_request",
            "x-github-delivery": str(uuid.uuid4()),
            "x-hub-signature-256": signature,
        }
        return {"content-type": "application/json"} | known | changes

    async def send(self, ada: Person, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return await ada.request("POST", "/api/github/webhook", content=body, headers=headers)

    async def state(self, ada: Person, run: Json) -> str:
        return (await ada.get(f"/api/runs/{run['id']}"))["result"]["pull_request"]["state"]

    @pytest.mark.parametrize("signature", ["", "nonsense", "sha256=" + "0" * 64, "sha1=" + "0" * 40])
    async def test_with_a_wrong_signature_is_401(self, ada: Person, place: Json, run: Json, signature: str):
        body = self.body(place, run)
        answer = await self.send(ada, body, self.signed(ada, body, **{"x-hub-signature-256": signature}))
        assert problem(answer)["status"] == 401
        assert await self.state(ada, run) == "open"

    async def test_with_another_body_than_was_signed_is_401(self, ada: Person, place: Json, run: Json):
        body = self.body(place, run)
        assert problem(await self.send(ada, body + b" ", self.signed(ada, body)))["status"] == 401
        assert await self.state(ada, run) == "open"

    async def test_of_a_foreign_repository_tells_nothing(self, ada: Person, place: Json, run: Json):
        for full_name in ("kanban/nothing-of-the-kind", f"others/{place['repository']['full_name'].partition('/')[2]}"):
            body = self.body(place, run, repository={"full_name": full_name})
            answer = await self.send(ada, body, self.signed(ada, body))
            assert (answer.status_code, answer.content) == (204, b"")
        assert await self.state(ada, run) == "open"

    @pytest.mark.parametrize("event", ["ping", "push", "check_run"])
    async def test_of_another_kind_is_ignored(self, ada: Person, place: Json, run: Json, event: str):
        body = self.body(place, run)
        assert (await self.send(ada, body, self.signed(ada, body, **{"x-github-event": event}))).status_code == 204
        assert await self.state(ada, run) == "open"

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"payload=%7B%7D", b'{"action": "closed"}'])
    async def test_that_cannot_be_read_is_400(self, ada: Person, run: Json, body: bytes):
        assert problem(await self.send(ada, body, self.signed(ada, body)))["status"] == 400

    async def test_that_comes_again_changes_nothing_more(self, ada: Person, place: Json, run: Json):
        body = self.body(place, run)
        headers = self.signed(ada, body)
        for _ in range(3):
            assert (await self.send(ada, body, headers)).status_code == 204
        assert await self.state(ada, run) == "merged"
        events = await events_of(ada, f"boards/{place['board_id']}")
        told = [e for e in events if e["type"] == "card.updated" and e["data"]["card"]["id"] == run["card_id"]]
        assert [event["data"]["changes"] for event in told] == [["pull_request"]]
