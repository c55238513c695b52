"""The file under the TinyDB store: what kills, full disks and other processes leave behind."""

import os
import resource
import threading
from pathlib import Path

import orjson
import pytest
from tinydb import TinyDB

from shared.adapters.journaled_file import JOURNAL, Change, JournaledFile
from shared.core.errors import Exists, PlatformError, Stale, Unavailable


def put(id: str, body: object, etag: str | None = "*") -> Change:
    return Change(id, etag, orjson.dumps(body))


def write(file: JournaledFile, *changes: Change, partition: str = "boards/t1") -> dict[str, str] | Exception:
    (result,) = file.commit([(partition, changes)])
    return result


def read(path: Path, partition: str = "boards/t1") -> dict[str, object]:
    """As a process that has just started sees it."""
    file = JournaledFile(path)
    file.refresh()
    return {doc.id: doc.body for doc in file.partition(partition).docs}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db.json"


@pytest.fixture
def journal(path: Path) -> Path:
    return path.with_name(path.name + JOURNAL)


class TestGroup:
    def test_each_commit_of_a_group_is_refused_by_itself(self, path: Path) -> None:
        file = JournaledFile(path)
        first, again, other = file.commit(
            [("boards/t1", [put("a", 1, None)]), ("boards/t1", [put("a", 2, None), put("b", 2)]), ("x", [put("a", 3)])]
        )
        assert isinstance(first, dict)
        assert isinstance(again, Exists)
        assert isinstance(other, dict)
        assert read(path) == {"a": 1}
        assert read(path, "x") == {"a": 3}

    def test_later_commits_of_a_group_see_earlier_ones(self, path: Path) -> None:
        file = JournaledFile(path)
        made = write(file, put("a", 1))
        assert isinstance(made, dict)
        works = [("boards/t1", [put("a", n, made["a"])]) for n in (2, 3)]
        won, lost = file.commit(works)
        assert isinstance(won, dict)
        assert isinstance(lost, Stale)
        assert read(path) == {"a": 2}


class TestJournal:
    def test_a_commit_after_the_first_leaves_the_base_alone(self, path: Path, journal: Path) -> None:
        file = JournaledFile(path)
        write(file, put("a", 1))
        base = path.read_bytes()
        write(file, put("a", 2), Change("b", "*", None))
        assert path.read_bytes() == base
        assert journal.stat().st_size > 0
        assert read(path) == {"a": 2}

    def test_a_large_journal_goes_into_the_base(self, path: Path, journal: Path) -> None:
        file = JournaledFile(path)
        for n in range(9):
            write(file, put(f"card/{n}", "x" * 50_000))
        assert path.stat().st_size > 300_000
        assert journal.stat().st_size < 100_000
        assert sorted(read(path)) == [doc.id for doc in file.partition("boards/t1").docs]
        assert len(read(path)) == 9

    @pytest.mark.parametrize("lost", [1, 5, 40])
    def test_a_line_that_was_cut_off_never_happened(self, path: Path, journal: Path, lost: int) -> None:
        file = JournaledFile(path)
        for n in range(3):
            write(file, put("a", n))
        os.truncate(journal, journal.stat().st_size - lost)
        assert read(path) == {"a": 1}
        after = JournaledFile(path)
        write(after, put("b", 1))
        assert read(path) == {"a": 1, "b": 1}

    def test_a_last_line_of_zeros_never_happened(self, path: Path, journal: Path) -> None:
        file = JournaledFile(path)
        write(file, put("a", 0))
        write(file, put("a", 1))
        end = journal.stat().st_size
        write(file, put("a", 2))
        with journal.open("r+b") as raw:
            raw.seek(end)
            raw.write(b"\0" * 20)
        assert read(path) == {"a": 1}

    def test_damage_in_the_middle_is_an_error_and_nothing_is_written_over_it(self, path: Path, journal: Path) -> None:
        file = JournaledFile(path)
        for n in range(4):
            write(file, put("a", n))
        data = journal.read_bytes()
        journal.write_bytes(data.replace(b"[1]", b"[7]").replace(b",1]", b",7]"))
        damaged = journal.read_bytes()
        assert damaged != data
        with pytest.raises(PlatformError, match="damaged"):
            read(path)
        with pytest.raises(PlatformError, match="damaged"):
            write(JournaledFile(path), put("b", 1))
        assert journal.read_bytes() == damaged

    def test_a_journal_of_the_generation_before_is_void(self, path: Path, journal: Path) -> None:
        file = JournaledFile(path)
        write(file, put("a", 1))
        write(file, put("a", 2))
        old = journal.read_bytes()
        file.checkpoint()
        write(file, put("a", 3))
        file.checkpoint()
        journal.write_bytes(old)  # the kill came between the base and the journal's removal
        assert read(path) == {"a": 3}
        write(JournaledFile(path), put("b", 4))
        assert read(path) == {"a": 3, "b": 4}

    def test_the_same_bytes_whether_from_base_or_journal(self, path: Path) -> None:
        file = JournaledFile(path)
        made = write(file, put("a", {"n": 1.5, "t": "Grüße"}))
        changed = write(file, put("b", {"x": [None, True]}))
        assert isinstance(made, dict)
        assert isinstance(changed, dict)
        file.checkpoint()
        fresh = JournaledFile(path)
        fresh.refresh()
        assert fresh.partition("boards/t1").docs == file.partition("boards/t1").docs


