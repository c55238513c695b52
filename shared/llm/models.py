"""What passes through the gateway: who calls, what they ask, what it used."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from shared.core.errors import PlatformError
from shared.llm.upstream import Headers


class TooLarge(PlatformError):
    """The body is over the limit."""

    status: ClassVar[int] = 413
    type: ClassVar[str] = "too-large"
    title: ClassVar[str] = "Request too large"


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


class UsageMessage(BaseModel):
    """Body of a message on the `usage` queue: one answer of the model."""

    model_config = ConfigDict(extra="forbid")
    version: int = 1
    id: str
    team_id: str
    run_id: str | None
    card_id: str | None
    key_id: str
    model: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_micro_usd: int
    time: str
    duration_ms: int
    first_byte_ms: int
    status: int
