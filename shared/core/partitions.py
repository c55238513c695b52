"""What every Documents store refuses, and work on whole partitions, which never fits one commit."""

from collections.abc import Sequence

from shared.core.errors import TooLarge, Unavailable
from shared.core.holds import NOT_COPIED, held
from shared.core.packed import packed
from shared.core.ports import ANY, Delete, Doc, Documents, Op, Put

MOST_OPS = 100
LARGEST_DOCUMENT = 960 * 1024
"""Bytes of JSON: with its keys an entity of Table Storage holds 1 MiB."""
LARGEST_COMMIT = 2_800 * 1024
"""Bytes of JSON of all documents of a commit: as base64 they stay below the 4 MiB of a batch."""
_PAGE = 1_000
_FREE_ROUNDS, _HELD_ROUNDS = 4, 10


def checked(ops: Sequence[Op]) -> list[bytes]:
    """The JSON of each Put (empty for a Delete). Raises ValueError, TypeError for what is not JSON, or TooLarge."""
    if len(ops) > MOST_OPS:
        raise ValueError(f"a commit of {len(ops)} operations: at most {MOST_OPS} are allowed")
    if len({op.id for op in ops}) < len(ops) or not all(op.id for op in ops):
        raise ValueError("every operation of a commit needs an id of its own")
    bodies = [packed(op.body) if isinstance(op, Put) else b"" for op in ops]
    largest, size = max(map(len, bodies), default=0), sum(map(len, bodies))
    if largest > LARGEST_DOCUMENT:
        raise TooLarge(f"A document of {largest} bytes: at most {LARGEST_DOCUMENT} can be kept. Shorten it.")
    if size > LARGEST_COMMIT:
        raise TooLarge(f"A change of {size} bytes at once: at most {LARGEST_COMMIT} can be kept. Change less at once.")
    return bodies


async def drop(documents: Documents, partition: str) -> None:
    """Remove all documents. Safe to repeat; one that was cut off goes on when called again."""
    while docs := await documents.query(partition, limit=MOST_OPS):
        await documents.commit(partition, [Delete(doc.id) for doc in docs])


async def clone(documents: Documents, source: str, target: str) -> None:
    """Make `target` a copy of `source` as it stood at one moment, while writes to `source` go on.

    Copies what differs until two listings of the source agree: then nothing changed between them. A source that
    changes all the time is held for the last of it. What waits to be sent is not copied. Safe to repeat; raises
    Unavailable when it should be.
    """
    copied: dict[str, str] = {}
    for doc in await _listing(documents, target):
        copied[doc.id] = ""  # of an earlier try, or unknown: written again, or removed
    if await _caught_up(documents, source, target, copied, _FREE_ROUNDS):
        return
    async with held(documents, source):
        if await _caught_up(documents, source, target, copied, _HELD_ROUNDS):
            return
    raise Unavailable("It changes too often to be copied. Try again in a quieter moment.", retry_after=5)


async def _caught_up(documents: Documents, source: str, target: str, copied: dict[str, str], rounds: int) -> bool:
    """Whether the source stood still from one listing to the next, and the target is as it was then."""
    for _ in range(rounds):
        listing = await _listing(documents, source)
        if {doc.id: doc.etag for doc in listing} == copied:
            return True
        await _copy(documents, target, listing, copied)
    return False


async def _copy(documents: Documents, target: str, listing: list[Doc], copied: dict[str, str]) -> None:
    """Bring the target to `listing`; `copied` holds the source's etag of each document that is there."""
    wanted = {doc.id for doc in listing}
    ops: list[tuple[Op, int]] = [(Delete(id_), 0) for id_ in copied if id_ not in wanted]
    ops += [(Put(doc.id, doc.body, ANY), len(doc.raw)) for doc in listing if copied.get(doc.id) != doc.etag]
    for batch in _batches(ops):
        await documents.commit(target, batch)
    copied.clear()
    copied.update((doc.id, doc.etag) for doc in listing)


def _batches(ops: list[tuple[Op, int]]) -> list[list[Op]]:
    """Commits that any store takes, of operations with the bytes of each."""
    batches: list[list[Op]] = []
    room = 0
    for op, size in ops:
        if not batches or len(batches[-1]) == MOST_OPS or size > room:
            batches.append([])
            room = LARGEST_COMMIT
        batches[-1].append(op)
        room -= size
    return batches


async def _listing(documents: Documents, partition: str) -> list[Doc]:
    found: list[Doc] = []
    after = ""
    while page := await documents.query(partition, after=after, limit=_PAGE):
        found += page
        after = page[-1].id
    return [doc for doc in found if not doc.id.startswith(NOT_COPIED)]
