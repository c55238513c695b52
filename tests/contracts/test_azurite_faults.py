"""The stores on Azurite while it is killed and its disk is full: what was acknowledged stays, nothing is torn."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from local.azurite import Azurite
from local.azurite import missing as azurite_missing
from shared.adapters.azure_blobs import AzureBlobs
from shared.adapters.table_documents import TableDocuments
from shared.adapters.table_events import TableEvents
from shared.core.errors import Unavailable
from shared.core.ports import ANY, Put
from tests.disks import mounted
from tests.requires import require

BOARD = "boards/t0123456789"
SUBJECT = "team/t0123456789"


@pytest.fixture
def azurite_parts() -> None:
    require(not azurite_missing(), azurite_missing())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with mounted(folder, 8):
        yield folder


class Stores:
    """`write(n)` writes to all that are told to; `acknowledged` are the numbers that were, by store."""

    def __init__(self, azurite: Azurite) -> None:
        self.documents = TableDocuments(azurite.connection_string)
        self.events = TableEvents(azurite.connection_string)
        self.blobs = AzureBlobs(azurite.connection_string)
        self.acknowledged: dict[str, set[int]] = {"documents": set(), "events": set(), "blobs": set()}

    async def write(self, n: int) -> None:
        """Over when all three are, so that nothing is acknowledged while what is there is looked at."""
        writes = (self.write_documents(n), self.write_event(n), self.write_blob(n))
        for outcome in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def write_documents(self, n: int) -> None:
        await self.documents.commit(BOARD, [Put("left", {"n": n}, ANY), Put("right", {"n": n}, ANY), Put(f"{n}", {})])
        self.acknowledged["documents"].add(n)

    async def write_event(self, n: int) -> None:
        await self.events.append(SUBJECT, [{"id": f"{n}"}])
        self.acknowledged["events"].add(n)

    async def write_blob(self, n: int) -> None:
        await self.blobs.put(f"runs/{n}", b"x" * 1_000)
        self.acknowledged["blobs"].add(n)

    def counts(self) -> list[int]:
        return [len(numbers) for numbers in self.acknowledged.values()]

    async def check(self) -> None:
        docs = {doc.id: doc.body for doc in await self.documents.query(BOARD)}
        left, right = docs.pop("left"), docs.pop("right")
        assert left == right
        assert left["n"] == max(map(int, docs)) >= max(self.acknowledged["documents"])
        assert self.acknowledged["documents"] <= set(map(int, docs))
        events = await self.events.read(SUBJECT)
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        told = [int(event["id"]) for event in events]
        assert len(told) == len(set(told))
        assert self.acknowledged["events"] <= set(told)
        for n in self.acknowledged["blobs"]:
            assert await self.blobs.get(f"runs/{n}") == b"x" * 1_000

    async def close(self) -> None:
        for store in (self.documents, self.events, self.blobs):
            await store.close()


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(b"\0" * 65_536):
            pass


async def refuses(stores: Stores, n: int) -> None:
    for call in (stores.write_documents, stores.write_event):
        with pytest.raises(Unavailable):
            await call(n)


async def test_what_was_acknowledged_survives_kills(azurite_parts, tmp_path):
    async with Azurite(tmp_path) as azurite:
        stores, numbers = Stores(azurite), count(1)
        await stores.write(next(numbers))
        for pause in (0.2, 0.35, 0.5):

            async def write_on() -> None:
                while True:
                    await stores.write(next(numbers))

            before = stores.counts()
            writing = asyncio.create_task(write_on())
            while not writing.done() and not all(map(int.__lt__, before, stores.counts())):
                await asyncio.sleep(0.01)
            await asyncio.sleep(pause)
            await azurite.child.kill()
            with pytest.raises(Unavailable):
                await writing
            await azurite.child.start()
            await asyncio.sleep(0.1)
            await stores.check()
        assert min(stores.counts()) > 3
        await stores.close()


async def test_a_full_disk_is_unavailable_and_loses_nothing(azurite_parts, disk):
    async with Azurite(disk) as azurite:
        stores = Stores(azurite)
        for n in range(1, 4):
            await stores.write(n)
        fill(disk)
        await refuses(stores, 4)
        await azurite.child.kill()
        (disk / "filler").unlink()
        await azurite.child.start()
        await stores.check()
        await stores.write(5)
        await stores.check()
        await stores.close()


async def test_room_on_a_disk_that_was_full_makes_it_go_on(azurite_parts, disk):
    async with Azurite(disk) as azurite:
        stores = Stores(azurite)
        await stores.write(1)
        fill(disk)
        await refuses(stores, 2)
        (disk / "filler").unlink()
        await stores.write(3)
        await stores.check()
        await stores.close()
