"""What passes through the gateway: who calls, what they ask, what it used."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from shared.core import ids
from shared.core.clock import iso, parse
from shared.core.errors import Forbidden, PlatformError
from shared.core.messages import Count, PlainId, QueueMessage, Record, ScopedId
from shared.core.resources import WHOLE, Reference, Request, Resource
from shared.llm.ledger import Kind
from shared.llm.upstream import Headers


class TooLarge(PlatformError):
    """The body is over the limit."""

    status: ClassVar[int] = 413
    type: ClassVar[str] = "too-large"
    title: ClassVar[str] = "Request too large"


LONGEST_MODEL = 200
RECORDS_AT_ONCE = 100
"""The most that are recorded together. Common ones fit one queue message."""
CLIENT_GONE = 499
BROKEN_OFF = 502

type RateLimit = Annotated[int, Field(ge=0, le=2**40), WHOLE]
type Money = Annotated[float, Field(ge=0, le=10_000_000, allow_inf_nan=False)]


def _moment(text: str) -> str:
    if iso(parse(text)) != text:
        raise ValueError("it is not a moment in UTC, to the millisecond")
    return text


type ScopeKind = Literal["team", "workspace", "sandbox", "agent", "person"]
type Span = Literal["minute", "moment", "day", "month", "total"]


class Scope(Request):
    """Whom a key is for."""

    kind: ScopeKind
    id: Reference


class RateLimits(Request):
    """Most per minute, and most streams at a time; None: no limit."""

    requests_per_minute: RateLimit | None = None
    input_tokens_per_minute: RateLimit | None = None
    output_tokens_per_minute: RateLimit | None = None
    concurrent_streams: RateLimit | None = None


class Budget(Request):
    """Most that may be spent, in USD, in a calendar day or month (UTC) or ever; None: no limit."""

    day_usd: Money | None = None
    month_usd: Money | None = None
    total_usd: Money | None = None


class TeamLimits(Request):
    """What a team's calls may use together, and each of its cards, sandboxes and runs."""

    rates: RateLimits = RateLimits()
    budget: Budget = Budget()
    card_budget: Budget = Budget()
    sandbox_budget: Budget = Budget()
    run_budget: Budget = Budget()


class KeyRecord(Resource):
    """A virtual key as stored: of the key itself there is only a hash. `secret_name`: where the platform keeps it."""

    key_id: str
    key_hash: str
    team_id: str
    name: str
    scope: Scope
    shown: str
    """How the key begins, for people to know it again."""
    secret_name: str | None = None
    created_at: str
    created_by: str = ""
    expires_at: str | None = None
    replaced_by: str | None = None
    counts_as: str | None = None
    """The first key of those that took each other's place: budgets and usage go on under its id."""
    disabled: bool = False
    models: list[str] | None = None
    rates: RateLimits = RateLimits()
    budget: Budget = Budget()

    @property
    def account(self) -> str:
        return self.counts_as or self.key_id


@dataclass(frozen=True, slots=True)
class Allowance:
    """One limit of a caller, in the unit of `kind`; `name` and `remedy` tell people about it."""

    subject: str
    kind: Kind
    span: Span
    limit: int
    name: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key pays. `run_id` and `card_id` are None for a call with the key itself; `models` for any model."""

    team_id: str
    key_id: str
    run_id: str | None = None
    card_id: str | None = None
    sandbox_id: str | None = None
    models: frozenset[str] | None = None
    allowances: tuple[Allowance, ...] = ()

    def check_models(self, *models: str) -> None:
        """Raises Forbidden for one that its key may not use; the names are those the caller asks for."""
        if self.models is not None and not self.models.issuperset(models):
            raise Forbidden(f"This key may use these models only: {', '.join(sorted(self.models))}.")


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it came in. `path` begins with /v1; `query` is raw; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: of a stream `chunks`, to be consumed inside the context that gave them; else `body`."""

    status: int
    headers: Headers
    body: bytes = b""
    chunks: AsyncIterator[bytes] | None = None


class TokenCounts(NamedTuple):
    """Token counts by price class, as Anthropic reports them: `input` excludes cached tokens."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    web_searches: int = 0

    @property
    def cache_write(self) -> int:
        return self.cache_write_5m + self.cache_write_1h

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write


class Share(NamedTuple):
    """TokenCounts of one model. `fast` and `us_only` are dearer modes of it."""

    model: str
    tokens: TokenCounts
    fast: bool = False
    us_only: bool = False


class UsageRecord(Record):
    """One request: what it used, and what budgets were charged. Kept once per `id`.

    `cost_micro_usd` is None where a price is not known. `estimated`: the process died, so these are the most it can
    have been. `status` is the answer's, 499 when the caller left, 502 when the answer broke off, 0 when there was none.
    """

    id: PlainId
    team_id: str = Field(pattern=r"^t[a-z0-9]{10}$")
    run_id: ScopedId | None
    card_id: ScopedId | None
    sandbox_id: ScopedId | None
    key_id: ScopedId
    model: str = Field(max_length=LONGEST_MODEL)
    input_tokens: Count
    output_tokens: Count
    cache_read_tokens: Count
    cache_write_tokens: Count
    cost_micro_usd: Count | None
    charged_micro_usd: Count
    estimated: bool
    time: Annotated[str, AfterValidator(_moment)]
    duration_ms: int
    first_byte_ms: int
    status: int

    @property
    def failed(self) -> bool:
        return not (self.estimated or paid_for(self.status))

    @model_validator(mode="after")
    def _of_one_team(self) -> Self:
        if ids.scope_of(self.key_id, "key") != self.team_id:
            raise ValueError("the key is not the team's")
        return self


class UsageMessage(QueueMessage):
    """Body of a message on the `usage` queue. Each record is checked by itself, since they are of several teams."""

    records: list[Any] = Field(min_length=1, max_length=RECORDS_AT_ONCE)


def paid_for(status: int) -> bool:
    """Errors of the model service cost nothing; a call that never got an answer may have cost something."""
    return status in (CLIENT_GONE, BROKEN_OFF) or 200 <= status < 300
