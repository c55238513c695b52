import asyncio
import random

import pytest

from shared.boards.models import Card, CardChange, CardMove, CardPut, NewCard, NewComment
from shared.core.errors import Conflict, Forbidden, Invalid, NotFound, PlatformError, Stale
from shared.core.ports import Doc, Put
from tests.unit.boards.conftest import Desk
from tests.unit.world import SETTINGS, World


async def move(desk: Desk, card: Card, column: str, **fields: str | None) -> Card:
    return await desk.world.platform.cards.move(desk.ada, card.id, CardMove(column_id=column, **fields))


class TestCreate:
    async def test_a_card_begins_at_the_end_of_the_first_column(self, desk: Desk) -> None:
        for title in ("one", "two", "three"):
            card = await desk.card(title)
            assert (card.column_id, card.created_by) == ("backlog", desk.ada.user_id)
        assert await desk.column("backlog") == ["one", "two", "three"]

    async def test_watchers_see_it(self, desk: Desk) -> None:
        card = await desk.card("one")
        event = await desk.last_event()
        data = event["data"]
        assert isinstance(data, dict)
        assert event["type"] == "card.created"
        assert data["by"] == {"id": desk.ada.user_id, "name": "Ada", "kind": "user"}
        assert data["card"]["id"] == card.id

    async def test_it_cannot_begin_where_agents_start(self, desk: Desk) -> None:
        with pytest.raises(Conflict, match="starts an agent"):
            await desk.card(column_id="progress")

    async def test_only_members_can_be_assigned(self, desk: Desk) -> None:
        await desk.card(assignee_id=desk.vera.user_id)
        for nobody in (desk.stranger.user_id, "", "x" * 100, "../member/a"):
            with pytest.raises(Invalid, match="members of the team"):
                await desk.card(assignee_id=nobody)

    async def test_simultaneous_cards_are_all_kept(self, desk: Desk) -> None:
        request = [NewCard(title=f"{n}") for n in range(10)]
        await asyncio.gather(
            *(desk.world.another_platform().cards.create(desk.ada, desk.board, one) for one in request)
        )
        assert sorted(await desk.column("backlog")) == sorted(f"{n}" for n in range(10))

    async def test_an_unknown_column_is_not_found(self, desk: Desk) -> None:
        with pytest.raises(NotFound):
            await desk.card(column_id="nowhere")


