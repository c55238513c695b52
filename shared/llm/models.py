"""What passes through the gateway: who calls, what they ask, what it used."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from shared.core import ids
from shared.core.clock import iso, parse
from shared.core.errors import PlatformError
from shared.core.messages import Count, PlainId, QueueMessage, ScopedId
from shared.llm.upstream import Headers


class TooLarge(PlatformError):
    """The body is over the limit."""

    status: ClassVar[int] = 413
    type: ClassVar[str] = "too-large"
    title: ClassVar[str] = "Request too large"


LONGEST_MODEL = 200


def _moment(text: str) -> str:
    if iso(parse(text)) != text:
        raise ValueError("it is not a moment in UTC, to the millisecond")
    return text


class KeyRecord(BaseModel):
    """A virtual key as stored; the key itself is only in Secrets, under `secret_name`, and hashed in `key_hash`."""

    model_config = ConfigDict(extra="forbid")
    key_id: str
    key_hash: str
    team_id: str
    name: str
    secret_name: str
    created_at: str
    disabled: bool = False
    budget_micro_usd: int | None = None


@dataclass(frozen=True, slots=True)
class Cap:
    """A limit on spending, counted in micro-USD under `counter`. `remedy` is a sentence."""

    counter: str
    limit: int
    name: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key pays. `run_id` and `card_id` are None for a call with the key itself."""

    team_id: str
    key_id: str
    run_id: str | None
    card_id: str | None
    caps: tuple[Cap, ...]


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
    """What goes back. Consume `chunks` inside the context that gave it."""

    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class TokenCounts:
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


@dataclass(frozen=True, slots=True)
class Share:
    """TokenCounts of one model. `fast` and `us_only` are dearer modes of it."""

    model: str
    tokens: TokenCounts
    fast: bool = False
    us_only: bool = False


class UsageMessage(QueueMessage):
    """Body of a message on the `usage` queue: one answer of the model."""

    id: PlainId
    team_id: str = Field(pattern=r"^t[a-z0-9]{10}$")
    run_id: ScopedId | None
    card_id: ScopedId | None
    key_id: ScopedId
    model: str = Field(max_length=LONGEST_MODEL)
    input_tokens: Count
    output_tokens: Count
    cache_read_tokens: Count
    cache_write_tokens: Count
    cost_micro_usd: Count
    time: Annotated[str, AfterValidator(_moment)]
    duration_ms: int
    first_byte_ms: int
    status: int

    @model_validator(mode="after")
    def _of_one_team(self) -> Self:
        if ids.scope_of(self.key_id, "key") != self.team_id:
            raise ValueError("the key is not the team's")
        return self
