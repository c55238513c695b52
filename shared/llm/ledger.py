"""What is spent and under way, as all processes see it: the port behind limits and budgets.

A subject (`key/<id>`, `team/<id>`, `run/<id>`, `card/<id>`, `sandbox/<id>`) has amounts spent per period, amounts held
by calls under way, and what it used within the last minute. It counts nothing until it was seeded from usage records:
the ledger may forget everything at any time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from shared.core.errors import Unavailable

type Kind = Literal["requests", "input_tokens", "output_tokens", "streams", "spend"]

MOST = 2**53
PER_MINUTE: tuple[Kind, ...] = ("requests", "input_tokens", "output_tokens")


class Rule(NamedTuple):
    """At most `limit` of `kind` for a subject: per minute, at a time (streams), or micro-USD in `period` (spend).

    A period is `total`, a month (YYYY-MM) or a day (YYYY-MM-DD).
    """

    subject: str
    kind: Kind
    limit: int
    period: str = ""


class Amounts(NamedTuple):
    """What a call holds while it is under way, or what it used in the end. Output is not held: it is not known.

    More than MOST micro-USD cannot be counted.
    """

    micro_usd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    streams: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation of one call, for all its subjects, that lapses unless it is renewed.

    `record` is what becomes of it when nobody settles it.
    """

    id: str
    subjects: tuple[str, ...]
    amounts: Amounts
    record: str = field(repr=False)


class Admit(NamedTuple):
    """Hold when every rule allows it: all or nothing."""

    hold: Hold
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Renew:
    """The call goes on: its hold lives on, and is made again if it was forgotten."""

    hold: Hold


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The call never happened: as if it had not been admitted, and for a lease it will not be."""

    hold: Hold


@dataclass(frozen=True, slots=True)
class Settle:
    """The call is over: what it used, under these periods, takes the place of its hold, or of what was estimated.

    `record` is kept until it is forgotten, and told as lapsed when that takes long. `estimated`: nobody knows, and it
    takes the place of a hold only.
    """

    hold: Hold
    used: Amounts
    periods: tuple[str, ...]
    record: str = field(repr=False)
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Forget:
    """Records that are safe elsewhere. A call under way is held on, what was estimated may still become the truth."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seed:
    """Where a subject begins to count: micro-USD spent by period, and what it used within the last minute.

    One that counts already stays as it is.
    """

    subject: str
    spent: dict[str, int]
    minute: dict[Kind, int]


type Op = Admit | Renew | Withdraw | Settle | Forget | Seed


@dataclass(frozen=True, slots=True)
class Done:
    """It has happened; an admitted call may go on."""


@dataclass(frozen=True, slots=True)
class Unseeded:
    """Nothing has happened: these subjects do not count yet."""

    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing has happened: a rule forbids it. `used` counts against its limit, `held` is what calls under way may add.

    `retry_after`: seconds until it may be allowed; for spend a guess.
    """

    rule: Rule
    used: int
    held: int
    retry_after: float


type Verdict = Done | Unseeded | Refused


class Unreached(Unavailable):
    """Nobody was asked: nothing has happened."""


class Uncountable(ValueError):
    """The operation fails however often it is tried, and changes nothing. Those beside it are done all the same."""


@dataclass(frozen=True, slots=True)
class Lapsed:
    """A call that nobody settled, with what it holds, or one that nobody forgot after it was settled: `hold` is None.

    What it holds is nothing when the ledger cannot read that any more.
    """

    id: str
    record: str = field(repr=False)
    hold: Hold | None = None


class Ledger(Protocol):
    """Every operation is one atomic decision; those given together are done in order, in one round trip."""

    async def apply(self, ops: Sequence[Op]) -> list[Verdict | Uncountable]:
        """Raises Unavailable: then nothing, some or all of it has happened; Unreached: nothing has.

        Repeating any operation is safe.
        """
        ...

    async def lapsed(self, limit: int) -> list[Lapsed]:
        """The oldest lapsed records. One that was told is told again only after another lease."""
        ...

    async def close(self) -> None: ...
