"""The catalogue of every event: CloudEvents 1.0 whose `data` has one shape per `type`.

The TypeScript types come from it through OpenAPI, docs/events.md is generated from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from shared.core.resources import (
    WHOLE,
    Actor,
    AgentAvailability,
    CardSummary,
    Column,
    Comment,
    Resource,
    Run,
    Task,
    Usage,
)

SOURCE = "kanban-platform"
LONGEST_TEXT = 100_000
_HIGHEST = 2**53


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    """JSON that can be kept: numbers of 64 bits, whole characters, not nested without end."""
    try:
        orjson.dumps(value)
    except TypeError as error:
        raise ValueError(f"it cannot be kept: {error}") from None
    return value


type Whole = Annotated[int, Field(ge=0, le=_HIGHEST), WHOLE]
type Detail = Annotated[dict[str, Any], AfterValidator(_storable)]


class TaskData(Resource):
    """The whole task as it stands after the event."""

    task: Task


class ProvisionedData(Resource):
    team_id: str
    workspace_id: str | None = None
    name: str


class DeletedData(Resource):
    team_id: str
    workspace_id: str | None = None
    name: str


class CardData(Resource):
    """`from_column` on moves only; `changes` names the fields of an update."""

    team_id: str
    board_id: str
    by: Actor
    card: CardSummary
    from_column: str | None = None
    changes: list[str] = Field(default_factory=list)


class CommentData(Resource):
    team_id: str
    board_id: str
    card_id: str
    comment: Comment
    comment_count: int = Field(0, description="How many the card has with this one")


class BoardData(Resource):
    team_id: str
    board_id: str
    columns: list[Column]
    agents: AgentAvailability


class RunData(Resource):
    """The whole run as it stands after the event."""

    team_id: str
    board_id: str
    card_id: str
    run: Run


class Activity(BaseModel):
    """What an agent did: `kind` says which of the other fields are there (see agent_container/CONTRACT.md)."""

    model_config = ConfigDict(extra="forbid", strict=True)
    kind: Literal["status", "turn", "text", "tool_use", "tool_result", "commit", "push"]
    text: str | None = Field(None, max_length=LONGEST_TEXT)
    turn: Whole | None = None
    stop_reason: str | None = Field(None, max_length=LONGEST_TEXT)
    usage: Detail | None = None
    tool_use_id: str | None = Field(None, max_length=LONGEST_TEXT)
    name: str | None = Field(None, max_length=LONGEST_TEXT)
    input: Detail | None = None
    output: str | None = Field(None, max_length=LONGEST_TEXT)
    is_error: bool | None = None
    duration_ms: Whole | None = None
    sha: str | None = Field(None, max_length=LONGEST_TEXT)
    message: str | None = Field(None, max_length=LONGEST_TEXT)
    files: list[str] | None = Field(None, max_length=1_000)
    branch: str | None = Field(None, max_length=LONGEST_TEXT)


class ProgressData(Activity):
    """One activity of a run's agent."""

    team_id: str
    board_id: str
    card_id: str
    run_id: str


class UsageData(Resource):
    """Totals of the run so far."""

    team_id: str
    card_id: str | None = None
    run_id: str | None = None
    usage: Usage


class _Event(BaseModel):
    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str = SOURCE
    time: str
    subject: str
    sequence: int
    datacontenttype: Literal["application/json"] = "application/json"


class TaskEvent(_Event):
    type: Literal[
        "task.created", "task.progress", "task.completed", "task.failed", "task.rolled_back", "task.cancelled"
    ]
    data: TaskData


class ProvisionedEvent(_Event):
    type: Literal["team.provisioned", "workspace.provisioned"]
    data: ProvisionedData


class DeletedEvent(_Event):
    type: Literal["team.deleted", "workspace.deleted"]
    data: DeletedData


class CardEvent(_Event):
    type: Literal["card.created", "card.updated", "card.moved", "card.deleted"]
    data: CardData


class CommentEvent(_Event):
    type: Literal["comment.created"]
    data: CommentData


class BoardEvent(_Event):
    type: Literal["board.updated"]
    data: BoardData


class RunEvent(_Event):
    type: Literal[
        "agent.queued", "agent.starting", "agent.started", "agent.completed", "agent.failed", "agent.cancelled"
    ]
    data: RunData


class ProgressEvent(_Event):
    type: Literal["agent.progress"]
    data: ProgressData


class UsageEvent(_Event):
    type: Literal["usage.recorded"]
    data: UsageData


type Event = Annotated[
    TaskEvent
    | ProvisionedEvent
    | DeletedEvent
    | CardEvent
    | CommentEvent
    | BoardEvent
    | RunEvent
    | ProgressEvent
    | UsageEvent,
    Field(discriminator="type"),
]

CATALOGUE: tuple[type[_Event], ...] = (
    TaskEvent,
    ProvisionedEvent,
    DeletedEvent,
    CardEvent,
    CommentEvent,
    BoardEvent,
    RunEvent,
    ProgressEvent,
    UsageEvent,
)
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class EventPage(BaseModel):
    """Events after a sequence, and the highest sequence there is."""

    items: list[Event]
    last: int


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be sent: `subject` owns the sequence, `groups` are who sees it live."""

    type: str
    subject: str
    data: BaseModel
    groups: Sequence[str] = ()
    id: str | None = None


def check(event: dict[str, Any]) -> None:
    """Raises ValueError (pydantic) when a type or its data is not in the catalogue."""
    _EVENT.validate_python({**event, "sequence": event.get("sequence", 0)})


def parse(event: dict[str, Any]) -> Event:
    return _EVENT.validate_python(event)