class TestUpdate:
    async def test_only_what_was_sent_changes(self, desk: Desk) -> None:
        card = await desk.card("one", body="text", labels=["api"], due_date="2026-02-03")
        changed = await desk.change(card, title="two", due_date=None)
        assert (changed.title, changed.body, changed.labels, changed.due_date) == ("two", "text", ["api"], None)
        data = (await desk.last_event())["data"]
        assert isinstance(data, dict)
        assert data["changes"] == ["due_date", "title"]

    async def test_a_change_of_nothing_tells_nobody(self, desk: Desk) -> None:
        card = await desk.card("one")
        before = await desk.last_event()
        same = await desk.change(card, title="one", labels=[])
        assert (same.etag, await desk.last_event()) == (card.etag, before)

    async def test_a_stale_version_is_refused(self, desk: Desk) -> None:
        card = await desk.card("one")
        await desk.change(card, title="two")
        with pytest.raises(Stale, match="Somebody changed this card"):
            await desk.change(card, if_match=card.etag, title="three")
        assert await desk.column("backlog") == ["two"]

    @pytest.mark.parametrize("if_match", ["", "another"])
    async def test_a_change_of_another_version_is_refused_at_once(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch, if_match: str
    ):
        card, looks, get = await desk.card(), list[str](), desk.world.documents.get

        async def noted(partition: str, id: str) -> Doc | None:
            looks.append(id)
            return await get(partition, id)

        monkeypatch.setattr(desk.world.documents, "get", noted)
        with pytest.raises(Stale):
            await desk.change(card, if_match=if_match, title="two")
        assert looks.count(f"card/{card.id}") == 1

    async def test_of_two_who_changed_the_same_version_one_is_refused(self, desk: Desk) -> None:
        card = await desk.card("one")
        cards = [desk.world.another_platform().cards for _ in range(2)]
        results = await asyncio.gather(
            *(c.update(desk.ada, card.id, CardChange(title=f"T{n}"), card.etag) for n, c in enumerate(cards)),
            return_exceptions=True,
        )
        assert sorted(type(result).__name__ for result in results) == ["Card", "Stale"]

    async def test_simultaneous_changes_of_different_fields_all_happen(self, desk: Desk) -> None:
        card = await desk.card("one")
        changes = [CardChange(title="two"), CardChange(body="text"), CardChange(labels=["api"])]
        cards = [desk.world.another_platform().cards for _ in changes]
        await asyncio.gather(*(c.update(desk.ada, card.id, one) for c, one in zip(cards, changes, strict=True)))
        now = await desk.world.platform.cards.get(desk.ada, card.id)
        assert (now.title, now.body, now.labels) == ("two", "text", ["api"])

    async def test_viewers_cannot(self, desk: Desk) -> None:
        card = await desk.card()
        cards = desk.world.platform.cards
        for attempt in (
            cards.update(desk.vera, card.id, CardChange(title="x")),
            cards.move(desk.vera, card.id, CardMove(column_id="ready")),
            cards.delete(desk.vera, card.id),
            cards.comment(desk.vera, card.id, NewComment(body="x")),
            cards.create(desk.vera, desk.board, NewCard(title="x")),
        ):
            with pytest.raises(Forbidden):
                await attempt
        assert (await cards.get(desk.vera, card.id)).title == card.title

    async def test_strangers_find_nothing(self, desk: Desk) -> None:
        card = await desk.card()
        cards = desk.world.platform.cards
        for attempt in (
            cards.get(desk.stranger, card.id),
            cards.update(desk.stranger, card.id, CardChange(title="x")),
            cards.delete(desk.stranger, card.id),
            cards.comments(desk.stranger, card.id),
            cards.history(desk.stranger, card.id),
        ):
            with pytest.raises(NotFound):
                await attempt

    @pytest.mark.parametrize("card", ["", "x", "card_w0123456789_", "card_../../x_y", "run_w0123456789_a"])
    async def test_what_cannot_be_a_card_is_not_found(self, desk: Desk, card: str) -> None:
        with pytest.raises(NotFound):
            await desk.world.platform.cards.get(desk.ada, card)


class TestPut:
    async def test_fields_and_column_change_together(self, desk: Desk) -> None:
        card = await desk.card("one")
        put = CardPut(title="two", column_id="ready")
        changed = await desk.world.platform.cards.put(desk.ada, card.id, put, card.etag)
        assert (changed.title, changed.column_id) == ("two", "ready")

    async def test_into_a_start_column_it_starts_an_agent(self, desk: Desk) -> None:
        card = await desk.card("one")
        await desk.world.platform.cards.put(desk.ada, card.id, CardPut(column_id="progress"), None)
        assert len(desk.world.waiting("webhooks")) == 1

    async def test_a_refused_move_leaves_the_fields_as_they_are(self, desk: Desk) -> None:
        team = await desk.world.team(desk.ada, "No code")
        card = await desk.world.card(desk.ada, team.board_id, "one")
        with pytest.raises(Conflict, match="no repository"):
            await desk.world.platform.cards.put(desk.ada, card.id, CardPut(title="two", column_id="progress"), None)
        assert (await desk.world.platform.cards.get(desk.ada, card.id)).title == "one"


