"""Boards, cards and runs as kept in `boards/<scope>`. In core because people and agents both change them."""

from dataclasses import dataclass
from itertools import compress, count
from operator import attrgetter, is_not
from typing import Any, Literal

from pydantic import Field

from shared.core import ids, rank
from shared.core.errors import NotFound
from shared.core.packed import packed
from shared.core.ports import Doc, Documents
from shared.core.resources import (
    CardSummary,
    Column,
    Comment,
    RepositoryInfo,
    Request,
    Resource,
    Run,
    RunBadge,
    RunResult,
)

_BOARDS_REMEMBERED = 256
_SHOWN: dict[str, Any] = {name: shown.get_default() for name, shown in CardSummary.model_fields.items()}


class AgentRef(Resource):
    """The agent that a board's start columns call: its webhook, and where the signing secret is kept."""

    agent_id: str
    webhook_url: str
    secret_name: str


class BoardRecord(Resource):
    id: str
    name: str
    team_id: str
    workspace_id: str | None
    columns: list[Column]
    repository: RepositoryInfo | None = None
    agent: AgentRef | None = None

    def column(self, column_id: str) -> Column:
        found = next((column for column in self.columns if column.id == column_id), None)
        if found is None:
            raise NotFound(f"This board has no column {column_id!r}.")
        return found

    def placed(self, card: "CardRecord") -> "CardRecord":
        """The card; in the first column when its own was removed at the moment it came there."""
        if not any(column.id == card.column_id for column in self.columns):
            card.column_id = self.columns[0].id
        return card

    def first(self, kind: Literal["plain", "start", "review", "done"]) -> Column | None:
        return next((column for column in self.columns if column.kind == kind), None)


class ChecklistItem(Request):
    id: str = Field(default_factory=lambda: ids.random_text(8), min_length=1, max_length=64)
    text: str = Field(min_length=1, max_length=500, pattern=r"\S")
    done: bool = False


class CardRecord(Resource):
    id: str
    board_id: str
    column_id: str
    rank: str
    title: str
    body: str = ""
    labels: list[str] = Field(default_factory=list)
    assignee_id: str | None = None
    due_date: str | None = None
    checklist: list[ChecklistItem] = Field(default_factory=list)
    comment_count: int = 0
    run: RunBadge | None = None
    result: RunResult | None = None
    created_at: str
    created_by: str
    updated_at: str
    revision: int = 0
    """Events of a card that two processes send may come in another order than they were made."""

    def summary(self, etag: str) -> CardSummary:
        return CardSummary(
            **self.model_dump(exclude={"board_id", "body", "checklist", "result", "created_at", "created_by"}),
            checklist_done=sum(item.done for item in self.checklist),
            checklist_total=len(self.checklist),
            etag=etag,
        )


@dataclass(frozen=True, slots=True)
class CardLine:
    """What a board needs to know of a card: its place, and its summary as JSON."""

    id: str
    column_id: str
    rank: str
    labels: tuple[str, ...]
    summary: bytes

    @classmethod
    def of(cls, doc: Doc) -> "CardLine":
        """Straight from its JSON, since a board has thousands: the same as `summary` of its CardRecord."""
        body = doc.body
        shown = {name: body.get(name, default) for name, default in _SHOWN.items()}
        checklist = body.get("checklist", ())
        shown["checklist_done"], shown["checklist_total"] = sum(item["done"] for item in checklist), len(checklist)
        shown["etag"] = doc.etag
        return cls(shown["id"], shown["column_id"], shown["rank"], tuple(shown["labels"]), packed(shown))


class Ends:
    """Where the columns of a board end, and how many cards it has."""

    def __init__(self, docs: list[Doc]) -> None:
        self._docs: list[Doc] = []
        self._last: dict[str, CardLine] = {}
        self._take(docs, docs)

    @property
    def cards(self) -> int:
        return len(self._docs)

    def follow(self, docs: list[Doc]) -> bool:
        """Go on to what the board has become, by a look at what changed; False where that does not say it.

        A store that keeps documents in memory answers with the same objects while they are the same versions.
        """
        changed = list(compress(count(), map(is_not, docs, self._docs)))
        gone = (_line(self._docs[n]) for n in changed)
        if len(docs) < len(self._docs) or any(self._last.get(line.column_id) is line for line in gone):
            return False
        self._take(docs, [docs[n] for n in changed] + docs[len(self._docs) :])
        return True

    def below(self, column_id: str, but: str = "") -> str:
        """The rank below all cards of a column, not counting the card `but`."""
        last = self._last.get(column_id)
        if last is not None and last.id == but:
            others = (line for line in map(_line, self._docs) if line.column_id == column_id and line.id != but)
            last = max(others, key=attrgetter("rank"), default=None)
        return rank.between(last.rank if last else None, None)

    def _take(self, docs: list[Doc], new: list[Doc]) -> None:
        lines = [_line(doc) for doc in new]  # or none is taken in, when one cannot be read
        self._docs = docs
        for line in lines:
            last = self._last.get(line.column_id)
            if last is None or line.rank > last.rank:
                self._last[line.column_id] = line


