"""Keys and usage as requested and shown."""

from typing import Annotated, Literal

from pydantic import Field

from shared.core.resources import COMPOSED, LINE, WHOLE, Request, Resource, Usage
from shared.core.usage import Dimension
from shared.llm.models import LONGEST_MODEL, Budget, RateLimits, Scope

type KeyName = Annotated[str, LINE, Field(min_length=1, max_length=100), COMPOSED]
type Models = Annotated[
    list[Annotated[str, LINE, Field(min_length=1, max_length=LONGEST_MODEL)]], Field(min_length=1, max_length=50)
]
type Days = Annotated[int, Field(ge=1, le=3650), WHOLE]


class NewKey(Request):
    """`scope`: whom it is for; the team when left out. `models`: the only ones it may ask; any when left out."""

    name: KeyName
    scope: Scope | None = None
    models: Models | None = None
    expires_in_days: Days | None = None
    rates: RateLimits = RateLimits()
    budget: Budget = Budget()


class KeyChanges(Request):
    """What is left out stays as it is."""

    name: KeyName | None = None
    disabled: bool | None = None
    models: Models | None = None
    expires_in_days: Days | None = None
    rates: RateLimits | None = None
    budget: Budget | None = None


class Rotation(Request):
    """`overlap_hours`: how long the old key is good beside the new one."""

    overlap_hours: Annotated[int, Field(ge=0, le=30 * 24), WHOLE] = 24


class Key(Resource):
    """A virtual key, without itself. `own`: the team's, which its agents use and nobody sees."""

    id: str
    team_id: str
    name: str
    scope: Scope
    begins_with: str
    own: bool
    created_at: str
    created_by: str
    expires_at: str | None
    replaced_by: str | None
    disabled: bool
    models: list[str] | None
    rates: RateLimits
    budget: Budget
    usage: Usage


class CreatedKey(Key):
    """Shown this once: only a hash of `key` is kept."""

    key: str


class KeyList(Resource):
    items: list[Key]


class UsageRow(Resource):
    """What one value of the dimension used; `key` is its id, date or name, empty for calls without."""

    key: str
    usage: Usage


class Outcomes(Resource):
    """What the money was spent for, as it stands today. A cost per nothing is null.

    A pull request takes all runs of its card: of one run, model or key `merged_pull_requests` is null too.
    """

    runs: int
    runs_succeeded: int
    cards_done: int
    cost_per_successful_run_usd: float | None
    cost_per_done_card_usd: float | None
    merged_pull_requests: int | None
    cost_per_merged_pull_request_usd: float | None


class UsageReport(Resource):
    """Usage of the days `first` to `last` (UTC) by one dimension; all figures of cards and runs are of these days."""

    first: str
    last: str
    group_by: Dimension
    total: Usage
    rows: list[UsageRow]
    outcomes: Outcomes


type Format = Literal["json", "csv"]
