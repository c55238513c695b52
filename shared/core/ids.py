"""Ids that carry what finds their partition: `<kind>_<scope>_<random>`, and `<scope><random>` for tasks.

A scope is a team (`t...`) or a workspace (`w...`); everything on its board lives in one partition.
"""

import hashlib
import os
import secrets
import struct
import threading
import time
from datetime import datetime
from functools import lru_cache

from shared.core.errors import NotFound

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32, lower case: no i, l, o, u
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
"""Two digits by their value, since a change makes several ids."""
_HALF = (1 << 50) - 1


class _Rising:
    """Numbers of 98 bits, each higher than all before it in this process: milliseconds, then random bits.

    The system is asked for randomness now and then, not for each.
    """

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()
        self._random: list[int] = []
        os.register_at_fork(after_in_child=self._forget)

    def next(self) -> int:
        with self._lock:
            value = (time.time_ns() // 1_000_000 << 50) | self._drawn() >> 14
            self._last = value if value > self._last else self._last + 1 + (self._drawn() >> 32)
            return self._last

    def _drawn(self) -> int:
        """64 random bits."""
        if not self._random:
            self._random = list(struct.unpack("128Q", os.urandom(1024)))
        return self._random.pop()

    def _forget(self) -> None:
        self._random, self._lock = [], threading.Lock()


_rising = _Rising()


def random_text(length: int = 12) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def sortable() -> str:
    """Twenty characters that sort by creation time, within a process also inside of a millisecond."""
    return _in_base_32(_rising.next())


def sortable_at(moment: datetime) -> str:
    """What sorts before every id made since then, and after those made before."""
    return _in_base_32(int(moment.timestamp() * 1000) << 50)


def _in_base_32(value: int) -> str:
    """100 bits. Many ids are made within a millisecond, which is the first half of them."""
    return _moment(value >> 50) + _digits(value & _HALF)


def _digits(half: int) -> str:
    return (
        _PAIRS[half >> 40]
        + _PAIRS[half >> 30 & 1023]
        + _PAIRS[half >> 20 & 1023]
        + _PAIRS[half >> 10 & 1023]
        + _PAIRS[half & 1023]
    )


_moment = lru_cache(maxsize=16)(_digits)


def new_team() -> str:
    return "t" + random_text(10)


def new_workspace() -> str:
    return "w" + random_text(10)


def new_task(scope: str) -> str:
    """Of the team or workspace whose commit starts it: there a task is found that is not made yet."""
    return scope + sortable()


def task_scope(task_id: str) -> str | None:
    """The team or workspace in a task's id; None for what cannot be one."""
    scope = task_id[:11]
    return scope if is_scope(scope) and is_plain(task_id) and len(task_id) == 31 else None


def new_user(tenant: str, object_id: str) -> str:
    """The same person of the same tenant always gets the same id."""
    return "u" + digest(f"{tenant}/{object_id}")[:16]


def scoped(kind: str, scope: str, suffix: str | None = None) -> str:
    return f"{kind}_{scope}_{suffix or sortable()}"


def scope_of(identifier: str, kind: str) -> str:
    """The scope inside an id of `kind`; NotFound for anything that cannot be one."""
    parts = identifier.split("_")
    if len(parts) != 3 or parts[0] != kind or not is_scope(parts[1]) or not is_plain(parts[2]):
        raise NotFound(f"There is no {kind} {identifier!r}.")
    return parts[1]


def board_id(scope: str) -> str:
    return f"board_{scope}"


def board_scope(identifier: str) -> str:
    scope = identifier.removeprefix("board_")
    if scope == identifier or not is_scope(scope):
        raise NotFound(f"There is no board {identifier!r}.")
    return scope


def is_scope(text: str) -> bool:
    return len(text) == 11 and text[0] in "tw" and is_plain(text)


def is_plain(text: str) -> bool:
    return 0 < len(text) <= 64 and text.isascii() and text.isalnum() and text == text.lower()


def digest(text: str) -> str:
    """SHA-256 as 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def shard(text: str) -> str:
    """Which of the sixteen `open/` partitions a piece of open work is filed under."""
    return f"{int(digest(text)[:8], 16) % 16:02d}"
