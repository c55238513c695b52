"""Every Documents store keeps the same promises."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from shared.adapters import layout
from shared.adapters.durable_files import locked
from shared.adapters.table_documents import TableDocuments
from shared.adapters.tinydb_documents import TinyDbDocuments
from shared.core import ids
from shared.core.errors import Exists, NotFound, PlatformError, Stale, TooLarge, Unavailable
from shared.core.holds import HOLD, HoldableDocuments, held
from shared.core.partitions import LARGEST_COMMIT, LARGEST_DOCUMENT, clone, drop
from shared.core.ports import ANY, Delete, Doc, Documents, Put
from tests.contracts.stores import STORES, documents_of

BOARD = "boards/t0123456789"
COPY = "boards/t9876543210"


@pytest.fixture(params=STORES)
async def documents(request: pytest.FixtureRequest, tmp_path: Path, storage: str) -> AsyncGenerator[Documents]:
    async with documents_of(request.param, tmp_path, storage) as store:
        yield store


async def ids_of(documents: Documents, **query) -> list[str]:
    return [doc.id for doc in await documents.query(BOARD, **query)]


class TestOneDocument:
    async def test_what_was_never_written_is_none(self, documents):
        assert await documents.get(BOARD, "card/1") is None
        assert await documents.query(BOARD) == []

    async def test_a_created_document_is_read_back_with_its_etag(self, documents):
        body = {"title": "Grüße", "labels": ["a"], "rank": None, "n": 1.5, "deep": {"x": [1, {"y": True}]}}
        etags = await documents.commit(BOARD, [Put("card/1", body)])
        doc = await documents.get(BOARD, "card/1")
        assert (doc.id, doc.body, doc.etag) == ("card/1", body, etags["card/1"])

    async def test_creating_what_is_there_raises_exists_and_keeps_it(self, documents):
        await documents.commit(BOARD, [Put("card/1", {"n": 1})])
        with pytest.raises(Exists):
            await documents.commit(BOARD, [Put("card/1", {"n": 2})])
        assert (await documents.get(BOARD, "card/1")).body == {"n": 1}

    async def test_replacing_with_the_right_etag_replaces_the_whole_body(self, documents):
        first = (await documents.commit(BOARD, [Put("card/1", {"n": 1, "gone": True})]))["card/1"]
        second = (await documents.commit(BOARD, [Put("card/1", {"n": 2}, first)]))["card/1"]
        assert second != first
        assert (await documents.get(BOARD, "card/1")).body == {"n": 2}

    async def test_replacing_with_an_old_etag_is_stale(self, documents):
        first = (await documents.commit(BOARD, [Put("card/1", {"n": 1})]))["card/1"]
        await documents.commit(BOARD, [Put("card/1", {"n": 2}, first)])
        with pytest.raises(Stale):
            await documents.commit(BOARD, [Put("card/1", {"n": 3}, first)])
        assert (await documents.get(BOARD, "card/1")).body == {"n": 2}

    async def test_an_etag_of_an_earlier_life_is_stale(self, documents):
        first = (await documents.commit(BOARD, [Put("card/1", {"n": 1})]))["card/1"]
        await documents.commit(BOARD, [Delete("card/1")])
        with pytest.raises(Stale):
            await documents.commit(BOARD, [Put("card/1", {"n": 2}, first)])
        await documents.commit(BOARD, [Put("card/1", {"n": 1})])
        with pytest.raises(Stale):
            await documents.commit(BOARD, [Put("card/1", {"n": 2}, first)])

    async def test_any_writes_whether_or_not_it_is_there(self, documents):
        await documents.commit(BOARD, [Put("card/1", {"n": 1}, ANY)])
        await documents.commit(BOARD, [Put("card/1", {"n": 2}, ANY)])
        assert (await documents.get(BOARD, "card/1")).body == {"n": 2}

    async def test_delete_with_any_accepts_a_missing_document(self, documents):
        await documents.commit(BOARD, [Put("card/1", {})])
        assert await documents.commit(BOARD, [Delete("card/1")]) == {}
        assert await documents.commit(BOARD, [Delete("card/1")]) == {}
        assert await documents.get(BOARD, "card/1") is None

    async def test_delete_with_an_etag_needs_that_version(self, documents):
        first = (await documents.commit(BOARD, [Put("card/1", {"n": 1})]))["card/1"]
        second = (await documents.commit(BOARD, [Put("card/1", {"n": 2}, first)]))["card/1"]
        with pytest.raises(Stale):
            await documents.commit(BOARD, [Delete("card/1", first)])
        await documents.commit(BOARD, [Delete("card/1", second)])
        with pytest.raises(Stale):
            await documents.commit(BOARD, [Delete("card/1", second)])

    async def test_changing_a_returned_or_a_given_body_changes_nothing_stored(self, documents):
        given = {"labels": ["a"]}
        await documents.commit(BOARD, [Put("card/1", given)])
        given["labels"].append("b")
        (await documents.get(BOARD, "card/1")).body["labels"].append("c")
        (await documents.query(BOARD))[0].body["labels"].append("d")
        assert (await documents.get(BOARD, "card/1")).body == {"labels": ["a"]}

    async def test_what_is_not_json_is_refused_and_nothing_is_written(self, documents):
        with pytest.raises(TypeError):
            await documents.commit(BOARD, [Put("card/1", {}), Put("card/2", {"n": object()})])
        assert await documents.query(BOARD) == []


class TestQuery:
    async def test_in_id_order_whatever_the_order_of_writing(self, documents):
        for name in ("card/b", "card/a", "run/1", "card/c", "board", "card/B"):
            await documents.commit(BOARD, [Put(name, {"name": name})])
        assert await ids_of(documents) == ["board", "card/B", "card/a", "card/b", "card/c", "run/1"]

    async def test_prefix_after_and_limit(self, documents):
        await documents.commit(BOARD, [Put(f"card/{n}", {"n": n}) for n in range(5)] + [Put("cardx", {}), Put("z", {})])
        assert await ids_of(documents, prefix="card/") == [f"card/{n}" for n in range(5)]
        assert await ids_of(documents, prefix="card/", after="card/2") == ["card/3", "card/4"]
        assert await ids_of(documents, prefix="card/", after="card/2x") == ["card/3", "card/4"]
        assert await ids_of(documents, prefix="card/", after="card/1", limit=2) == ["card/2", "card/3"]
        assert await ids_of(documents, prefix="card/", limit=0) == []
        assert await ids_of(documents, prefix="none/") == []

    async def test_partitions_do_not_see_each_other(self, documents):
        for partition in ("portal/team/t1", "portal/user/u1", "open/01", "open/02", "usage/t0123456789"):
            await documents.commit(partition, [Put("it", {"partition": partition})])
        for partition in ("portal/team/t1", "portal/user/u1", "open/01", "open/02", "usage/t0123456789"):
            assert [doc.body for doc in await documents.query(partition)] == [{"partition": partition}]
        assert await documents.query("portal/team/t2") == []


class TestCommit:
    @pytest.mark.parametrize("failing", [Put("card/1", {}), Put("card/9", {}, "old"), Delete("card/9", "old")])
    async def test_all_or_nothing(self, documents, failing):
        await documents.commit(BOARD, [Put("card/1", {"n": 1})])
        before = await documents.query(BOARD)
        with pytest.raises((Exists, Stale)):
            await documents.commit(BOARD, [Put("card/2", {}), Put("card/3", {}, ANY), failing, Put("card/4", {})])
        assert await documents.query(BOARD) == before

    async def test_all_or_nothing_of_a_hundred(self, documents):
        await documents.commit(BOARD, [Put("card/099", {"n": 1})])
        with pytest.raises(Exists):
            await documents.commit(BOARD, [Put(f"card/{n:03d}", {}) for n in range(100)])
        assert await ids_of(documents) == ["card/099"]

    async def test_a_mixed_commit_answers_with_the_etag_of_each_put(self, documents):
        first = await documents.commit(BOARD, [Put("a", {}), Put("b", {})])
        etags = await documents.commit(BOARD, [Put("a", {"n": 1}, first["a"]), Delete("b", first["b"]), Put("c", {})])
        assert etags == {doc.id: doc.etag for doc in await documents.query(BOARD)}
        assert set(etags) == {"a", "c"}

    async def test_a_hundred_operations_pass_and_one_more_is_refused(self, documents):
        await documents.commit(BOARD, [Put(f"card/{n:03d}", {}) for n in range(100)])
        with pytest.raises(ValueError, match="at most 100"):
            await documents.commit(BOARD, [Put(f"card/{n:03d}", {}, ANY) for n in range(101)])
        assert len(await documents.query(BOARD)) == 100

    @pytest.mark.parametrize("ops", [[Put("a", {}), Delete("a")], [Put("a", {}), Put("a", {})], [Put("", {})]])
    async def test_an_id_twice_or_empty_is_refused(self, documents, ops):
        with pytest.raises(ValueError, match="id of its own"):
            await documents.commit(BOARD, ops)
        assert await documents.query(BOARD) == []

    async def test_no_operations_change_nothing(self, documents):
        assert await documents.commit(BOARD, []) == {}
        assert await documents.query(BOARD) == []

    async def test_of_many_who_create_the_same_document_one_wins(self, documents):
        tries = [documents.commit(BOARD, [Put("name/x", {"n": n})]) for n in range(20)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(result, Exists) for result in results) == 19
        winner = next(n for n, result in enumerate(results) if not isinstance(result, Exception))
        assert (await documents.get(BOARD, "name/x")).body == {"n": winner}

    async def test_concurrent_increments_are_not_lost(self, documents):
        await documents.commit(BOARD, [Put("counter", {"n": 0})])
        await asyncio.gather(*(increment(documents) for _ in range(25)))
        assert (await documents.get(BOARD, "counter")).body == {"n": 25}


class TestPartitionNames:
    @pytest.mark.parametrize(
        "partition", ["", "cards/1", "boards", "boards/t0123456789/x", "open/1", "../x", "portal/x"]
    )
    async def test_an_unknown_kind_is_refused(self, documents, partition):
        with pytest.raises(ValueError, match="not a partition"):
            await documents.get(partition, "a")
        with pytest.raises(ValueError, match="not a partition"):
            await documents.commit(partition, [Put("a", {})])

    @pytest.mark.parametrize(
        "partition",
        ["boards/..", "boards/x0123456789", "tasks/..", "tasks/.", "tasks/", "tasks/A", "tasks/a.b", "tasks/a\0",
         "tasks/ä", "usage/w0123456789", "portal/user/", "portal/user/a\\b", "portal/user/a\nb"],
    )  # fmt: skip
    async def test_an_id_that_cannot_be_is_not_found(self, documents, partition):
        with pytest.raises(NotFound):
            await documents.get(partition, "a")
        with pytest.raises(NotFound):
            await documents.commit(partition, [Put("a", {})])


async def increment(documents: Documents) -> None:
    while True:
        doc = await documents.get(BOARD, "counter")
        try:
            await documents.commit(BOARD, [Put("counter", {"n": doc.body["n"] + 1}, doc.etag)])
            return
        except Stale:
            continue


class TestTinyDbFiles:
    """What only the file store can break."""

    @pytest.mark.parametrize(
        ("partition", "file"),
        [
            ("portal/user/u1", "portal/portal.json"),
            ("tasks/task_1", "portal/tasks/task_1.json"),
            ("open/07", "portal/open/07.json"),
            ("incidents/i1", "portal/incidents/i1.json"),
            ("boards/t0123456789", "teams/t0123456789/db.json"),
            ("boards/w0123456789", "workspaces/w0123456789/kanban/db.json"),
            ("usage/t0123456789", "teams/t0123456789/usage.json"),
        ],
    )
    async def test_each_partition_lies_where_the_layout_says(self, tmp_path, partition, file):
        await TinyDbDocuments(tmp_path).commit(partition, [Put("a/b", {"n": 1})])
        assert orjson.loads((tmp_path / file).read_bytes())[partition]["a/b"]["body"] == {"n": 1}

    async def test_ids_that_core_makes_are_partitions(self, tmp_path):
        for scope in (ids.new_team(), ids.new_workspace()):
            await TinyDbDocuments(tmp_path).commit(f"boards/{scope}", [Put("board", {})])
        assert len(list(tmp_path.rglob("db.json"))) == 2

    async def test_whoever_is_cancelled_while_committing_can_delete_it_for_good(self, tmp_path):
        documents = TinyDbDocuments(tmp_path)
        await documents.commit(BOARD, [Put("board", {})])
        file = layout.partition_file(tmp_path, BOARD)
        with locked(file.with_name(f"{file.name}.lock")):
            commit = asyncio.create_task(documents.commit(BOARD, [Put("card/1", {})]))
            await asyncio.sleep(0.05)
            commit.cancel()
            await asyncio.sleep(0.05)
            assert not commit.done()
        with pytest.raises(asyncio.CancelledError):
            await commit
        await drop(documents, BOARD)
        assert await documents.query(BOARD) == []

    async def test_another_instance_sees_every_change_at_once(self, tmp_path):
        one, other = TinyDbDocuments(tmp_path), TinyDbDocuments(tmp_path)
        for n in range(50):
            await one.commit(BOARD, [Put("a", {"n": n % 10}, ANY)])
            assert (await other.get(BOARD, "a")).body == {"n": n % 10}

    async def test_an_unchanged_file_is_not_read_again(self, tmp_path):
        documents = TinyDbDocuments(tmp_path)
        await documents.commit(BOARD, [Put("a", {"n": 1})])
        path = tmp_path / "teams" / "t0123456789" / "db.json"
        stat = path.stat()
        with path.open("r+b") as file:
            file.write(b"#" * stat.st_size)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert (await documents.get(BOARD, "a")).body == {"n": 1}
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
        with pytest.raises(PlatformError, match="damaged"):
            await documents.get(BOARD, "a")

    async def test_a_damaged_file_is_not_written_over(self, tmp_path):
        path = tmp_path / "teams" / "t0123456789" / "db.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(b'{"boards/t01234')
        with pytest.raises(PlatformError, match="damaged"):
            await TinyDbDocuments(tmp_path).commit(BOARD, [Put("a", {})])
        assert path.read_bytes() == b'{"boards/t01234'

    async def test_a_disk_that_cannot_be_written_is_unavailable(self, tmp_path):
        (tmp_path / "teams").write_text("a file where a folder must be")
        with pytest.raises(Unavailable, match="data folder"):
            await TinyDbDocuments(tmp_path).commit(BOARD, [Put("a", {})])

    async def test_emptied_partitions_leave_no_trace_in_the_file(self, tmp_path):
        documents = TinyDbDocuments(tmp_path)
        await documents.commit("portal/login/1", [Put("a", {})])
        await documents.commit("portal/login/1", [Delete("a")])
        await documents.close()
        assert orjson.loads((tmp_path / "portal" / "portal.json").read_bytes()).keys() == {"_journal"}


class TestProcesses:
    """A second process at work on the same documents; `place` says to it where they are."""

    @pytest.fixture(params=["files", "azure"])
    async def place(self, request: pytest.FixtureRequest, tmp_path: Path, storage: str) -> str:
        return str(tmp_path) if request.param == "files" else f"{storage}|d{uuid4().hex}"

    @pytest.fixture
    async def documents(self, place: str) -> AsyncGenerator[Documents]:
        connection, _, table = place.partition("|")
        store = TableDocuments(connection, table) if table else TinyDbDocuments(Path(place))
        yield store
        await store.close()

    async def test_two_processes_lose_no_increment(self, documents, place):
        await documents.commit(BOARD, [Put("counter", {"n": 0})])
        children = [start("increments", place) for _ in range(2)]
        assert [await asyncio.to_thread(child.wait, 60) for child in children] == [0, 0]
        for child in children:
            child.stdout.close()
        assert (await documents.get(BOARD, "counter")).body == {"n": 100}

    async def test_a_kill_in_the_middle_of_writing_tears_nothing(self, documents, place):
        for pause in (0.01, 0.03, 0.05, 0.07, 0.09):
            child = start("pairs", place)
            acknowledged = [await asyncio.to_thread(child.stdout.readline)]
            await asyncio.sleep(pause)
            child.send_signal(signal.SIGKILL)
            acknowledged += child.stdout.readlines()
            child.wait(10)
            child.stdout.close()
            left, right = [doc.body for doc in await documents.query(BOARD) if doc.id in ("left", "right")]
            assert left == right
            whole = [line for line in acknowledged if line.endswith(b"\n")]
            assert left["n"] >= int(whole[-1])
            await asyncio.wait_for(documents.commit(BOARD, [Put("after", {"n": 1}, ANY)]), 5)

    async def test_a_clone_of_what_another_process_changes_all_the_time_is_a_cut(self, documents, place):
        await documents.commit(BOARD, [Put(f"card/{n:03d}", {"n": n}) for n in range(100)])
        child = start("counts", place)
        try:
            before = int(await asyncio.to_thread(child.stdout.readline))
            await clone(documents, BOARD, COPY)
            assert child.poll() is None
            await asyncio.sleep(0.5)  # it writes on
        finally:
            child.send_signal(signal.SIGKILL)
        last = [int(line) for line in child.stdout.readlines() if line.endswith(b"\n")][-1]
        child.wait(10)
        child.stdout.close()
        cut = self.counted(await documents.query(COPY))
        there = self.counted([doc for doc in await documents.query(BOARD) if doc.id != HOLD])
        assert before <= cut <= last <= there <= last + 1
        assert cut < there
        assert len(await documents.query(COPY, "card/")) == 100

    def counted(self, docs: list[Doc]) -> int:
        """How far it was counted; nothing is torn, and nothing before is missing."""
        numbers = {doc.id: doc.body["n"] for doc in docs if not doc.id.startswith("card/")}
        left, right = numbers.pop("left"), numbers.pop("right")
        assert left == right
        assert sorted(numbers.values()) == list(range(1, left + 1))
        return left

    async def test_a_hold_of_a_killed_process_ends_by_itself(self, documents, place):
        child = start("holds", place)
        await asyncio.to_thread(child.stdout.readline)
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        child.stdout.close()
        writer = HoldableDocuments(documents, longest=1.5, patience=0.5)
        with pytest.raises(Unavailable, match="being copied") as refused:
            await writer.commit(BOARD, [Put("a", {})])
        assert refused.value.retry_after
        await asyncio.sleep(1.2)
        await writer.commit(BOARD, [Put("a", {})])
        assert await documents.get(BOARD, HOLD) is None
        assert await documents.get(BOARD, "a")

    async def test_a_drop_that_was_killed_goes_on_when_repeated(self, documents, place):
        for start_ in range(0, 2_000, 100):
            await documents.commit(BOARD, [Put(f"card/{n:05d}", {"n": n}) for n in range(start_, start_ + 100)])
        child = start("drops", place)
        await asyncio.to_thread(child.stdout.readline)
        while len(await documents.query(BOARD, limit=2_000)) == 2_000:
            await asyncio.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        child.stdout.close()
        await drop(documents, BOARD)
        await drop(documents, BOARD)
        assert await documents.query(BOARD) == []


class TestSize:
    @pytest.mark.parametrize("text", ["x" * 200_000, "🂡" * 60_000, "x" * 65_526 + "🂡é" * 20, '\x00\u2028"'])
    async def test_large_and_strange_bodies_come_back_whole(self, documents, text):
        await documents.commit(BOARD, [Put("card/1", {"body": text})])
        assert (await documents.get(BOARD, "card/1")).body == {"body": text}
        assert (await documents.query(BOARD))[0].body == {"body": text}

    async def test_too_large_a_document_is_refused_and_nothing_is_written(self, documents):
        await documents.commit(BOARD, [Put("card/0", {"body": "x" * (LARGEST_DOCUMENT - 20)})])
        with pytest.raises(TooLarge, match="Shorten it"):
            await documents.commit(BOARD, [Put("card/1", {}), Put("card/2", {"body": "x" * LARGEST_DOCUMENT})])
        assert await ids_of(documents) == ["card/0"]

    async def test_too_large_a_commit_is_refused_and_the_largest_one_passes(self, documents):
        third = {"body": "x" * (LARGEST_COMMIT // 4 - 20)}
        with pytest.raises(TooLarge, match="Change less at once"):
            await documents.commit(BOARD, [Put(f"card/{n}", third) for n in range(5)])
        assert await ids_of(documents) == []
        await documents.commit(BOARD, [Put(f"card/{n}", third) for n in range(4)])
        assert len(await ids_of(documents)) == 4


class TestTenThousand:
    @pytest.mark.timeout(600)
    async def test_are_listed_paged_and_dropped(self, documents):
        for start_ in range(0, 10_000, 100):
            await documents.commit(BOARD, [Put(f"card/{n:05d}", {"n": n}) for n in range(start_, start_ + 100)])
        docs = await documents.query(BOARD, "card/")
        assert [doc.body["n"] for doc in docs] == list(range(10_000))
        page = await documents.query(BOARD, "card/", after="card/04999", limit=1_500)
        assert [doc.id for doc in page] == [f"card/{n:05d}" for n in range(5_000, 6_500)]
        await drop(documents, BOARD)
        assert await documents.query(BOARD, limit=1) == []


class TestClone:
    async def test_it_is_the_source_at_one_moment_while_writes_go_on(self, documents):
        """Two documents that are always written together agree in the copy, and the rest is there."""
        await documents.commit(BOARD, [Put(f"card/{n:03d}", {"n": 0}) for n in range(100)])
        writing = asyncio.create_task(self.write_pairs(documents))
        await clone(documents, BOARD, COPY)
        writing_went_on = not writing.done()
        await writing
        copied = {doc.id: doc.body["n"] for doc in await documents.query(COPY)}
        assert writing_went_on or copied["card/000"] == 25
        assert len(copied) == 100
        assert copied["card/000"] == copied["card/099"]

    async def write_pairs(self, documents: Documents) -> None:
        for n in range(1, 26):
            await documents.commit(BOARD, [Put("card/000", {"n": n}, ANY), Put("card/099", {"n": n}, ANY)])
            await asyncio.sleep(0.01 if n < 20 else 0.3)

    async def test_it_comes_to_an_end_under_writes_without_a_pause(self, documents):
        holdable, enough, written = HoldableDocuments(documents), asyncio.Event(), 0

        async def write_on(name: str) -> None:
            nonlocal written
            while not enough.is_set():
                await holdable.commit(
                    BOARD, [Put(f"{name}/a", {"n": written}, ANY), Put(f"{name}/b", {"n": written}, ANY)]
                )
                written += 1
                await asyncio.sleep(0)

        writers = [asyncio.create_task(write_on(name)) for name in "xyz"]
        try:
            while written < 6:
                await asyncio.sleep(0)
            await clone(documents, BOARD, COPY)
            copied_at = written
            while written < copied_at + 6:
                await asyncio.sleep(0)
        finally:
            enough.set()
            await asyncio.gather(*writers)
        copied = {doc.id: doc.body["n"] for doc in await documents.query(COPY)}
        assert len(copied) == 6
        assert all(copied[f"{name}/a"] == copied[f"{name}/b"] for name in "xyz")
        assert await documents.get(BOARD, HOLD) is None

    async def test_more_documents_than_a_page_are_copied(self, documents):
        for start_ in range(0, 1_200, 100):
            await documents.commit(BOARD, [Put(f"card/{n:05d}", {"n": n}) for n in range(start_, start_ + 100)])
        await clone(documents, BOARD, COPY)
        assert [doc.body["n"] for doc in await documents.query(COPY)] == list(range(1_200))

    async def test_repeating_it_brings_the_copy_up_to_date(self, documents):
        await documents.commit(BOARD, [Put("a", {"n": 1}), Put("b", {"n": 1}), Put("outbox/1/000", {})])
        await clone(documents, BOARD, COPY)
        await documents.commit(BOARD, [Put("a", {"n": 2}, ANY), Delete("b"), Put("c", {"n": 1})])
        await clone(documents, BOARD, COPY)
        assert [(doc.id, doc.body["n"]) for doc in await documents.query(COPY)] == [("a", 2), ("c", 1)]


class TestHold:
    async def test_writes_wait_and_what_waits_to_be_sent_does_not(self, documents):
        writer = HoldableDocuments(documents)
        async with held(documents, BOARD):
            waiting = asyncio.create_task(writer.commit(BOARD, [Put("card/1", {})]))
            await writer.commit(BOARD, [Put("outbox/1/000", {})])
            await writer.commit("boards/t0000000000", [Put("card/1", {})])
            assert await writer.query(BOARD, "card/") == []
            assert not waiting.done()
        assert (await waiting).keys() == {"card/1"}
        assert await writer.get(BOARD, "card/1")

    async def test_a_hold_that_came_after_another_is_not_ended_with_it(self, documents):
        async with held(documents, BOARD):
            first = held(documents, BOARD)
            await first.__aenter__()
            hold = await documents.get(BOARD, HOLD)
        assert await documents.get(BOARD, HOLD) == hold
        await first.__aexit__(None, None, None)
        assert await documents.get(BOARD, HOLD) is None


def start(work: str, place: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.contracts.documents_child", work, place]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
