import asyncio

import pytest

from shared.boards.models import ColumnChange, NewColumn
from shared.core.errors import Conflict, Forbidden, Invalid, NotFound
from shared.core.events import parse
from shared.core.resources import CardSummary
from tests.unit.boards.conftest import Desk


class TestView:
    async def test_a_new_board_has_the_usual_columns(self, desk: Desk) -> None:
        board = (await desk.view()).board
        assert [(column.name, column.kind) for column in board.columns] == [
            ("Backlog", "plain"),
            ("Ready", "plain"),
            ("In Progress", "start"),
            ("Review", "review"),
            ("Done", "done"),
        ]
        assert board.agents.enabled
        assert (board.agents.demo_model, board.agents.isolated) == (True, True)

    async def test_its_sequence_is_where_its_events_stand(self, desk: Desk) -> None:
        await desk.card()
        view = await desk.view()
        page = await desk.world.platform.boards.events(desk.ada, desk.board, view.board.sequence, 100)
        assert (page.items, page.last) == ([], view.board.sequence)
        await desk.card()
        page = await desk.world.platform.boards.events(desk.ada, desk.board, view.board.sequence, 100)
        assert [item.type for item in page.items] == ["card.created"]

    async def test_cards_are_shown_without_their_bodies(self, desk: Desk) -> None:
        await desk.card(body="secret recipe", checklist=[{"text": "a", "done": True}, {"text": "b"}])
        (summary,) = (await desk.view()).cards
        assert (summary.checklist_done, summary.checklist_total) == (1, 2)
        assert "secret recipe" not in summary.model_dump_json()

    async def test_a_card_is_shown_as_it_shows_itself(self, desk: Desk) -> None:
        card = await desk.card(labels=["web"], assignee_id=desk.ada.user_id, due_date="2026-12-24", checklist=[])
        (summary,) = (await desk.view()).cards
        assert summary.model_dump() == card.model_dump(include=set(CardSummary.model_fields))

    async def test_a_thousand_cards_are_less_than_300_kilobytes(self, desk: Desk) -> None:
        await desk.card("Card 1000", body="Text. " * 40)
        page = await desk.world.platform.boards.view(desk.ada, desk.board)
        assert 1000 * len(page.summaries[0]) < 285_000

    async def test_events_whose_cards_named_their_board_stay_readable(self, desk: Desk) -> None:
        await desk.card()
        event = await desk.last_event()
        data = event["data"]
        assert isinstance(data, dict)
        shown = parse({**event, "data": data | {"card": data["card"] | {"board_id": desk.board}}})
        assert shown == parse(event)

    async def test_labels_in_use_are_offered(self, desk: Desk) -> None:
        await desk.card(labels=["web", "api"])
        await desk.card(labels=["api"])
        assert (await desk.view()).board.labels == ["api", "web"]

    async def test_a_team_without_a_repository_is_told_why_no_agent_can_start(self, desk: Desk) -> None:
        team = await desk.world.team(desk.ada, "No code")
        board = (await desk.world.platform.boards.view(desk.ada, team.board_id)).board
        assert not board.agents.enabled
        assert "no repository" in (board.agents.reason or "")

    @pytest.mark.parametrize("board", ["", "board_x", "board_w0123456789", "../..", "board_../x"])
    async def test_a_board_that_does_not_exist_is_not_found(self, desk: Desk, board: str) -> None:
        with pytest.raises(NotFound):
            await desk.world.platform.boards.view(desk.ada, board)

    async def test_strangers_do_not_learn_that_it_exists(self, desk: Desk) -> None:
        boards = desk.world.platform.boards
        for attempt in (
            boards.view(desk.stranger, desk.board),
            boards.events(desk.stranger, desk.board, 0, 10),
            boards.search(desk.stranger, desk.board, "", None, None),
            boards.add_column(desk.stranger, desk.board, NewColumn(name="x")),
            boards.remove_column(desk.stranger, desk.board, "ready"),
        ):
            with pytest.raises(NotFound):
                await attempt


