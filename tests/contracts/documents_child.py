"""A second process on the same documents, for the tests that kill it or race it."""

import asyncio
import sys
from itertools import count
from pathlib import Path

from shared.adapters.tinydb_documents import TinyDbDocuments
from shared.core.errors import Stale
from shared.core.ports import ANY, Put

BOARD = "boards/t0123456789"


async def increments(documents: TinyDbDocuments) -> None:
    done = 0
    while done < 50:
        doc = await documents.get(BOARD, "counter")
        assert doc
        try:
            await documents.commit(BOARD, [Put("counter", {"n": doc.body["n"] + 1}, doc.etag)])
            done += 1
        except Stale:
            continue


async def pairs(documents: TinyDbDocuments) -> None:
    """Writes two documents that must always be equal, large enough that a write takes a while."""
    before = await documents.get(BOARD, "left")
    for n in count(before.body["n"] + 1 if before else 1):
        body = {"n": n, "ballast": str(n) * 50_000}
        await documents.commit(BOARD, [Put("left", body, ANY), Put("right", body, ANY)])
        print(n, flush=True)


asyncio.run({"increments": increments, "pairs": pairs}[sys.argv[1]](TinyDbDocuments(Path(sys.argv[2]))))
