"""Idempotency keys: a POST that is sent again with its key gets its first answer, and happens once."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from shared.core import ids
from shared.core.clock import Clock, iso, parse
from shared.core.errors import Conflict, Exists, Invalid, PlatformError, Stale
from shared.core.log import Log
from shared.core.ports import ANY, Delete, Documents, Json, Op, Put

log = Log(__name__)

_PROCESSING_SECONDS = 120
"""After this, whoever began is taken for dead, and the request may be made again."""
_REMEMBERED_SECONDS = 24 * 3600
_FORGOTTEN_AT_ONCE = 50
_PAUSES = (0.1, 0.4, 0)
"""Seconds after each try to keep an answer. The client waits for its own meanwhile."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was sent. `headers` holds those that belong to the answer, such as `location`."""

    status: int
    body: str
    headers: dict[str, str]


class IdempotencyKeys:
    """Answers are kept for a day per person, address and key: `portal/idempotency/<00..15>`, `answer/<digest>`."""

    def __init__(self, documents: Documents, clock: Clock) -> None:
        self._documents, self._clock = documents, clock

    async def begin(self, slot: str, body: bytes) -> Answer | None:
        """The kept answer, or None: go ahead. Conflict while the first is under way, Invalid for another body."""
        digest = ids.digest(body.decode("latin-1"))
        partition, name = _place(slot)
        doc = await self._documents.get(partition, name)
        age = (self._clock.now() - parse(doc.body["at"])).total_seconds() if doc else 0
        if doc is not None and age < _REMEMBERED_SECONDS:
            if doc.body["request"] != digest:
                raise Invalid("This Idempotency-Key was used for another request. Choose a new key.")
            if doc.body["answer"] is not None:
                return Answer(**doc.body["answer"])
            if age < _PROCESSING_SECONDS:
                raise Conflict("The first request with this Idempotency-Key is still being processed. Wait a moment.")
        entry: Json = {"request": digest, "answer": None, "at": iso(self._clock.now())}
        try:
            put = Put(name, entry, doc.etag if doc else None)
            await self._documents.commit(partition, [put, *await self._forgotten(partition, name)])
        except (Exists, Stale):
            raise Conflict("The first request with this Idempotency-Key is still being processed.") from None
        return None

    async def finish(self, slot: str, body: bytes, answer: Answer) -> None:
        """The request has happened: when its answer cannot be kept, it is still the answer."""
        kept = {"status": answer.status, "body": answer.body, "headers": answer.headers}
        entry: Json = {"request": ids.digest(body.decode("latin-1")), "answer": kept, "at": iso(self._clock.now())}
        partition, name = _place(slot)
        await self._settle(partition, Put(name, entry, ANY))

    async def abandon(self, slot: str) -> None:
        """The request failed, or its answer must not be kept: the same key may try again."""
        partition, name = _place(slot)
        await self._settle(partition, Delete(name))

    async def _settle(self, partition: str, op: Op) -> None:
        """Never raises an error of ours: it would hide what the request itself came to."""
        for pause in _PAUSES:
            try:
                await self._documents.commit(partition, [op])
                return
            except PlatformError as error:
                log.warning("idempotency.not_kept", reason=error.detail)
                if not error.transient:
                    return
                await asyncio.sleep(pause)

    async def _forgotten(self, partition: str, but: str) -> list[Delete]:
        oldest = iso(self._clock.now() - timedelta(seconds=_REMEMBERED_SECONDS))
        docs = await self._documents.query(partition, "answer/")
        return [Delete(doc.id) for doc in docs if doc.body["at"] < oldest and doc.id != but][:_FORGOTTEN_AT_ONCE]


def slot(user_id: str, path: str, key: str) -> str:
    return ids.digest(f"{user_id}\n{path}\n{key}")


def _place(slot_digest: str) -> tuple[str, str]:
    return f"portal/idempotency/{ids.shard(slot_digest)}", f"answer/{slot_digest}"
