"""Columns and cards: what people do on a board, alone and together."""

import asyncio
import random
from typing import Any

import pytest

from tests.flows.world import Json, Person, board_of, events_of, join, make_card, make_team, move


@pytest.fixture
async def team(ada: Person) -> Json:
    return await make_team(ada, "Board")


@pytest.fixture(scope="module")
async def shared(ada: Person, bob: Person) -> Json:
    """One team for tests that do not mind other cards."""
    team = await make_team(ada, "Together")
    await join(ada, team["id"], bob, "member")
    return team


async def _columns(person: Person, team: Json) -> list[str]:
    return [column["name"] for column in (await board_of(person, team["board_id"]))["columns"]]


async def _titles(person: Person, team: Json, column_id: str) -> list[str]:
    cards = (await person.get(f"/api/boards/{team['board_id']}"))["cards"]
    assert cards == sorted(cards, key=lambda card: (card["rank"], card["id"]))
    return [card["title"] for card in cards if card["column_id"] == column_id]


class TestColumns:
    async def test_can_be_added_renamed_moved_and_given_a_kind(self, ada: Person, team: Json):
        path = f"/api/boards/{team['board_id']}/columns"
        assert await _columns(ada, team) == ["Backlog", "Ready", "In Progress", "Review", "Done"]
        last = await ada.post(path, {"name": "Shipped"})
        assert last["kind"] == "plain"
        tested = await ada.post(path, {"name": "Testing", "after_id": "review"})
        assert await _columns(ada, team) == [
            "Backlog",
            "Ready",
            "In Progress",
            "Review",
            "Testing",
            "Done",
            "Shipped",
        ]
        renamed = await ada.patch(f"{path}/{tested['id']}", {"name": "QA"})
        assert (renamed["name"], renamed["kind"]) == ("QA", "plain")
        await ada.patch(f"{path}/{tested['id']}", {"kind": "done"})
        await ada.patch(f"{path}/{last['id']}", {"after_id": None})
        await ada.patch(f"{path}/{tested['id']}", {"after_id": last["id"]})
        assert (await _columns(ada, team))[:3] == ["Shipped", "QA", "Backlog"]
        kinds = {c["name"]: c["kind"] for c in (await board_of(ada, team["board_id"]))["columns"]}
        assert kinds["QA"] == "done"
        updates = [e for e in await events_of(ada, f"boards/{team['board_id']}") if e["type"] == "board.updated"]
        assert [c["name"] for c in updates[-1]["data"]["columns"]] == await _columns(ada, team)

    async def test_with_cards_cannot_be_removed(self, ada: Person, team: Json):
        card = await make_card(ada, team["board_id"], "In the way")
        path = f"/api/boards/{team['board_id']}/columns/backlog"
        refused = await ada.refused("DELETE", path)
        assert refused["status"] == 409
        assert "1 card" in refused["detail"]
        await move(ada, card["id"], "ready")
        assert (await ada.request("DELETE", path)).status_code == 204
        assert "Backlog" not in await _columns(ada, team)

    async def test_the_last_one_stays(self, ada: Person, team: Json):
        path = f"/api/boards/{team['board_id']}/columns"
        for column in ("backlog", "ready", "progress", "review"):
            await ada.delete(f"{path}/{column}")
        assert (await ada.refused("DELETE", f"{path}/done"))["status"] == 409

    async def test_a_card_whose_column_goes_at_that_moment_stays_in_sight(self, ada: Person, team: Json):
        path = f"/api/boards/{team['board_id']}/columns"
        for number in range(6):
            column = await ada.post(path, {"name": f"Brief {number}"})
            await asyncio.gather(
                ada.request(
                    "POST",
                    f"/api/boards/{team['board_id']}/cards",
                    json={"title": f"Card {number}", "column_id": column["id"]},
                ),
                ada.request("DELETE", f"{path}/{column['id']}"),
            )
        view = await ada.get(f"/api/boards/{team['board_id']}")
        columns = {column["id"] for column in view["board"]["columns"]}
        assert {card["column_id"] for card in view["cards"]} <= columns

    @pytest.mark.parametrize(
        ("method", "column", "body", "status"),
        [
            ("POST", "", {"name": ""}, 422),
            ("POST", "", {"name": "X", "kind": "magic"}, 422),
            ("POST", "", {"name": "X", "after_id": "nowhere"}, 404),
            ("PATCH", "/nowhere", {"name": "X"}, 404),
            ("PATCH", "/ready", {"after_id": "ready"}, 422),
            ("PATCH", "/ready", {"color": "red"}, 422),
            ("DELETE", "/nowhere", None, 404),
        ],
    )
    async def test_mistakes_are_refused(
        self, ada: Person, shared: Json, method: str, column: str, body: Any, status: int
    ):
        path = f"/api/boards/{shared['board_id']}/columns{column}"
        assert (await ada.refused(method, path, body))["status"] == status


