"""A run opens a pull request; GitHub's webhook tells what becomes of it."""

import asyncio
import hashlib
import hmac
from dataclasses import replace
from typing import Any

import orjson
import pytest

from shared.agents.models import RunCompletion
from shared.core.errors import BadRequest, Forbidden, Unauthenticated, Unavailable
from shared.core.resources import Run
from tests.fakes.repositories import Pull
from tests.unit.agents.conftest import Site
from tests.unit.world import SETTINGS, World

SECRET = "what GitHub and we know"
REPOSITORY = "acme/rockets"


@pytest.fixture
async def site() -> Site:
    world = World(replace(SETTINGS, github_webhook_secret=SECRET))
    ada = await world.person("Ada")
    return Site(world, ada, await world.workspace(ada))


def delivery(action: str = "closed", repository: str = REPOSITORY, **pull_request: Any) -> bytes:
    """As GitHub sends it for a merge, with some of its many other fields."""
    pull: dict[str, Any] = {
        "number": 1,
        "html_url": f"https://git.example/{REPOSITORY}/pull/1",
        "state": "closed",
        "merged": True,
        "merged_at": "2026-01-01T10:00:00Z",
        "title": "Add a healthcheck",
    }
    told = {"action": action, "number": 1, "pull_request": pull | pull_request, "sender": {"login": "ada"}}
    return orjson.dumps(told | {"repository": {"id": 7, "full_name": repository}})


def signed(body: bytes, secret: str = SECRET, event: str = "pull_request") -> dict[str, str]:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": f"sha256={signature}", "x-github-event": event, "x-github-delivery": "d-1"}


async def tell(site: Site, body: bytes | None = None, **headers: str) -> None:
    body = delivery() if body is None else body
    await site.world.platform.pull_requests.receive(signed(body) | headers, body)


async def done(site: Site) -> Run:
    return await site.world.succeed(await site.world.started(site.ada, site.board))


def pulls(site: Site) -> list[Pull]:
    return site.world.repositories.repositories[REPOSITORY].pulls


async def state(site: Site, run: Run) -> tuple[str | None, str | None, str | None]:
    """Of the pull request as the run, its card and the board show it."""
    result = (await site.run(run.id)).result
    card = await site.world.platform.cards.get(site.ada, run.card_id)
    (line,) = (await site.world.platform.boards.view(site.ada, site.board)).cards
    assert result
    assert card.result
    shown = [found.pull_request.state if found.pull_request else None for found in (result, card.result)]
    return shown[0], shown[1], line.run.pull_request if line.run else None


class TestOpened:
    async def test_a_run_that_succeeds_opens_one_that_leads_back_to_its_card(self, site: Site):
        run = await done(site)
        (pull,) = pulls(site)
        assert (pull.base, pull.head, pull.title) == ("main", run.branch, "Add a healthcheck")
        assert pull.body == f"Done.\n\nCard: https://web.example/boards/{site.board}/cards/{run.card_id}"
        assert run.result
        assert run.result.pull_request
        assert (run.result.pull_request.number, run.result.no_pull_request) == (1, None)
        assert run.result.pull_request.html_url == f"https://git.example/{REPOSITORY}/pull/1"
        assert await state(site, run) == ("open", "open", "open")
        assert (await site.world.platform.cards.get(site.ada, run.card_id)).column_id == "review"

    async def test_while_github_is_away_the_run_goes_on_and_its_container_tries_again(self, site: Site):
        run = await site.world.started(site.ada, site.board)
        site.world.repositories.refusal = Unavailable("GitHub does not answer.")
        with pytest.raises(Unavailable):
            await site.world.succeed(run)
        assert (await site.run(run.id)).status == "running"
        assert (await site.world.succeed(run)).status == "succeeded"
        assert len(pulls(site)) == 1

    async def test_a_report_that_comes_twice_or_whose_answer_was_lost_opens_one(self, site: Site):
        run = await site.world.started(site.ada, site.board)
        sha = await site.world.push(run, {"app.py": "print(2)\n"})
        report = RunCompletion(outcome="succeeded", summary="Done.", branch=run.branch, commit=sha)
        site.world.documents.fail("boards/", Unavailable("disk full"))
        with pytest.raises(Unavailable):
            await site.world.platform.container.complete(run.id, report)
        assert len(pulls(site)) == 1
        await asyncio.gather(*(site.world.platform.container.complete(run.id, report) for _ in range(3)))
        assert (await site.run(run.id)).status == "succeeded"
        assert len(pulls(site)) == 1

    async def test_the_next_run_of_the_card_adopts_the_open_one(self, site: Site):
        first = await done(site)
        second = await again(site, first)
        assert second.id != first.id
        assert second.result
        assert second.result.pull_request
        assert second.result.pull_request.number == 1
        assert len(pulls(site)) == 1

    async def test_a_refusal_of_githubs_does_not_undo_the_work(self, site: Site):
        site.world.repositories.refusal = Forbidden("GitHub does not let the App do this.")
        run = await done(site)
        assert run.status == "succeeded"
        assert run.result
        assert run.result.pull_request is None
        assert run.result.no_pull_request == "GitHub does not let the App do this."
        card = await site.world.platform.cards.get(site.ada, run.card_id)
        assert (card.column_id, card.run and card.run.pull_request) == ("review", None)

    async def test_of_a_card_that_was_deleted_meanwhile_there_is_none(self, site: Site):
        run = await site.world.started(site.ada, site.board)
        del site.world.documents.partitions[f"boards/{site.workspace.id}"][f"card/{run.card_id}"]
        result = (await site.world.succeed(run)).result
        assert result
        assert result.no_pull_request == "The card was deleted."
        assert pulls(site) == []


