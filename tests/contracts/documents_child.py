"""A second process on the same documents, for the tests that kill it or race it."""

import asyncio
import sys
from itertools import count
from pathlib import Path

from shared.adapters.table_documents import TableDocuments
from shared.adapters.tinydb_documents import TinyDbDocuments
from shared.core.errors import Stale, Unavailable
from shared.core.holds import HoldableDocuments, held
from shared.core.partitions import drop
from shared.core.ports import ANY, Documents, Put

BOARD = "boards/t0123456789"


async def increments(documents: Documents) -> None:
    done = 0
    while done < 50:
        doc = await documents.get(BOARD, "counter")
        assert doc
        try:
            await documents.commit(BOARD, [Put("counter", {"n": doc.body["n"] + 1}, doc.etag)])
            done += 1
        except Stale:
            continue


async def pairs(documents: Documents) -> None:
    """Writes two documents that must always be equal, large enough that a write takes a while."""
    before = await documents.get(BOARD, "left")
    for n in count(before.body["n"] + 1 if before else 1):
        body = {"n": n, "ballast": str(n) * 50_000}
        await documents.commit(BOARD, [Put("left", body, ANY), Put("right", body, ANY)])
        print(n, flush=True)


async def counts(documents: Documents) -> None:
    """Writes without a pause: two documents that must always be equal, and one more for each number."""
    holdable = HoldableDocuments(documents)
    for n in count(1):
        ops = [Put("left", {"n": n}, ANY), Put("right", {"n": n}, ANY), Put(f"count/{n:06d}", {"n": n})]
        try:
            await holdable.commit(BOARD, ops)
        except Unavailable:  # being copied for long: what a client does
            await holdable.commit(BOARD, ops)
        print(n, flush=True)


async def holds(documents: Documents) -> None:
    async with held(documents, BOARD):
        print("holding", flush=True)
        await asyncio.Event().wait()


async def drops(documents: Documents) -> None:
    print("dropping", flush=True)
    await drop(documents, BOARD)


def store(place: str) -> Documents:
    """`place` is a data folder, or a connection string and a table, joined by `|`."""
    connection, _, table = place.partition("|")
    return TableDocuments(connection, table) if table else TinyDbDocuments(Path(place))


WORKS = {"increments": increments, "pairs": pairs, "counts": counts, "holds": holds, "drops": drops}
asyncio.run(WORKS[sys.argv[1]](store(sys.argv[2])))
