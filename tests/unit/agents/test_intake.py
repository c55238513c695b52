import asyncio
from typing import Any

import orjson
import pytest

from shared.core.errors import BadRequest, Invalid, Unauthenticated
from shared.core.ports import Json
from tests.unit.agents.conftest import Site


async def delivery(site: Site, **fields: Any) -> Json:
    """The webhook message of a card that was moved to In Progress."""
    card = await site.world.card(site.ada, site.board, **fields)
    await site.world.move(site.ada, card.id, "progress")
    return site.world.waiting("webhooks")[-1]


def signed(site: Site, event: Json, secret: str = "", moment: float = 0) -> tuple[dict[str, str], bytes]:
    body = orjson.dumps(event)
    secret = secret or site.world.secrets.secrets[f"webhook-{site.workspace.id}"]
    clock = site.world.clock
    clock.advance(moment)
    headers = site.world.signer.headers(secret, event["id"], clock.now(), body)
    clock.advance(-moment)
    return headers, body


class TestReceive:
    async def test_a_signed_move_into_a_start_column_starts_a_run(self, site: Site) -> None:
        event = (await delivery(site, title="Add Ünïcode & more!"))["event"]
        answer = await site.world.platform.intake.receive(site.agent, *signed(site, event))
        assert answer.reason is None
        run = await site.run(answer.run_id or "")
        assert (run.status, run.attempt, run.started_by) == ("queued", 1, "Ada")
        assert run.branch == f"agent/add-n-code-more-{run.card_id[-6:]}"
        card = await site.world.platform.cards.get(site.ada, run.card_id)
        assert card.run is not None
        assert (card.run.id, card.run.status) == (run.id, "queued")

    async def test_the_same_webhook_again_gives_the_same_run(self, site: Site) -> None:
        event = (await delivery(site))["event"]
        intake = site.world.platform.intake
        first = await intake.receive(site.agent, *signed(site, event))
        assert await intake.receive(site.agent, *signed(site, event)) == first
        assert len(await site.world.platform.runs.of_card(site.ada, event["data"]["card"]["id"])) == 1

    async def test_simultaneous_deliveries_give_one_run(self, site: Site) -> None:
        event = (await delivery(site))["event"]
        platforms = [site.world.another_platform() for _ in range(4)]
        answers = await asyncio.gather(*(p.intake.receive(site.agent, *signed(site, event)) for p in platforms))
        assert len({answer.run_id for answer in answers}) == 1
        await site.world.pump()
        assert len(site.world.host.specs) == 1

    async def test_a_late_duplicate_does_not_reopen_a_finished_run(self, site: Site) -> None:
        message = await delivery(site)
        await site.world.pump()
        (run,) = await site.world.platform.runs.of_card(site.ada, message["event"]["data"]["card"]["id"])
        await site.world.platform.container.start(run.id, "box-1")
        await site.world.succeed(run)
        await site.world.pump(10)
        answer = await site.world.platform.intake.receive(site.agent, *signed(site, message["event"]))
        assert answer.run_id == run.id
        assert (await site.run(run.id)).status == "succeeded"
        assert site.world.open_rows() == []

    @pytest.mark.parametrize("secret", ["whsec_d3Jvbmc=", "webhook of another agent"])
    async def test_a_signature_that_does_not_fit_is_refused(self, site: Site, secret: str) -> None:
        event = (await delivery(site))["event"]
        with pytest.raises(Unauthenticated):
            await site.world.platform.intake.receive(site.agent, *signed(site, event, secret))

    async def test_a_changed_body_is_refused(self, site: Site) -> None:
        headers, body = signed(site, (await delivery(site))["event"])
        with pytest.raises(Unauthenticated):
            await site.world.platform.intake.receive(site.agent, headers, body.replace(b"progress", b"backlog"))

    async def test_an_old_signature_is_refused(self, site: Site) -> None:
        event = (await delivery(site))["event"]
        with pytest.raises(Unauthenticated):
            await site.world.platform.intake.receive(site.agent, *signed(site, event, moment=-400))

    @pytest.mark.parametrize("agent", ["", "agent_w0123456789_default", "../../x", "agent_x_y", "agent"])
    async def test_an_unknown_agent_looks_like_a_bad_signature(self, site: Site, agent: str) -> None:
        event = (await delivery(site))["event"]
        with pytest.raises(Unauthenticated, match="does not fit any agent"):
            await site.world.platform.intake.receive(agent, *signed(site, event))

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'"x"', b"not json", b'{"type": "card.painted"}', b"\xff"])
    async def test_a_signed_body_that_is_no_event_is_a_bad_request(self, site: Site, body: bytes) -> None:
        secret = site.world.secrets.secrets[f"webhook-{site.workspace.id}"]
        headers = site.world.signer.headers(secret, "msg_1", site.world.clock.now(), body)
        with pytest.raises(BadRequest):
            await site.world.platform.intake.receive(site.agent, headers, body)