class TestCard:
    async def test_is_made_read_changed_and_deleted(self, ada: Person, bob: Person, shared: Json):
        answer = await ada.request(
            "POST",
            f"/api/boards/{shared['board_id']}/cards",
            json={
                "title": "  Write docs ",
                "body": "# Why\n\nPeople ask.",
                "labels": ["docs", "easy"],
                "assignee_id": bob.id,
                "due_date": "2027-01-31",
                "checklist": [{"text": "outline", "done": True}, {"text": "text"}],
            },
        )
        assert answer.status_code == 201
        card = answer.json()
        assert answer.headers["location"] == f"/api/cards/{card['id']}"
        assert answer.headers["etag"] == f'"{card["etag"]}"'
        assert (card["title"], card["column_id"], card["created_by"]) == ("Write docs", "backlog", ada.id)
        assert (card["checklist_done"], card["checklist_total"]) == (1, 2)
        read = await bob.request("GET", f"/api/cards/{card['id']}")
        assert read.json() == card
        assert read.headers["etag"] == answer.headers["etag"]
        changed = await bob.patch(f"/api/cards/{card['id']}", {"title": "Write the docs", "assignee_id": None})
        assert (changed["title"], changed["assignee_id"], changed["body"]) == ("Write the docs", None, card["body"])
        assert changed["etag"] != card["etag"]
        summary = next(
            c for c in (await ada.get(f"/api/boards/{shared['board_id']}"))["cards"] if c["id"] == card["id"]
        )
        assert summary["etag"] == changed["etag"]
        assert "body" not in summary
        assert {"docs", "easy"} <= set((await board_of(ada, shared["board_id"]))["labels"])
        assert (await ada.request("DELETE", f"/api/cards/{card['id']}")).status_code == 204
        assert (await ada.refused("GET", f"/api/cards/{card['id']}"))["status"] == 404

    async def test_comes_back_from_the_trash_as_it_was(self, ada: Person, shared: Json):
        card = await make_card(ada, shared["board_id"], "Deleted by mistake", "Keep me", labels=["kept"])
        await ada.post(f"/api/cards/{card['id']}/comments", {"body": "And me"})
        await ada.delete(f"/api/cards/{card['id']}")
        restored = await ada.post(f"/api/cards/{card['id']}/restore")
        assert (restored["title"], restored["body"], restored["labels"]) == (
            "Deleted by mistake",
            "Keep me",
            ["kept"],
        )
        assert restored["comment_count"] == 1
        assert len((await ada.get(f"/api/cards/{card['id']}/comments"))["items"]) == 1
        assert (await ada.refused("POST", f"/api/cards/{card['id']}/restore"))["status"] == 404

    async def test_comes_back_even_when_its_column_is_gone(self, ada: Person, team: Json):
        column = await ada.post(f"/api/boards/{team['board_id']}/columns", {"name": "Passing"})
        card = await make_card(ada, team["board_id"], "Homeless", column_id=column["id"])
        await ada.delete(f"/api/cards/{card['id']}")
        await ada.delete(f"/api/boards/{team['board_id']}/columns/{column['id']}")
        restored = await ada.post(f"/api/cards/{card['id']}/restore")
        assert restored["column_id"] == "backlog"

    async def test_a_change_over_somebody_elses_is_refused(self, ada: Person, bob: Person, shared: Json):
        card = await make_card(ada, shared["board_id"], "Contested")
        mine, path = {"if-match": f'"{card["etag"]}"'}, f"/api/cards/{card['id']}"
        await bob.patch(path, {"body": "Bob's"}, **mine)
        refused = await ada.refused("PATCH", path, {"body": "Ada's"}, **mine)
        assert refused["status"] == 412
        assert (await ada.get(path))["body"] == "Bob's"
        fresh = await ada.get(path)
        await ada.patch(path, {"body": "Ada's"}, **{"if-match": f'W/"{fresh["etag"]}"'})

    async def test_changes_of_different_fields_at_once_are_all_kept(self, ada: Person, bob: Person, shared: Json):
        card = await make_card(ada, shared["board_id"], "Busy")
        path = f"/api/cards/{card['id']}"
        await asyncio.gather(
            ada.patch(path, {"title": "Busier"}),
            bob.patch(path, {"body": "Much"}),
            ada.patch(path, {"labels": ["both"]}),
            bob.post(f"{path}/comments", {"body": "Hello"}),
            ada.post(f"{path}/comments", {"body": "Hi"}),
            bob.post(f"{path}/move", {"column_id": "ready"}),
        )
        kept = await ada.get(path)
        assert (kept["title"], kept["body"], kept["labels"], kept["comment_count"], kept["column_id"]) == (
            "Busier",
            "Much",
            ["both"],
            2,
            "ready",
        )

    async def test_a_change_that_changes_nothing_is_no_event(self, ada: Person, shared: Json):
        card = await make_card(ada, shared["board_id"], "Same")
        before = (await board_of(ada, shared["board_id"]))["sequence"]
        same = await ada.patch(f"/api/cards/{card['id']}", {"title": "Same"})
        assert same["etag"] == card["etag"]
        assert (await board_of(ada, shared["board_id"]))["sequence"] == before

    async def test_can_be_assigned_to_members_only(self, ada: Person, grace: Person, shared: Json):
        card = await make_card(ada, shared["board_id"], "Whose?")
        for user_id in (grace.id, "nobody", "../team"):
            refused = await ada.refused("PATCH", f"/api/cards/{card['id']}", {"assignee_id": user_id})
            assert refused["status"] == 422, user_id
            body = {"title": "X", "assignee_id": user_id}
            assert (await ada.refused("POST", f"/api/boards/{shared['board_id']}/cards", body))["status"] == 422

    async def test_put_changes_and_moves_in_one_request(self, ada: Person, shared: Json):
        card = await make_card(ada, shared["board_id"], "Put")
        put = await ada.call("PUT", f"/api/cards/{card['id']}", json={"title": "Put down", "column_id": "done"})
        assert (put["title"], put["column_id"]) == ("Put down", "done")

    async def test_put_that_may_not_move_changes_nothing(self, ada: Person, shared: Json):
        card = await make_card(ada, shared["board_id"], "Whole or not at all")
        body = {"title": "Half", "column_id": "progress"}
        assert (await ada.refused("PUT", f"/api/cards/{card['id']}", body))["status"] == 409
        assert (await ada.get(f"/api/cards/{card['id']}"))["title"] == "Whole or not at all"

    async def test_comments_are_kept_in_order_and_history_tells_everything(
        self, ada: Person, bob: Person, shared: Json
    ):
        card = await make_card(ada, shared["board_id"], "Storied")
        path = f"/api/cards/{card['id']}"
        for person, text in ((ada, "one"), (bob, "two"), (ada, "three")):
            await person.post(f"{path}/comments", {"body": text})
            await asyncio.sleep(0.002)
        comments = (await ada.get(f"{path}/comments"))["items"]
        assert [(c["body"], c["author_name"]) for c in comments] == [
            ("one", "Ada Developer"),
            ("two", "Bob Reviewer"),
            ("three", "Ada Developer"),
        ]
        await bob.patch(path, {"title": "Storied indeed", "due_date": "2027-02-01"})
        await move(ada, card["id"], "done")
        history = (await bob.get(f"{path}/history"))["items"]
        assert [entry["text"] for entry in history] == [
            "moved it from Backlog to Done",
            "changed due date, title",
            "commented",
            "commented",
            "commented",
            "created the card",
        ]
        assert {entry["by_kind"] for entry in history} == {"user"}
        for body in ({"body": ""}, {"body": "   "}, {}):
            assert (await ada.refused("POST", f"{path}/comments", body))["status"] == 422, body

    async def test_search_finds_words_labels_and_people(self, ada: Person, bob: Person, team: Json):
        await join(ada, team["id"], bob, "member")
        path = team["board_id"]
        await make_card(ada, path, "Fix login", "The form forgets people", labels=["bug"])
        await make_card(ada, path, "Login page", "New colours", labels=["design"], assignee_id=bob.id)
        await make_card(ada, path, "Über-Größe", "naïve")

        async def found(**query: str) -> set[str]:
            return {card["title"] for card in (await ada.get(f"/api/boards/{path}/search", **query))["items"]}

        assert await found(q="LOGIN") == {"Fix login", "Login page"}
        assert await found(q="login forgets") == {"Fix login"}
        assert await found(q="login", label="design") == {"Login page"}
        assert await found(assignee_id=bob.id) == {"Login page"}
        assert await found(q="GRÖSSE") == await found(q="größe") == {"Über-Größe"}
        assert await found(q="nothing like it") == set()
        assert len(await found()) == 3


