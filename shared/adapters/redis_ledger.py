"""The ledger of limits and budgets in Redis: one script, one round trip, whatever is asked together.

Keys share a slot (`{llm}`): a call's subjects must be decided on at once. `leases` orders calls by when they lapse;
`calls` holds the state of each: `o` (open), what it holds as a line of JSON and the record; `s` (settled) and the
record; `e` (estimated), what was counted and the record; `x` and what was counted, once that record is safe elsewhere;
or `w` (withdrawn). `over` orders calls that were settled and whose records are safe, by when they are forgotten
altogether. A subject is a hash of `seeded` (when its time to live was last set), `s:<period>` (spent), `h` (held), `n`
(streams) and, for each kind of use per minute, the debt and when it was noted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from shared.adapters.redis_script import RedisAway, RedisRefused, RedisScript
from shared.core.errors import Unavailable
from shared.core.log import Log
from shared.llm.ledger import (
    PER_MINUTE,
    Admit,
    Amounts,
    Done,
    Forget,
    Hold,
    Lapsed,
    Op,
    Refused,
    Renew,
    Seed,
    Settle,
    Uncountable,
    Unreached,
    Unseeded,
    Verdict,
    Withdraw,
)

log = Log(__name__)

_PREFIX = "llm:{llm}:"
_KEPT_SECONDS = 2 * 24 * 3600
"""A subject that nobody asks for is forgotten in half of this to all of it; it is seeded when somebody does again."""


class RedisLedger:
    """In the Redis at `url`. `lease`: seconds until a hold lapses that is not renewed; a settled call in a quarter."""

    def __init__(self, url: str, lease: float = 60) -> None:
        self._url, self._lease = url, lease
        self._redis: RedisScript | None = None

    async def apply(self, ops: Sequence[Op]) -> list[Verdict | Uncountable]:
        answers = await self._run([_written(op) for op in ops], _touched(ops))
        return [_verdict(op, answer) for op, answer in zip(ops, answers, strict=True)]

    async def lapsed(self, limit: int) -> list[Lapsed]:
        [found] = await self._run([["lapsed", limit]], ())
        return [_lapsed(*each) for each in found[1:]]

    async def close(self) -> None:
        if self._redis:
            await self._redis.close()
            self._redis = None

    async def _run(self, ops: list[Any], subjects: Iterable[str]) -> list[Any]:
        if self._redis is None:
            self._redis = _script(self._url)
        try:
            answer = await self._redis.run(
                [
                    *(_PREFIX + name for name in ("leases", "calls", "over")),
                    *(_PREFIX + subject for subject in subjects),
                ],
                [orjson.dumps(ops), _PREFIX, round(self._lease * 1000), _KEPT_SECONDS],
            )
        except (RedisAway, RedisRefused) as error:
            if isinstance(error, RedisRefused):
                log.warning("redis.refused", reason=str(error)[:200])
            away = Unavailable if error.sent else Unreached
            raise away("Redis does not answer. Try again in a moment.") from error
        return orjson.loads(answer)


def _script(url: str) -> RedisScript:
    try:
        return RedisScript(url, Path(__file__).with_suffix(".lua").read_bytes())
    except ValueError as error:
        raise Unreached("Redis is not configured: check REDIS_URL.") from error


def _written(op: Op) -> list[Any]:
    match op:
        case Admit(hold, rules):
            return [
                "admit",
                *_hold(hold),
                _kept(hold),
                [[rule.subject, rule.kind, rule.limit, rule.period] for rule in rules],
            ]
        case Settle(hold, used, periods, record, estimated):
            spent = [used.micro_usd, used.input_tokens, used.output_tokens]
            return ["settle", *_hold(hold), record, spent, periods, estimated]
        case Renew(hold):
            return ["renew", *_hold(hold), _kept(hold)]
        case Withdraw(hold):
            return ["withdraw", *_hold(hold)]
        case Forget(ids):
            return ["forget", ids]
        case Seed(subject, spent, minute):
            return ["seed", subject, spent, [minute.get(kind, 0) for kind in PER_MINUTE]]


def _hold(hold: Hold) -> list[Any]:
    amounts = hold.amounts
    return [hold.id, hold.subjects, [amounts.micro_usd, amounts.input_tokens, amounts.streams]]


def _kept(hold: Hold) -> str:
    return f"{orjson.dumps(_hold(hold)[1:]).decode()}\n{hold.record}"


def _lapsed(call: str, is_open: bool, kept: str) -> Lapsed:
    if not is_open:
        return Lapsed(call, kept)
    held, _, record = kept.partition("\n")
    try:
        subjects, (micro_usd, input_tokens, streams) = orjson.loads(held)
        hold = Hold(call, tuple(subjects), Amounts(micro_usd, input_tokens, streams=streams), record)
    except (TypeError, ValueError):
        hold = Hold(call, (), Amounts(), kept)
    return Lapsed(call, hold.record, hold)


def _touched(ops: Sequence[Op]) -> set[str]:
    found: set[str] = set()
    for op in ops:
        match op:
            case Seed(subject):
                found.add(subject)
            case Forget():
                pass
            case _:
                found.update(op.hold.subjects)
    return found


def _verdict(op: Op, answer: list[Any]) -> Verdict | Uncountable:
    match answer:
        case ["ok"]:
            return Done()
        case ["unseeded", *subjects]:
            return Unseeded(tuple(subjects))
        case ["refused", place, used, held, wait] if isinstance(op, Admit):
            return Refused(op.rules[place], round(used), round(held), wait / 1000)
        case ["failed", reason]:
            return Uncountable(f"{type(op).__name__} failed: {reason}")
        case other:
            raise ValueError(f"the script answered {other!r}")