class TestTwoFiles:
    def test_one_sees_the_commits_and_checkpoints_of_the_other(self, path: Path) -> None:
        one, other = JournaledFile(path), JournaledFile(path)
        for n in range(60):
            write(one, put("a", n))
            if n % 7 == 0:
                one.checkpoint()
            assert not other.is_current()
            other.refresh()
            assert other.is_current()
            doc = other.partition("boards/t1").get("a")
            assert doc is not None
            assert doc.body == n

    def test_a_removed_file_is_empty(self, path: Path, journal: Path) -> None:
        file = JournaledFile(path)
        write(file, put("a", 1))
        write(file, put("a", 2))
        path.unlink()
        journal.unlink()
        assert not file.is_current()
        file.refresh()
        assert file.partition("boards/t1").docs == []

    def test_threads_that_read_and_write_lose_nothing(self, path: Path) -> None:
        file = JournaledFile(path)
        write(file, put("n", {"n": 0}))

        def add() -> None:
            for _ in range(50):
                while True:
                    doc = file.partition("boards/t1").get("n")
                    assert doc is not None
                    if isinstance(write(file, put("n", {"n": doc.body["n"] + 1}, doc.etag)), dict):
                        break

        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert read(path) == {"n": {"n": 200}}


class TestFullDisk:
    def test_a_commit_without_room_is_refused_and_the_next_one_passes(self, path: Path) -> None:
        file = JournaledFile(path)
        write(file, put("a", 1))
        write(file, put("a", 2))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
        try:
            with pytest.raises(Unavailable, match="data folder"):
                write(file, put("b", "x" * 1000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert read(path) == {"a": 2}
        file.refresh()
        assert [doc.id for doc in file.partition("boards/t1").docs] == ["a"]
        write(file, put("b", 3))
        assert read(path) == {"a": 2, "b": 3}


class TestTinyDb:
    def test_the_base_is_a_tinydb_file(self, path: Path) -> None:
        file = JournaledFile(path)
        write(file, put("1", {"n": 1}))
        write(file, put("2", {"n": 2}))
        file.checkpoint()
        with TinyDB(path, access_mode="r") as database:
            assert [row["body"] for row in database.table("boards/t1").all()] == [{"n": 1}, {"n": 2}]

    def test_tinydb_reads_through_the_journal_and_may_not_write(self, path: Path) -> None:
        file = JournaledFile(path)
        write(file, put("1", {"n": 1}))
        write(file, put("2", {"n": 2}))
        database = TinyDB(path, storage=JournaledFile)
        assert len(database.table("boards/t1").all()) == 2
        with pytest.raises(PlatformError, match="through the platform"):
            database.table("boards/t1").insert({"n": 3})
        assert len(read(path)) == 2