async def again(site: Site, run: Run) -> Run:
    """Another run of the same card, which succeeds too."""
    await site.world.move(site.ada, run.card_id, "progress")
    await site.world.pump()
    newest = (await site.world.platform.runs.of_card(site.ada, run.card_id))[0]
    await site.world.platform.container.start(newest.id, "box-2")
    return await site.world.succeed(newest)


class TestMerged:
    async def test_everybody_sees_it(self, site: Site):
        run = await done(site)
        await tell(site)
        assert await state(site, run) == ("merged", "merged", "merged")
        result = (await site.run(run.id)).result
        assert result
        assert result.pull_request
        assert result.pull_request.merged_at == "2026-01-01T10:00:00.000Z"
        event = (await site.world.subject(f"board/{site.board}"))[-1]
        assert (event["type"], event["data"]["changes"]) == ("card.updated", ["pull_request"])
        assert event["data"]["card"]["run"]["pull_request"] == "merged"
        history = await site.world.platform.cards.history(site.ada, run.card_id)
        assert [(entry.by, entry.text) for entry in history if entry.by == "GitHub"] == [
            ("GitHub", "merged the pull request")
        ]

    async def test_a_delivery_that_comes_again_changes_nothing_more(self, site: Site):
        run = await done(site)
        await asyncio.gather(*(tell(site) for _ in range(5)))
        events = len(await site.world.subject(f"board/{site.board}"))
        etag = (await site.world.platform.cards.get(site.ada, run.card_id)).etag
        await tell(site, delivery(merged_at="2026-01-02T10:00:00Z"))
        assert len(await site.world.subject(f"board/{site.board}")) == events
        assert (await site.world.platform.cards.get(site.ada, run.card_id)).etag == etag
        changes = [event["data"].get("changes") for event in await site.world.subject(f"board/{site.board}")]
        assert changes.count(["pull_request"]) == 1

    async def test_one_that_is_closed_and_reopened_is_shown_so(self, site: Site):
        run = await done(site)
        await tell(site, delivery(merged_at=None))
        assert await state(site, run) == ("closed", "closed", "closed")
        await tell(site, delivery("reopened", state="open", merged_at=None))
        assert await state(site, run) == ("open", "open", "open")

    async def test_what_arrives_late_does_not_unmerge_it(self, site: Site):
        run = await done(site)
        await tell(site)
        await tell(site, delivery("reopened", state="open", merged_at=None))
        assert await state(site, run) == ("merged", "merged", "merged")

    async def test_all_runs_that_share_it_know(self, site: Site):
        first = await done(site)
        second = await again(site, first)
        await tell(site)
        assert await state(site, first) == await state(site, second) == ("merged", "merged", "merged")

    async def test_a_card_with_a_newer_one_does_not_show_the_old_ones_merge(self, site: Site):
        first = await done(site)
        site.world.repositories.merge(REPOSITORY, 1)
        second = await again(site, first)
        await tell(site)
        assert await state(site, first) == ("merged", "open", "open")
        assert await state(site, second) == ("open", "open", "open")

    async def test_a_run_that_found_it_open_just_before_knows_too(self, site: Site):
        """Its merge is heard between the run's call to GitHub and its commit."""
        run = await done(site)
        ensure = site.world.repositories.ensure_pull_request

        async def heard_meanwhile(*arguments: str) -> Any:
            opened = await ensure(*arguments)
            await tell(site)
            return opened

        site.world.repositories.ensure_pull_request = heard_meanwhile  # type: ignore[method-assign]
        second = await again(site, run)
        assert await state(site, second) == ("merged", "merged", "merged")

    async def test_a_later_run_that_fails_leaves_the_badge(self, site: Site):
        run = await done(site)
        await tell(site)
        await site.world.move(site.ada, run.card_id, "progress")
        await site.world.pump()
        newest = (await site.world.platform.runs.of_card(site.ada, run.card_id))[0]
        await site.world.platform.lifecycle.cancel(newest.id, "Stopped.")
        card = await site.world.platform.cards.get(site.ada, run.card_id)
        assert card.run
        assert (card.run.id, card.run.pull_request) == (newest.id, "merged")

    async def test_the_run_of_a_deleted_card_still_knows(self, site: Site):
        run = await done(site)
        await site.world.platform.cards.delete(site.ada, run.card_id)
        await tell(site)
        result = (await site.run(run.id)).result
        assert result
        assert result.pull_request
        assert result.pull_request.state == "merged"