class TestSearch:
    async def test_cards_are_found_by_words_label_and_assignee(self, desk: Desk) -> None:
        await desk.card("Fix LOGIN page", body="Users cannot sign in", labels=["web"], assignee_id=desk.ada.user_id)
        await desk.card("Login is slow", labels=["api"])

        async def found(text: str = "", label: str | None = None, assignee: str | None = None) -> list[str]:
            cards = await desk.world.platform.boards.search(desk.ada, desk.board, text, label, assignee)
            return [card.title for card in cards]

        assert await found("login") == ["Fix LOGIN page", "Login is slow"]
        assert await found("SIGN login") == ["Fix LOGIN page"]
        assert await found("logout") == []
        assert await found(label="api") == ["Login is slow"]
        assert await found("login", "web", desk.ada.user_id) == ["Fix LOGIN page"]
        assert await found("login", "api", desk.ada.user_id) == []


class TestColumns:
    async def names(self, desk: Desk) -> list[str]:
        return [column.name for column in (await desk.view()).board.columns]

    async def test_a_column_is_added_where_it_was_wanted(self, desk: Desk) -> None:
        boards = desk.world.platform.boards
        await boards.add_column(desk.ada, desk.board, NewColumn(name="Blocked", after_id="backlog"))
        await boards.add_column(desk.ada, desk.board, NewColumn(name="Shipped"))
        assert await self.names(desk) == ["Backlog", "Blocked", "Ready", "In Progress", "Review", "Done", "Shipped"]
        event = await desk.last_event()
        assert event["type"] == "board.updated"

    async def test_a_column_is_renamed_and_moved(self, desk: Desk) -> None:
        boards = desk.world.platform.boards
        await boards.change_column(desk.ada, desk.board, "done", ColumnChange(name="Shipped", after_id=None))
        await boards.change_column(desk.ada, desk.board, "backlog", ColumnChange(after_id="ready"))
        assert await self.names(desk) == ["Shipped", "Ready", "Backlog", "In Progress", "Review"]
        await boards.change_column(desk.ada, desk.board, "done", ColumnChange(kind="plain"))
        assert await self.names(desk) == ["Shipped", "Ready", "Backlog", "In Progress", "Review"]

    async def test_simultaneous_changes_all_happen(self, desk: Desk) -> None:
        adding = (
            desk.world.another_platform().boards.add_column(desk.ada, desk.board, NewColumn(name=f"New {n}"))
            for n in range(4)
        )
        await asyncio.gather(*adding)
        assert {f"New {n}" for n in range(4)} < set(await self.names(desk))

    async def test_a_column_with_cards_stays(self, desk: Desk) -> None:
        await desk.card(column_id="ready")
        with pytest.raises(Conflict, match="still holds 1 card"):
            await desk.world.platform.boards.remove_column(desk.ada, desk.board, "ready")

    async def test_an_empty_column_goes_but_the_last_one_stays(self, desk: Desk) -> None:
        boards = desk.world.platform.boards
        for column in ("ready", "progress", "review", "done"):
            await boards.remove_column(desk.ada, desk.board, column)
        with pytest.raises(Conflict, match="at least one column"):
            await boards.remove_column(desk.ada, desk.board, "backlog")

    async def test_there_is_a_limit(self, desk: Desk) -> None:
        boards = desk.world.platform.boards
        for n in range(25):
            await boards.add_column(desk.ada, desk.board, NewColumn(name=f"{n}"))
        with pytest.raises(Conflict, match="at most 30"):
            await boards.add_column(desk.ada, desk.board, NewColumn(name="one more"))

    async def test_unknown_columns_are_not_found(self, desk: Desk) -> None:
        boards = desk.world.platform.boards
        for attempt in (
            boards.change_column(desk.ada, desk.board, "nowhere", ColumnChange(name="x")),
            boards.remove_column(desk.ada, desk.board, "nowhere"),
            boards.add_column(desk.ada, desk.board, NewColumn(name="x", after_id="nowhere")),
            boards.change_column(desk.ada, desk.board, "done", ColumnChange(after_id="nowhere")),
        ):
            with pytest.raises(NotFound):
                await attempt
        assert len(await self.names(desk)) == 5

    async def test_a_column_cannot_stand_after_itself(self, desk: Desk) -> None:
        with pytest.raises(Invalid):
            await desk.world.platform.boards.change_column(desk.ada, desk.board, "done", ColumnChange(after_id="done"))

    async def test_viewers_cannot_change_them(self, desk: Desk) -> None:
        with pytest.raises(Forbidden):
            await desk.world.platform.boards.add_column(desk.vera, desk.board, NewColumn(name="x"))