def _line(doc: Doc) -> CardLine:
    """What is known of a version is not worked out again."""
    return doc.derived or doc.derive(CardLine.of)


class RunRecord(Run):
    """A run as kept: what people see, and what its life cycle needs."""

    epoch: int = 1
    check_at: str
    """When the watchdog shall look whether anybody still follows it."""
    looked_at: str = ""
    """When somebody last followed it."""
    seconds: float = 0
    """How long it has lasted, as far as it was followed: a clock that jumps adds little."""
    dispatch_failures: int = 0
    comment_cursor: str = ""
    """Id of the last comment its agent has seen."""
    container: str = ""
    """What the container that took it calls itself; another one is refused."""

    def run(self, sequence: int = 0) -> Run:
        shown = self.model_dump(
            exclude={
                *("epoch", "check_at", "looked_at", "seconds", "dispatch_failures", "comment_cursor", "container"),
                "sequence",
            }
        )
        return Run(**shown, sequence=sequence)

    @property
    def reference(self) -> str:
        return f"run/{self.id}"

    @property
    def job_name(self) -> str:
        return self.id.replace("_", "-")


def board_partition(scope: str) -> str:
    return f"boards/{scope}"


def card_partition(card_id: str) -> str:
    return board_partition(ids.scope_of(card_id, "card"))


def card_key(card_id: str) -> str:
    return f"card/{card_id}"


def run_key(run_id: str) -> str:
    return f"run/{run_id}"


class BoardRepository:
    """Typed access to one board's partition. Ids lead straight to it."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._ends: dict[str, Ends] = {}

    async def board(self, scope: str) -> tuple[BoardRecord, str]:
        doc = await self._documents.get(board_partition(scope), "board")
        if doc is None:
            raise NotFound("There is no such board.")
        return BoardRecord.model_validate_json(doc.raw), doc.etag

    async def card(self, card_id: str) -> tuple[CardRecord, str]:
        doc = await self._documents.get(board_partition(ids.scope_of(card_id, "card")), card_key(card_id))
        if doc is None:
            raise NotFound("There is no such card; it may have been deleted.")
        return CardRecord.model_validate_json(doc.raw), doc.etag

    async def trashed(self, card_id: str) -> tuple[CardRecord, str]:
        doc = await self._documents.get(board_partition(ids.scope_of(card_id, "card")), f"trash/{card_id}")
        if doc is None:
            raise NotFound("There is no such deleted card.")
        return CardRecord.model_validate_json(doc.raw), doc.etag

    async def cards(self, scope: str) -> list[tuple[CardRecord, str]]:
        """All cards in the order of their ranks."""
        docs = await self._documents.query(board_partition(scope), "card/")
        cards = [(CardRecord.model_validate_json(doc.raw), doc.etag) for doc in docs]
        return sorted(cards, key=lambda pair: (pair[0].rank, pair[0].id))

    async def lines(self, scope: str) -> list[CardLine]:
        """All cards in the order of their ids."""
        return list(map(_line, await self._cards(scope)))

    async def ends(self, scope: str) -> Ends:
        """Where its columns end now: to be used before anything else is waited for."""
        docs = await self._cards(scope)
        ends = self._ends.get(scope)
        if ends is not None and ends.follow(docs):
            return ends
        kept = bool(docs) and docs[0].derived is not None  # by a store that has them in memory anyhow
        ends = Ends(docs)
        if kept:
            if scope not in self._ends and len(self._ends) >= _BOARDS_REMEMBERED:
                self._ends.clear()
            self._ends[scope] = ends
        return ends

    async def _cards(self, scope: str) -> list[Doc]:
        return await self._documents.query(board_partition(scope), "card/")

    async def comments(self, card_id: str, after: str = "") -> list[Comment]:
        """Comments of a card, oldest first, those after comment id `after`."""
        prefix = f"comment/{card_id}/"
        partition = board_partition(ids.scope_of(card_id, "card"))
        docs = await self._documents.query(partition, prefix, after=prefix + after if after else "")
        return [Comment.model_validate_json(doc.raw) for doc in docs]

    async def run(self, run_id: str) -> tuple[RunRecord, str]:
        doc = await self._documents.get(board_partition(ids.scope_of(run_id, "run")), run_key(run_id))
        if doc is None:
            raise NotFound("There is no such run.")
        return RunRecord.model_validate_json(doc.raw), doc.etag

    async def has_run(self, run_id: str) -> bool:
        return await self._documents.get(board_partition(ids.scope_of(run_id, "run")), run_key(run_id)) is not None

    async def runs(self, scope: str) -> list[RunRecord]:
        """All runs of a board, oldest first."""
        docs = await self._documents.query(board_partition(scope), "run/")
        return sorted(
            (RunRecord.model_validate_json(doc.raw) for doc in docs), key=lambda run: (run.created_at, run.attempt)
        )