class TestIgnored:
    @pytest.mark.parametrize(
        "body",
        [
            delivery("opened", state="open", merged_at=None),
            delivery("synchronize"),
            delivery(number=2),
            delivery(repository="acme/other"),
            delivery(repository="other/rockets"),
            delivery(repository="acme/../rockets"),
            delivery(repository=""),
        ],
    )
    async def test_what_is_not_about_a_pull_request_of_ours(self, site: Site, body: bytes):
        run = await done(site)
        await tell(site, body)
        assert await state(site, run) == ("open", "open", "open")

    @pytest.mark.parametrize("event", ["ping", "push", "installation", ""])
    async def test_other_events(self, site: Site, event: str):
        run = await done(site)
        for body in (delivery(), b'{"zen": "Keep it logically awesome."}', b""):
            await tell(site, body, **{"x-github-event": event})
        assert await state(site, run) == ("open", "open", "open")

    async def test_a_workspace_that_is_gone(self, site: Site):
        await done(site)
        body = delivery()
        for partition in list(site.world.documents.partitions):
            if partition.startswith("portal/name/"):
                del site.world.documents.partitions[partition]
        await tell(site, body)


class TestRefused:
    @pytest.mark.parametrize(
        "signature",
        [
            "",
            "sha256=",
            "sha256=" + "0" * 64,
            signed(delivery(), "another")["x-hub-signature-256"],
            "sha1=x",
            "sha256=é",
        ],
    )
    async def test_a_signature_that_does_not_fit(self, site: Site, signature: str):
        run = await done(site)
        with pytest.raises(Unauthenticated):
            await tell(site, **{"x-hub-signature-256": signature})
        assert await state(site, run) == ("open", "open", "open")

    async def test_a_body_that_was_changed(self, site: Site):
        await done(site)
        with pytest.raises(Unauthenticated):
            await site.world.platform.pull_requests.receive(signed(delivery()), delivery() + b" ")

    async def test_everything_while_no_secret_is_set(self, site: Site):
        site.world.settings = SETTINGS
        site.world.platform = site.world.another_platform()
        run = await done(site)
        with pytest.raises(Unauthenticated):
            await site.world.platform.pull_requests.receive(signed(delivery(), ""), delivery())
        assert await state(site, run) == ("open", "open", "open")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"\xff",
            b"payload=%7B%7D",
            delivery(number="1"),
            delivery(merged_at="soon"),
            delivery(state="odd"),
            orjson.dumps({"action": "closed"}),
        ],
    )
    async def test_what_is_no_delivery(self, site: Site, body: bytes):
        with pytest.raises(BadRequest):
            await tell(site, body)