class TestMoveCard:
    async def test_stands_where_it_was_put(self, ada: Person, team: Json):
        cards = {name: await make_card(ada, team["board_id"], name) for name in "ABCD"}
        assert await _titles(ada, team, "backlog") == ["A", "B", "C", "D"]
        await move(ada, cards["D"]["id"], "backlog", before_id=None, after_id=cards["A"]["id"])
        assert await _titles(ada, team, "backlog") == ["D", "A", "B", "C"]
        await move(ada, cards["D"]["id"], "backlog", before_id=cards["B"]["id"])
        assert await _titles(ada, team, "backlog") == ["A", "B", "D", "C"]
        await move(ada, cards["C"]["id"], "ready")
        await move(ada, cards["A"]["id"], "ready")
        assert await _titles(ada, team, "ready") == ["C", "A"]

    async def test_hundreds_of_moves_keep_one_order_for_everybody(self, ada: Person, bob: Person, team: Json):
        await join(ada, team["id"], bob, "member")
        cards = [await make_card(ada, team["board_id"], f"{number}") for number in range(8)]
        ids = {card["id"]: card["title"] for card in cards}
        order = list(ids)
        chance = random.Random(7)
        for _ in range(60):
            moved = chance.choice(order)
            others = [card for card in order if card != moved]
            place = chance.randrange(len(others) + 1)
            above = others[place - 1] if place else None
            below = others[place] if place < len(others) else None
            await move(ada, moved, "backlog", before_id=above, after_id=below)
            order = [*others[:place], moved, *others[place:]]
        assert await _titles(bob, team, "backlog") == [ids[card] for card in order]
        ranks = [card["rank"] for card in (await ada.get(f"/api/boards/{team['board_id']}"))["cards"]]
        assert len(set(ranks)) == len(ranks)
        assert max(len(rank) for rank in ranks) < 40

    async def test_moves_by_two_people_at_once_lose_nothing(self, ada: Person, bob: Person, team: Json):
        await join(ada, team["id"], bob, "member")
        cards = [await make_card(ada, team["board_id"], f"{number}") for number in range(8)]
        chance = random.Random(11)

        async def shuffle(person: Person) -> None:
            for _ in range(12):
                card, column = chance.choice(cards), chance.choice(("backlog", "ready", "review", "done"))
                await move(person, card["id"], column)

        await asyncio.gather(shuffle(ada), shuffle(bob))
        view = await ada.get(f"/api/boards/{team['board_id']}")
        assert sorted(card["title"] for card in view["cards"]) == sorted(card["title"] for card in cards)
        events = await events_of(ada, f"boards/{team['board_id']}")
        places = {card["id"]: "backlog" for card in cards}
        for event in events:
            if event["type"] == "card.moved":
                assert event["data"]["from_column"] == places[event["data"]["card"]["id"]]
                places[event["data"]["card"]["id"]] = event["data"]["card"]["column_id"]
        assert places == {card["id"]: card["column_id"] for card in view["cards"]}
        assert sum(event["type"] == "card.moved" for event in events) == 24

    async def test_from_where_it_no_longer_is_is_refused(self, ada: Person, bob: Person, shared: Json):
        card = await make_card(ada, shared["board_id"], "Elsewhere")
        await move(bob, card["id"], "done", expected_column="backlog")
        body = {"column_id": "ready", "expected_column": "backlog"}
        refused = await ada.refused("POST", f"/api/cards/{card['id']}/move", body)
        assert refused["status"] == 409
        assert "'Done'" in refused["detail"]
        assert (await ada.get(f"/api/cards/{card['id']}"))["column_id"] == "done"

    async def test_of_two_from_the_same_place_one_wins(self, ada: Person, bob: Person, shared: Json):
        card = await make_card(ada, shared["board_id"], "Race")
        answers = await asyncio.gather(
            *(
                person.request(
                    "POST",
                    f"/api/cards/{card['id']}/move",
                    json={"column_id": column, "expected_column": "backlog"},
                )
                for person, column in ((ada, "ready"), (bob, "done"))
            )
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409]

    async def test_to_a_column_that_is_not_there_is_refused(self, ada: Person, shared: Json):
        card = await make_card(ada, shared["board_id"], "Nowhere")
        assert (await ada.refused("POST", f"/api/cards/{card['id']}/move", {"column_id": "x"}))["status"] == 404

    async def test_to_start_an_agent_on_a_board_without_a_repository_says_why(self, ada: Person, shared: Json):
        card = await make_card(ada, shared["board_id"], "No code here")
        refused = await ada.refused("POST", f"/api/cards/{card['id']}/move", {"column_id": "progress"})
        assert refused["status"] == 409
        assert "no repository" in refused["detail"]
        assert "Create a workspace" in refused["detail"]
        assert (await ada.get(f"/api/cards/{card['id']}"))["column_id"] == "backlog"