class TestMove:
    async def test_a_card_goes_between_the_neighbours_it_names(self, desk: Desk) -> None:
        one, two, three = [await desk.card(title) for title in ("one", "two", "three")]
        await move(desk, three, "backlog", before_id=one.id, after_id=two.id)
        assert await desk.column("backlog") == ["one", "three", "two"]
        await move(desk, two, "backlog", after_id=one.id)
        assert await desk.column("backlog") == ["two", "one", "three"]
        await move(desk, two, "backlog", before_id=three.id)
        assert await desk.column("backlog") == ["one", "three", "two"]

    async def test_without_neighbours_it_goes_to_the_end(self, desk: Desk) -> None:
        one, _ = await desk.card("one"), await desk.card("two")
        await move(desk, one, "backlog")
        assert await desk.column("backlog") == ["two", "one"]

    async def test_neighbours_that_are_gone_do_not_matter(self, desk: Desk) -> None:
        one, _ = await desk.card("one"), await desk.card("two")
        await move(desk, one, "backlog", before_id="card_w0123456789_gone", after_id="nonsense")
        assert await desk.column("backlog") == ["two", "one"]

    async def test_it_is_one_event_that_tells_from_where(self, desk: Desk) -> None:
        card = await desk.card()
        before = len(await desk.events())
        await move(desk, card, "ready")
        (event,) = (await desk.events())[before:]
        assert (event["type"], event["data"]["from_column"]) == ("card.moved", "backlog")

    async def test_equal_ranks_of_simultaneous_moves_leave_room(self, desk: Desk) -> None:
        cards = [await desk.card(f"{n}") for n in range(4)]
        await move(desk, cards[3], "ready")
        movers = [desk.world.another_platform().cards for _ in range(2)]
        await asyncio.gather(
            *(
                m.move(desk.ada, card.id, CardMove(column_id="ready", after_id=cards[3].id))
                for m, card in zip(movers, cards[:2], strict=True)
            )
        )
        shown = await desk.column("ready")
        assert sorted(shown) == ["0", "1", "3"]
        assert shown[2] == "3"
        top, second = [next(card for card in cards if card.title == title) for title in shown[:2]]
        await move(desk, cards[2], "ready", before_id=top.id, after_id=second.id)
        now = await desk.column("ready")
        assert now.index("2") > now.index(top.title)
        assert now[-1] == "3"

    async def test_a_card_moved_between_equal_ranks_stays_above_the_next_one(self, desk: Desk) -> None:
        partition = f"boards/{desk.board.removeprefix('board_')}"
        cards = [await desk.card(title) for title in ("moved", "one", "two", "three")]
        for card, rank in zip(cards[1:], ("V", "V", "W"), strict=True):
            doc = await desk.world.documents.get(partition, f"card/{card.id}")
            assert doc is not None
            await desk.world.documents.commit(partition, [Put(doc.id, doc.body | {"rank": rank}, doc.etag)])
        await move(desk, cards[0], "backlog", before_id=cards[1].id, after_id=cards[2].id)
        assert await desk.column("backlog") == ["one", "two", "moved", "three"]

    @pytest.mark.parametrize("seed", range(3))
    async def test_many_simultaneous_moves_keep_every_card_in_one_place(self, desk: Desk, seed: int) -> None:
        chance = random.Random(seed)
        cards = [await desk.card(f"{n}") for n in range(6)]
        platforms = [desk.world.another_platform() for _ in range(3)]

        async def shuffle(platform_index: int) -> None:
            for _ in range(8):
                card, other = chance.sample(cards, 2)
                request = CardMove(column_id=chance.choice(["backlog", "ready", "done"]), before_id=other.id)
                await platforms[platform_index].cards.move(desk.ada, card.id, request)

        await asyncio.gather(*(shuffle(n) for n in range(3)))
        view = await desk.view()
        assert sorted(card.title for card in view.cards) == [f"{n}" for n in range(6)]
        for column in ("backlog", "ready", "done"):
            ranks = [card.rank for card in view.cards if card.column_id == column]
            assert ranks == sorted(ranks)

    async def test_a_card_that_has_moved_on_is_not_moved_unseen(self, desk: Desk) -> None:
        card = await desk.card()
        await move(desk, card, "ready")
        with pytest.raises(Conflict, match="has moved to 'Ready'"):
            await move(desk, card, "done", expected_column="backlog")
        await move(desk, card, "done", expected_column="ready")

    async def test_an_unknown_column_is_not_found(self, desk: Desk) -> None:
        with pytest.raises(NotFound):
            await move(desk, await desk.card(), "nowhere")


