"""Boards and cards as requested and shown."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from shared.core.boards import ChecklistItem
from shared.core.resources import (
    COMPOSED,
    LINE,
    Board,
    CardSummary,
    ColumnKind,
    Comment,
    Day,
    Reference,
    Request,
    RunResult,
)

type Label = Annotated[str, LINE, Field(min_length=1, max_length=40), COMPOSED]
type Title = Annotated[str, LINE, Field(min_length=1, max_length=200), COMPOSED]
MAX_BODY = 64_000


class NewColumn(Request):
    name: Title
    kind: ColumnKind = "plain"
    after_id: Reference | None = None


class ColumnChange(Request):
    """Fields that are left out stay as they are; `after_id: null` moves the column to the front."""

    name: Title | None = None
    kind: ColumnKind | None = None
    after_id: Reference | None = None


class NewCard(Request):
    title: Title
    body: str = Field("", max_length=MAX_BODY)
    column_id: Reference | None = None
    labels: list[Label] = Field(default_factory=list, max_length=20)
    assignee_id: Reference | None = None
    due_date: Day | None = None
    checklist: list[ChecklistItem] = Field(default_factory=list, max_length=100)


class CardChange(Request):
    """Fields that are left out stay as they are."""

    title: Title | None = None
    body: str | None = Field(None, max_length=MAX_BODY)
    labels: list[Label] | None = Field(None, max_length=20)
    assignee_id: Reference | None = None
    due_date: Day | None = None
    checklist: list[ChecklistItem] | None = Field(None, max_length=100)


class CardPut(CardChange):
    """A change that may also move the card to another column."""

    column_id: Reference | None = None


class CardMove(Request):
    """`before_id`: the card that shall stand above it; `after_id`: the one below it; neither: the end of the column."""

    column_id: Reference
    before_id: Reference | None = None
    after_id: Reference | None = None
    expected_column: Reference | None = None


class NewComment(Request):
    body: str = Field(min_length=1, max_length=16_000, pattern=r"\S")


class Card(CardSummary):
    board_id: str
    body: str
    checklist: list[ChecklistItem]
    created_at: str
    created_by: str
    result: RunResult | None


class BoardView(BaseModel):
    board: Board
    cards: list[CardSummary]


@dataclass(frozen=True, slots=True)
class BoardPage:
    """A BoardView whose cards are JSON already: a board of a thousand cards is read far more often than changed."""

    board: Board
    summaries: list[bytes]

    @property
    def cards(self) -> list[CardSummary]:
        return [CardSummary.model_validate_json(summary) for summary in self.summaries]

    def json(self) -> bytes:
        """As BoardView describes it."""
        return b'{"board":%b,"cards":[%b]}' % (self.board.model_dump_json().encode(), b",".join(self.summaries))


class CardList(BaseModel):
    items: list[CardSummary]


class CommentList(BaseModel):
    items: list[Comment]


class HistoryEntry(BaseModel):
    time: str
    type: str
    by: str
    by_kind: Literal["user", "agent"]
    text: str


class History(BaseModel):
    items: list[HistoryEntry]