class TestIdempotencyKey:
    async def test_a_card_sent_twice_is_one_card(self, ada: Person, shared: Json):
        path, headers = f"/api/boards/{shared['board_id']}/cards", {"idempotency-key": "card-1"}
        first = await ada.request("POST", path, json={"title": "Once"}, headers=headers)
        again = await ada.request("POST", path, json={"title": "Once"}, headers=headers)
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.json() == first.json()
        refused = await ada.refused("POST", path, {"title": "Twice"}, **headers)
        assert refused["status"] == 422

    async def test_a_refused_request_may_be_made_again(self, ada: Person, shared: Json):
        path, headers = f"/api/boards/{shared['board_id']}/cards", {"idempotency-key": "card-2"}
        assert (await ada.refused("POST", path, {"title": "X", "column_id": "nowhere"}, **headers))["status"] == 404
        answer = await ada.request("POST", path, json={"title": "X"}, headers=headers)
        assert answer.status_code == 201

    async def test_of_another_person_is_another_key(self, ada: Person, bob: Person, shared: Json):
        path, headers = f"/api/boards/{shared['board_id']}/cards", {"idempotency-key": "card-3"}
        made = [
            (await person.request("POST", path, json={"title": "Mine"}, headers=headers)).json()["id"]
            for person in (ada, bob)
        ]
        assert len(set(made)) == 2