class TestStart:
    async def test_a_move_into_a_start_column_sends_one_signed_webhook(self, desk: Desk) -> None:
        card = await desk.card()
        await move(desk, card, "progress")
        (message,) = desk.world.waiting("webhooks")
        agent = f"agent_{desk.board.removeprefix('board_')}_default"
        assert message["url"] == f"https://api.example/api/agents/{agent}/webhook"
        event = await desk.last_event()
        assert message["event"]["id"] == event["id"]
        assert message["event"]["data"] == event["data"]
        assert message["secret_name"] in desk.world.secrets.secrets
        assert desk.world.secrets.secrets[message["secret_name"]] not in str(message)

    async def test_moves_within_it_send_none(self, desk: Desk) -> None:
        card = await desk.card()
        await move(desk, card, "progress")
        await move(desk, card, "progress")
        assert len(desk.world.waiting("webhooks")) == 1

    async def test_a_refused_move_sends_none(self, desk: Desk) -> None:
        card = await desk.card()
        with pytest.raises(Conflict):
            await move(desk, card, "progress", expected_column="ready")
        assert desk.world.waiting("webhooks") == []

    async def test_while_an_agent_works_the_card_cannot_start_another(self, desk: Desk) -> None:
        run = await desk.world.started(desk.ada, desk.board)
        await desk.world.move(desk.ada, run.card_id, "backlog")
        with pytest.raises(Conflict, match="still working"):
            await desk.world.move(desk.ada, run.card_id, "progress")

    async def test_a_board_without_a_repository_says_why(self, desk: Desk) -> None:
        team = await desk.world.team(desk.ada, "No code")
        card = await desk.world.card(desk.ada, team.board_id)
        with pytest.raises(Conflict, match=r"No agent can start from 'In Progress'\. This board has no repository"):
            await desk.world.move(desk.ada, card.id, "progress")
        assert (await desk.world.platform.cards.get(desk.ada, card.id)).column_id == "backlog"

    @pytest.mark.parametrize(
        ("settings", "isolated", "reason"),
        [
            ({}, True, "ANTHROPIC_API_KEY"),
            ({"anthropic_api_key": "sk-real"}, False, "ALLOW_UNSANDBOXED"),
            ({"anthropic_api_key": "sk-real"}, True, None),
            ({"anthropic_api_key": "sk-real", "allow_unsandboxed": True}, False, None),
            ({"anthropic_base_url": "http://127.0.0.1:1", "demo_model": True}, False, None),
            ({"demo_model": True}, False, "ANTHROPIC_API_KEY"),
        ],
    )
    async def test_agents_run_only_where_they_may(
        self, settings: dict[str, str | bool], isolated: bool, reason: str | None
    ) -> None:
        world = World(SETTINGS.__class__(**settings), isolated=isolated)  # type: ignore[arg-type]
        ada = await world.person("Ada")
        board = (await world.workspace(ada)).board_id
        shown = (await world.platform.boards.view(ada, board)).board.agents
        card = await world.card(ada, board)
        if reason is None:
            assert shown.enabled
            assert (await world.move(ada, card.id, "progress")).column_id == "progress"
            return
        assert reason in (shown.reason or "")
        with pytest.raises(Conflict, match=reason):
            await world.move(ada, card.id, "progress")


