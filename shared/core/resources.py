"""The nouns several rooms share, in the shape that the API and the events show them."""

import re
import unicodedata
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from shared.core.permissions import Role

type TaskStatus = Literal[
    "pending", "running", "succeeded", "failed", "rolling_back", "rolled_back", "cancelled", "needs_attention"
]
type StepStatus = Literal["pending", "running", "succeeded", "failed", "undoing", "undone"]
type RunStatus = Literal["queued", "starting", "running", "succeeded", "failed", "cancelled"]
type PullRequestState = Literal["open", "closed", "merged"]
type ColumnKind = Literal["plain", "start", "review", "done"]

_UNSEEN = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
_BLANK = r"\s\xad\u200b-\u200f\u2060\ufeff"
LINE = StringConstraints(strip_whitespace=True, pattern=rf"^[^{_UNSEEN}]*[^{_UNSEEN}{_BLANK}][^{_UNSEEN}]*$")
"""Names and titles go into commit messages, descriptions and logs: something to read, no control characters, no ends
of lines, nothing that turns the direction of writing."""


def composed(text: str) -> str:
    """Texts that look the same are the same, however a keyboard composes their accents."""
    return unicodedata.normalize("NFC", text)


COMPOSED = AfterValidator(composed)


def _whole(number: object) -> object:
    """JSON has one kind of numbers: 7.0 is the integer 7."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


WHOLE = BeforeValidator(_whole)


def _day(value: object) -> object:
    """Dates are text: a number would be taken for seconds, and a moment for its day."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError("a date like 2026-11-25 is needed")
    return value


type Day = Annotated[date, BeforeValidator(_day), Field(strict=False)]

type Reference = Annotated[str, StringConstraints(max_length=100)]
"""What names something else, such as an id or an address part: no longer than any that there is."""

RUN_OVER: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
TASK_OVER: frozenset[str] = frozenset({"succeeded", "failed", "rolled_back", "cancelled", "needs_attention"})


class Request(BaseModel):
    """Base of what people and programs ask for: nothing is converted, unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Resource(BaseModel):
    """Base of what we store and send: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")

    def json_body(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


class Actor(Resource):
    """Who did something."""

    id: str
    name: str
    kind: Literal["user", "agent"]


class Subject(Resource):
    """What a task works on."""

    kind: Literal["team", "workspace"]
    id: str
    name: str


class Step(Resource):
    name: str
    title: str
    status: StepStatus = "pending"
    progress: float | None = Field(None, ge=0, le=1)
    note: str | None = None
    error: str | None = None
    attempts: int = 0
    started_at: str | None = None
    finished_at: str | None = None


class Task(Resource):
    """Long work as its owner sees it."""

    id: str
    plan: str
    title: str
    subject: Subject
    team_id: str
    status: TaskStatus
    steps: list[Step]
    error: str | None = None
    created_at: str
    updated_at: str
    sequence: int = 0


class StartedTask(Resource):
    """Work that goes on after the answer: `GET /api/tasks/{task_id}`."""

    task_id: str


class Column(Resource):
    """`start`: a card moved here starts an agent. `review`: runs hand their cards back here."""

    id: str
    name: str
    kind: ColumnKind = "plain"


class AgentAvailability(Resource):
    """Whether cards of a board can start agents, and if not, why."""

    enabled: bool
    reason: str | None = None
    agent_id: str | None = None
    demo_model: bool
    isolated: bool


class RepositoryInfo(Resource):
    full_name: str
    html_url: str
    clone_url: str
    default_branch: str


class Board(Resource):
    id: str
    name: str
    team_id: str
    workspace_id: str | None
    role: Role
    columns: list[Column]
    labels: list[str]
    repository: RepositoryInfo | None
    agents: AgentAvailability
    sequence: int


class RunBadge(Resource):
    """The latest run of a card, as the board shows it, and how the card's pull request stands."""

    id: str
    status: RunStatus
    pull_request: PullRequestState | None = None


class PullRequestInfo(Resource):
    """Where people review a change; `closed` is one that was closed without being merged."""

    number: int
    html_url: str
    state: PullRequestState = "open"
    merged_at: str | None = None


class CardSummary(Resource):
    """A card as its board shows it. Fields of summaries in events that were kept earlier are left out."""

    model_config = ConfigDict(extra="ignore")
    id: str
    column_id: str
    rank: str
    title: str
    labels: list[str] = []
    assignee_id: str | None = None
    due_date: str | None = None
    checklist_done: int = 0
    checklist_total: int = 0
    comment_count: int = 0
    run: RunBadge | None = None
    etag: str = ""
    updated_at: str
    revision: int = Field(0, description="Counts the changes: of two states of a card the later one has more")


class Comment(Resource):
    id: str
    card_id: str
    author_id: str
    author_name: str
    author_kind: Literal["user", "agent"]
    body: str
    created_at: str


class Usage(Resource):
    """Model usage; `input_tokens` excludes what was read from or written to the cache.

    `requests` are those the model answered. `cost_usd` is without `unpriced_requests`: their model has no known price.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    requests: int = 0
    failed_requests: int = 0
    unpriced_requests: int = 0
    cost_usd: float = 0.0


class RunLimits(Resource):
    turns: int
    seconds: int
    tokens: int
    spend_cap_usd: float


class RunResult(Resource):
    """The evidence of a finished run: what its branch holds that the default branch has not.

    `no_pull_request` says why there is no pull request.
    """

    run_id: str
    branch: str
    commit: str
    commits: int
    additions: int
    deletions: int
    files_changed: int
    html_url: str | None = None
    pull_request: PullRequestInfo | None = None
    no_pull_request: str | None = None


class Run(Resource):
    """One attempt of an agent at a card."""

    id: str
    card_id: str
    board_id: str
    team_id: str
    status: RunStatus
    reason: str | None = None
    attempt: int = 1
    branch: str
    model: str
    demo_model: bool
    turns: int = 0
    usage: Usage = Usage()
    limits: RunLimits
    result: RunResult | None = None
    summary: str | None = None
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    started_by: str
    sequence: int = 0
