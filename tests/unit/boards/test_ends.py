"""Where columns end, known from what changed: the same as from a look at all cards."""

import random
from pathlib import Path

import pytest

from shared.adapters.tinydb_documents import TinyDbDocuments
from shared.core import ids, rank
from shared.core.boards import BoardRepository, CardRecord, board_partition, card_key
from shared.core.errors import PlatformError
from shared.core.ports import Delete, Documents, Put
from tests.fakes import FakeDocuments

SCOPE = "t0123456789"
PARTITION = board_partition(SCOPE)
COLUMNS = ("a", "b", "c")


def card(column: str, place: str) -> CardRecord:
    time = "2026-01-01T00:00:00.000Z"
    made = {"created_at": time, "updated_at": time, "created_by": "u"}
    return CardRecord(
        id=ids.scoped("card", SCOPE), board_id=ids.board_id(SCOPE), column_id=column, rank=place, title="x", **made
    )


def put(card: CardRecord) -> Put:
    return Put(card_key(card.id), card.json_body(), "*")


def below_all(cards: list[CardRecord], column: str, but: str) -> str:
    ranks = [each.rank for each in cards if each.column_id == column and each.id != but]
    return rank.between(max(ranks, default=None), None)


@pytest.fixture(params=["tinydb", "fake"])
def documents(request: pytest.FixtureRequest, tmp_path: Path) -> Documents:
    return TinyDbDocuments(tmp_path) if request.param == "tinydb" else FakeDocuments()


@pytest.mark.parametrize("seed", range(5))
async def test_follow_all_that_happens_to_a_board(documents: Documents, seed: int):
    chance, boards, cards = random.Random(seed), BoardRepository(documents), list[CardRecord]()
    for _ in range(200):
        for _ in range(chance.choice((0, 1, 1, 2, 5))):  # more may happen between two looks
            match chance.choice(("make", "make", "move", "move", "to the top", "edit", "delete")):
                case "make":
                    cards.append(
                        card(chance.choice(COLUMNS), rank.between(max((c.rank for c in cards), default=None), None))
                    )
                    await documents.commit(PARTITION, [put(cards[-1])])
                case "delete" if cards:
                    gone = cards.pop(chance.randrange(len(cards)))
                    await documents.commit(PARTITION, [Delete(card_key(gone.id))])
                case kind if cards:
                    changed = chance.choice(cards)
                    if kind == "move":
                        changed.column_id = chance.choice(COLUMNS)
                        changed.rank = below_all(cards, changed.column_id, changed.id)
                    elif kind == "to the top":
                        changed.rank = rank.between(None, min(c.rank for c in cards))
                    changed.title += "."
                    await documents.commit(PARTITION, [put(changed)])
                case _:
                    pass
        ends = await boards.ends(SCOPE)
        assert ends.cards == len(cards)
        for column in COLUMNS:
            for but in ("", chance.choice(cards).id if cards else ""):
                assert ends.below(column, but) == below_all(cards, column, but)


async def test_are_not_told_while_a_card_cannot_be_read(tmp_path: Path):
    documents = TinyDbDocuments(tmp_path)
    boards = BoardRepository(documents)
    await documents.commit(PARTITION, [put(card("a", "b"))])
    for _ in range(2):
        await boards.ends(SCOPE)
    broken = Put(card_key(ids.scoped("card", SCOPE)), {"rank": "c"}, "*")
    last = card("a", "x")
    await documents.commit(PARTITION, [broken, put(last)])
    for _ in range(3):
        with pytest.raises((KeyError, TypeError, PlatformError)):
            await boards.ends(SCOPE)
    await documents.commit(PARTITION, [Delete(broken.id)])
    assert (await boards.ends(SCOPE)).below("a") == rank.between(last.rank, None)


async def test_of_an_empty_board_are_the_middle(documents: Documents):
    assert (await BoardRepository(documents).ends(SCOPE)).below("a") == rank.between(None, None)


async def test_are_those_that_another_process_made(tmp_path: Path):
    one, other = TinyDbDocuments(tmp_path), TinyDbDocuments(tmp_path)
    boards, last = BoardRepository(one), rank.between(None, None)
    for _ in range(5):
        made = card("a", last)
        await other.commit(PARTITION, [put(made)])
        last = rank.between(last, None)
        assert (await boards.ends(SCOPE)).below("a") == last
