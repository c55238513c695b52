"""Holding the writes to a board for a moment, so that a copy of a busy one comes to an end.

A copy is right without a hold: it is taken again until nothing has changed meanwhile. The hold only sees to it that
this happens. So it need not be seen at once nor by everybody, and whoever holds may die.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress

from shared.core.errors import Stale, Unavailable
from shared.core.log import Log
from shared.core.ports import ANY, Delete, Doc, Documents, Op, Put

HOLD = "hold"
"""The document that holds its partition."""
SEEN_SECONDS = 0.5
"""A process that writes to a board looks this often whether it is held."""
_LONGEST_SECONDS = 30.0
"""Whoever sees a hold that long takes it for one of a dead process, and ends it."""
_PATIENCE_SECONDS = 5.0
_AGAIN_SECONDS = 0.1
_HOLDABLE = "boards/"
NOT_COPIED = ("outbox/", HOLD)
"""Beginnings of ids that no copy has, and that are written while their partition is held."""
_REMEMBERED = 1_000

log = Log(__name__)


class HoldableDocuments:
    """Documents whose boards can be held: a commit to one that is waits, and raises Unavailable when it waits long."""

    def __init__(
        self, documents: Documents, longest: float = _LONGEST_SECONDS, patience: float = _PATIENCE_SECONDS
    ) -> None:
        self._documents, self._longest, self._patience = documents, longest, patience
        self._looked: dict[str, float] = {}
        self._holds: dict[str, tuple[str, float]] = {}
        """Of each held partition the hold's etag, and when it was first seen."""

    async def get(self, partition: str, id: str) -> Doc | None:
        return await self._documents.get(partition, id)

    async def query(self, partition: str, prefix: str = "", after: str = "", limit: int | None = None) -> list[Doc]:
        return await self._documents.query(partition, prefix, after, limit)

    async def commit(self, partition: str, ops: Sequence[Op]) -> dict[str, str]:
        if partition.startswith(_HOLDABLE) and not all(op.id.startswith(NOT_COPIED) for op in ops):
            await self._let_go(partition)
        return await self._documents.commit(partition, ops)

    async def _let_go(self, partition: str) -> None:
        deadline = _now() + self._patience
        while await self._is_held(partition):
            if _now() > deadline:
                raise Unavailable("It is being copied. Try again in a moment.", retry_after=2)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _is_held(self, partition: str) -> bool:
        """What any commit of this process saw a moment ago counts."""
        known = partition in self._holds
        if _now() - self._looked.get(partition, float("-inf")) < (_AGAIN_SECONDS if known else SEEN_SECONDS):
            return known
        if len(self._looked) >= _REMEMBERED:
            self._looked.clear()
        self._looked[partition] = _now()
        hold = await self._documents.get(partition, HOLD)
        if hold is None:
            self._holds.pop(partition, None)
            return False
        return await self._is_alive(partition, hold.etag)

    async def _is_alive(self, partition: str, etag: str) -> bool:
        known, since = self._holds.get(partition, ("", 0.0))
        if known != etag:
            self._holds[partition] = (etag, _now())
        elif _now() - since > self._longest:
            log.warning("hold.ended", partition=partition)
            await _end(self._documents, partition, etag)
            self._holds.pop(partition, None)
            return False
        return True


@asynccontextmanager
async def held(documents: Documents, partition: str) -> AsyncGenerator[None]:
    """Whoever writes to `partition` through HoldableDocuments waits, from soon after this is entered."""
    etags = await documents.commit(partition, [Put(HOLD, {}, ANY)])
    try:
        await asyncio.sleep(SEEN_SECONDS)
        yield
    finally:
        await _end(documents, partition, etags[HOLD])


async def _end(documents: Documents, partition: str, etag: str) -> None:
    with suppress(Stale):  # another one holds, or it was ended as a dead one's
        await documents.commit(partition, [Delete(HOLD, etag)])


def _now() -> float:
    return asyncio.get_running_loop().time()