class TestRouting:
    async def reason(self, site: Site, event: Json) -> str | None:
        answer = await site.world.platform.intake.receive(site.agent, *signed(site, event))
        assert answer.run_id is None
        return answer.reason

    async def test_other_events_start_nothing(self, site: Site) -> None:
        event = (await delivery(site))["event"]
        assert "Only moves" in (await self.reason(site, {**event, "type": "card.updated"}) or "")

    async def test_moves_on_other_boards_start_nothing(self, site: Site) -> None:
        event = (await delivery(site))["event"]
        other = {**event, "data": {**event["data"], "board_id": "board_w0123456789"}}
        assert "this agent's board" in (await self.reason(site, other) or "")

    async def test_a_card_of_another_board_starts_nothing(self, site: Site) -> None:
        """Whoever knows one agent's secret cannot have it work on another team's card."""
        bob = await site.world.person("Bob")
        other = await site.world.workspace(bob, "Other")
        theirs = await site.world.card(bob, other.board_id)
        await site.world.move(bob, theirs.id, "progress")
        event = (await delivery(site))["event"]
        card = {**event["data"]["card"], "id": theirs.id}
        forged = {**event, "data": {**event["data"], "card": card}}
        assert "this agent's board" in (await self.reason(site, forged) or "")
        assert await site.world.platform.runs.of_card(bob, theirs.id) == []

    async def test_moves_into_other_columns_start_nothing(self, site: Site) -> None:
        event = (await delivery(site))["event"]
        card = {**event["data"]["card"], "column_id": "ready"}
        other = {**event, "data": {**event["data"], "card": card}}
        assert "does not start agents" in (await self.reason(site, other) or "")

    async def test_a_card_that_was_deleted_starts_nothing(self, site: Site) -> None:
        event = (await delivery(site))["event"]
        await site.world.platform.cards.delete(site.ada, event["data"]["card"]["id"])
        assert await self.reason(site, event) == "The card was deleted."

    async def test_a_card_that_was_moved_on_starts_nothing(self, site: Site) -> None:
        event = (await delivery(site))["event"]
        await site.world.move(site.ada, event["data"]["card"]["id"], "backlog")
        assert "moved on" in (await self.reason(site, event) or "")

    async def test_while_one_agent_works_on_a_card_no_other_starts(self, site: Site) -> None:
        card = await site.world.card(site.ada, site.board)
        for column in ("progress", "backlog", "progress"):
            await site.world.move(site.ada, card.id, column)
        await site.world.pump()
        assert len(await site.world.platform.runs.of_card(site.ada, card.id)) == 1
        assert len(site.world.host.specs) == 1
        assert "already" in (site.world.answers[-1].reason or "")

    async def test_a_card_moved_again_after_its_run_starts_another(self, site: Site) -> None:
        first = await site.world.started(site.ada, site.board)
        await site.world.platform.runs.stop(site.ada, first.id)
        await site.world.move(site.ada, first.card_id, "backlog")
        await site.world.move(site.ada, first.card_id, "progress")
        await site.world.pump()
        second, _ = await site.world.platform.runs.of_card(site.ada, first.card_id)
        assert (second.attempt, second.branch) == (2, first.branch)


class TestUndelivered:
    async def test_whoever_moved_the_card_sees_a_run_that_failed(self, site: Site) -> None:
        site.world.sender.status = 404
        site.world.sender.receiver = None
        card = await site.world.card(site.ada, site.board)
        await site.world.move(site.ada, card.id, "progress")
        await site.world.pump(30)
        (run,) = await site.world.platform.runs.of_card(site.ada, card.id)
        assert run.status == "failed"
        assert run.reason == "The webhook could not be delivered: the agent's address answered 404."
        assert site.world.host.specs == []
        assert site.world.open_rows() == []

    async def test_it_can_be_retried(self, site: Site) -> None:
        site.world.sender.receiver = None
        site.world.sender.status = 404
        card = await site.world.card(site.ada, site.board)
        await site.world.move(site.ada, card.id, "progress")
        await site.world.pump(30)
        (run,) = await site.world.platform.runs.of_card(site.ada, card.id)
        again = await site.world.platform.runs.retry(site.ada, run.id)
        await site.world.pump()
        assert (await site.run(again.id)).status == "starting"

    async def test_a_delivery_that_did_arrive_is_not_undone(self, site: Site) -> None:
        message = await delivery(site)
        await site.world.pump()
        give_up = {"version": 1, "undelivered": message["event"], "reason": "gave up"}
        await site.world.consume("agent-runs", give_up)
        (run,) = await site.world.platform.runs.of_card(site.ada, message["event"]["data"]["card"]["id"])
        assert run.status == "starting"

    async def test_of_another_event_is_refused(self, site: Site) -> None:
        team = (await site.world.subject(f"team/{site.workspace.team_id}"))[0]
        with pytest.raises(Invalid, match="undelivered"):
            await site.world.consume("agent-runs", {"version": 1, "undelivered": team, "reason": "gave up"})

    async def test_of_a_board_that_is_gone_is_dropped(self, site: Site) -> None:
        event = (await delivery(site))["event"]
        gone = "w0000000000"
        card = {**event["data"]["card"], "id": f"card_{gone}_1", "board_id": f"board_{gone}"}
        lost = {**event, "data": {**event["data"], "board_id": f"board_{gone}", "card": card}}
        await site.world.consume("agent-runs", {"version": 1, "undelivered": lost, "reason": "gave up"})