class TestDelete:
    async def test_a_deleted_card_can_be_restored(self, desk: Desk) -> None:
        card = await desk.card("one", body="text")
        await desk.world.platform.cards.comment(desk.ada, card.id, NewComment(body="hello"))
        await desk.world.platform.cards.delete(desk.ada, card.id)
        assert await desk.column("backlog") == []
        with pytest.raises(NotFound):
            await desk.world.platform.cards.get(desk.ada, card.id)
        back = await desk.world.platform.cards.restore(desk.ada, card.id)
        assert (back.title, back.body, back.comment_count) == ("one", "text", 1)
        assert len(await desk.world.platform.cards.comments(desk.ada, card.id)) == 1

    async def test_into_a_column_that_is_gone_it_comes_back_in_the_first(self, desk: Desk) -> None:
        card = await desk.card(column_id="ready")
        await desk.world.platform.cards.delete(desk.ada, card.id)
        await desk.world.platform.boards.remove_column(desk.ada, desk.board, "ready")
        assert (await desk.world.platform.cards.restore(desk.ada, card.id)).column_id == "backlog"

    async def test_while_an_agent_works_on_it_it_stays(self, desk: Desk) -> None:
        run = await desk.world.started(desk.ada, desk.board)
        with pytest.raises(Conflict, match="Stop its run"):
            await desk.world.platform.cards.delete(desk.ada, run.card_id)

    async def test_deleting_or_restoring_twice_is_refused(self, desk: Desk) -> None:
        card = await desk.card()
        cards = desk.world.platform.cards
        with pytest.raises(NotFound):
            await cards.restore(desk.ada, card.id)
        await cards.delete(desk.ada, card.id)
        with pytest.raises(NotFound):
            await cards.delete(desk.ada, card.id)
        await cards.restore(desk.ada, card.id)
        with pytest.raises(NotFound):
            await cards.restore(desk.ada, card.id)

    async def test_two_people_restoring_it_get_it_once(self, desk: Desk) -> None:
        card = await desk.card()
        await desk.world.platform.cards.delete(desk.ada, card.id)
        results = await asyncio.gather(
            *(desk.world.another_platform().cards.restore(desk.ada, card.id) for _ in range(2)), return_exceptions=True
        )
        assert sum(isinstance(result, PlatformError) for result in results) == 1
        assert len(await desk.column("backlog")) == 1


class TestComments:
    async def test_they_are_counted_and_listed_in_order(self, desk: Desk) -> None:
        card = await desk.card()
        for n in range(3):
            await desk.world.platform.cards.comment(desk.ada, card.id, NewComment(body=f"{n}"))
        comments = await desk.world.platform.cards.comments(desk.vera, card.id)
        assert [(comment.body, comment.author_name) for comment in comments] == [(f"{n}", "Ada") for n in range(3)]
        assert (await desk.view()).cards[0].comment_count == 3

    async def test_simultaneous_ones_are_all_kept_and_counted(self, desk: Desk) -> None:
        card = await desk.card()
        await asyncio.gather(
            *(desk.world.another_platform().cards.comment(desk.ada, card.id, NewComment(body=f"{n}")) for n in range(5))
        )
        assert len(await desk.world.platform.cards.comments(desk.ada, card.id)) == 5
        assert (await desk.world.platform.cards.get(desk.ada, card.id)).comment_count == 5


class TestRevision:
    async def test_each_state_of_a_card_has_more_than_the_one_before(self, desk: Desk) -> None:
        cards = desk.world.platform.cards
        card = await desk.card("one")
        states = [card, await desk.change(card, title="two"), await move(desk, card, "ready")]
        await cards.comment(desk.ada, card.id, NewComment(body="x"))
        states.append(await cards.get(desk.ada, card.id))
        await cards.delete(desk.ada, card.id)
        states.append(await cards.restore(desk.ada, card.id))
        assert [state.revision for state in states] == [1, 2, 3, 4, 6]
        told = [event["data"]["card"]["revision"] for event in await desk.events() if "card" in event["data"]]
        assert told == [1, 2, 3, 5, 6]

    async def test_a_comment_is_told_with_how_many_there_are(self, desk: Desk) -> None:
        card = await desk.card("one")
        for _ in range(2):
            await desk.world.platform.cards.comment(desk.ada, card.id, NewComment(body="x"))
        assert (await desk.last_event())["data"]["comment_count"] == 2


class TestHistory:
    async def test_it_tells_what_happened_newest_first(self, desk: Desk) -> None:
        card, _ = await desk.card("one"), await desk.card("other")
        await desk.change(card, title="two", assignee_id=desk.ada.user_id)
        await move(desk, card, "ready")
        await desk.world.platform.cards.comment(desk.ada, card.id, NewComment(body="x"))
        entries = await desk.world.platform.cards.history(desk.ada, card.id)
        assert [entry.text for entry in entries] == [
            "commented",
            "moved it from Backlog to Ready",
            "changed assignee, title",
            "created the card",
        ]
        assert {(entry.by, entry.by_kind) for entry in entries} == {("Ada", "user")}
