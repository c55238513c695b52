"""A process with a function app's environment: uses every store that the managed identity opens."""

import asyncio
import os
import sys

from shared.bootstrap import adapters
from shared.core.errors import Unavailable
from shared.core.ports import Put
from shared.core.settings import Settings


async def main() -> None:
    ports = adapters(Settings.from_env(os.environ))
    board = "boards/t0123456789"
    try:
        await ports.documents.commit(board, [Put("card/1", {"n": 1})])
        await ports.event_log.append("team/t0123456789", [{"id": "a"}])
        await ports.blobs.put("runs/a/diff.patch", b"diff")
        await ports.secrets.put("key", "value")
        doc, (event,) = await ports.documents.get(board, "card/1"), await ports.event_log.read("team/t0123456789")
        assert doc
        print(doc.body, event, await ports.blobs.get("runs/a/diff.patch"), await ports.secrets.get("key"))
    except Unavailable as error:
        sys.exit(f"unavailable: {error.detail}")
    finally:
        for close in ports.closers:
            await close()


asyncio.run(main())
