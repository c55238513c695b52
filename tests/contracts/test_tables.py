"""What only Table Storage can do to a commit: answers that are lost on the way, keys, names."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import suppress
from uuid import uuid4

import pytest

from shared.adapters import table_keys
from shared.adapters.table_documents import TableDocuments
from shared.adapters.table_events import TableEvents
from shared.core.errors import Exists, Unavailable
from shared.core.ports import ANY, Delete, Put

BOARD = "boards/t0123456789"
SUBJECT = "team/t0123456789"


class Wire:
    """Between a client and Azurite's tables. While `losing` is above 0, the answers of writes are swallowed."""

    def __init__(self, connection: str) -> None:
        parts = dict(part.split("=", 1) for part in connection.split(";") if part)
        self._port = int(parts["TableEndpoint"].split(":")[2].split("/")[0])
        self._parts = parts
        self.losing = 0
        self.lost = 0

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        endpoint = self._parts["TableEndpoint"].replace(f":{self._port}", f":{port}")
        return ";".join(f"{name}={value}" for name, value in (self._parts | {"TableEndpoint": endpoint}).items())

    async def stop(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        wrote = False

        async def forth() -> None:
            nonlocal wrote
            while data := await reader.read(65_536):
                if data.startswith((b"POST", b"PUT")):
                    wrote = True
                back.write(data)
                await back.drain()

        async def home() -> None:
            nonlocal wrote
            while data := await there.read(65_536):
                if wrote and self.losing > 0:
                    self.losing -= 1
                    self.lost += 1
                    return
                wrote = False
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.create_task(forth()), asyncio.create_task(home())]
        with suppress(ConnectionError):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        writer.close()
        back.close()


@pytest.fixture
async def wire(storage: str) -> AsyncGenerator[Wire]:
    wire = Wire(storage)
    yield wire
    await wire.stop()


@pytest.fixture
async def documents(wire: Wire) -> AsyncGenerator[TableDocuments]:
    documents = TableDocuments(await wire.start(), f"d{uuid4().hex}")
    await documents.commit(BOARD, [Put("there", {"n": 0})])
    yield documents
    await documents.close()


class TestLostAnswers:
    async def test_a_creation_that_happened_is_no_conflict_with_itself(self, wire, documents):
        wire.losing = 1
        etags = await documents.commit(BOARD, [Put("card/1", {"n": 1}), Put("card/2", {"n": 2})])
        assert wire.lost == 1
        assert etags == {doc.id: doc.etag for doc in await documents.query(BOARD, "card/")}

    async def test_a_change_that_happened_is_not_stale(self, wire, documents):
        doc = await documents.get(BOARD, "there")
        wire.losing = 1
        etags = await documents.commit(BOARD, [Put("there", {"n": 1}, doc.etag)])
        assert (await documents.get(BOARD, "there")).etag == etags["there"]

    async def test_a_conflict_stays_one(self, wire, documents):
        wire.losing = 1
        with pytest.raises(Exists):
            await documents.commit(BOARD, [Put("there", {"n": 1})])
        assert (await documents.get(BOARD, "there")).body == {"n": 0}

    async def test_a_deletion_is_repeated(self, wire, documents):
        wire.losing = 1
        assert await documents.commit(BOARD, [Delete("there")]) == {}
        assert await documents.get(BOARD, "there") is None

    async def test_a_storage_that_never_answers_is_unavailable(self, wire, documents):
        wire.losing = 100
        with pytest.raises(Unavailable, match="does not answer"):
            await documents.commit(BOARD, [Put("there", {}, ANY), Delete("more")])
        wire.losing = 0
        await documents.commit(BOARD, [Put("after", {})])

    async def test_an_event_is_kept_once_and_told_its_sequence(self, wire):
        events = TableEvents(await wire.start(), f"e{uuid4().hex}")
        assert await events.append(SUBJECT, [{"id": "a"}]) == [1]
        wire.losing = 1
        assert await events.append(SUBJECT, [{"id": "b"}, {"id": "c"}]) == [2, 3]
        assert wire.lost == 1
        assert await events.append(SUBJECT, [{"id": "d"}]) == [4]
        assert [event["id"] for event in await events.read(SUBJECT)] == ["a", "b", "c", "d"]
        await events.close()


class TestSharing:
    async def test_commits_that_wait_share_batches_and_each_has_its_own_fate(self, storage):
        documents = TableDocuments(storage, f"d{uuid4().hex}")
        await documents.commit(BOARD, [Put("card/07", {})])
        commits = [documents.commit(BOARD, [Put(f"card/{n:02d}", {"n": n})]) for n in range(30)]
        results = await asyncio.gather(*commits, return_exceptions=True)
        assert [n for n, result in enumerate(results) if isinstance(result, Exists)] == [7]
        assert len(await documents.query(BOARD, "card/")) == 30
        await documents.close()


class TestKeys:
    def test_names_and_keys_sort_alike_and_come_back(self):
        rng = random.Random(7)
        alphabet = "aZ09_-./\\#?:~ é\u2028🂡\x00\x7f%'\"[`{}"
        names = ["".join(rng.choices(alphabet, k=rng.randint(0, 6))) for _ in range(3_000)]
        assert [table_keys.decode(table_keys.encode(name)) for name in names] == names
        assert sorted(names, key=table_keys.encode) == sorted(names)
        assert not any(set("/\\#?\x00\x7f") & set(table_keys.encode(name)) for name in names)

    async def test_strange_ids_are_kept_in_order(self, storage):
        documents = TableDocuments(storage, f"d{uuid4().hex}")
        names = ["a/b", "a.b", "a-b", "a b", "a'b", "a%2Fb", "ab", "aB", "a_b", "a~b", "a:b", "aéb", "a🂡", "a?#\\"]
        await documents.commit(BOARD, [Put(name, {"name": name}) for name in names])
        assert [doc.id for doc in await documents.query(BOARD, "a")] == sorted(names)
        assert [doc.id for doc in await documents.query(BOARD, "a", after="a/b", limit=3)] == sorted(names)[6:9]
        for name in names:
            assert (await documents.get(BOARD, name)).body == {"name": name}
        await documents.close()
