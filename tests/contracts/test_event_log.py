"""Every EventLog keeps the same promises."""

import asyncio
import fcntl
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from shared.adapters import layout
from shared.adapters.jsonl_events import JsonlEvents
from shared.adapters.table_events import TableEvents
from shared.core.errors import NotFound, PlatformError, Unavailable
from shared.core.ports import EventLog, Json
from tests.contracts.stores import STORES, events_of

TEAM = "t0123456789"
RUN = f"run/run_{TEAM}_1"


@pytest.fixture(params=STORES)
async def log(request: pytest.FixtureRequest, tmp_path: Path, storage: str) -> AsyncGenerator[EventLog]:
    async with events_of(request.param, tmp_path, storage) as store:
        yield store


def event(id: str, **fields) -> Json:
    return {"id": id, "type": "agent.progress", **fields}


class TestAppend:
    async def test_sequences_start_at_one_and_have_no_gap(self, log):
        assert await log.append(RUN, [event("a"), event("b")]) == [1, 2]
        assert await log.append(RUN, [event("c")]) == [3]
        assert await log.last(RUN) == 3

    async def test_repeating_an_event_keeps_its_first_sequence(self, log):
        await log.append(RUN, [event("a"), event("b", n=1)])
        assert await log.append(RUN, [event("b", n=2), event("c"), event("a"), event("c")]) == [2, 3, 1, 3]
        assert [(e["id"], e.get("n"), e["sequence"]) for e in await log.read(RUN)] == [
            ("a", None, 1),
            ("b", 1, 2),
            ("c", None, 3),
        ]

    async def test_the_given_event_is_left_alone_and_its_own_sequence_ignored(self, log):
        given = event("a", sequence=99)
        await log.append(RUN, [given])
        assert given["sequence"] == 99
        assert (await log.read(RUN))[0]["sequence"] == 1

    async def test_an_event_without_id_is_refused_and_nothing_is_kept(self, log):
        with pytest.raises(ValueError, match="`id`"):
            await log.append(RUN, [event("a"), {"type": "x"}])
        assert await log.last(RUN) == 0

    async def test_what_is_not_json_is_refused_and_nothing_is_kept(self, log):
        with pytest.raises(TypeError):
            await log.append(RUN, [event("a"), event("b", n=object())])
        assert await log.last(RUN) == 0

    async def test_no_events_change_nothing(self, log):
        assert await log.append(RUN, []) == []
        assert await log.last(RUN) == 0

    async def test_concurrent_appends_each_get_a_sequence_of_their_own(self, log):
        answers = await asyncio.gather(*(log.append(RUN, [event(f"{n}a"), event(f"{n}b")]) for n in range(20)))
        assert sorted(sequence for answer in answers for sequence in answer) == list(range(1, 41))
        assert [e["sequence"] for e in await log.read(RUN)] == list(range(1, 41))


class TestRead:
    async def test_an_unknown_subject_is_empty(self, log):
        assert await log.read(RUN) == []
        assert await log.last(RUN) == 0

    async def test_after_and_limit(self, log):
        await log.append(RUN, [event(f"e{n}") for n in range(1, 11)])
        assert [e["sequence"] for e in await log.read(RUN, after=7)] == [8, 9, 10]
        assert [e["sequence"] for e in await log.read(RUN, after=2, limit=3)] == [3, 4, 5]
        assert await log.read(RUN, after=10) == []
        assert await log.read(RUN, after=99) == []
        assert await log.read(RUN, limit=0) == []
        assert len(await log.read(RUN, after=-5)) == 10

    async def test_at_most_500_at_once_unless_asked(self, log):
        await log.append(RUN, [event(f"e{n}") for n in range(600)])
        assert [e["sequence"] for e in await log.read(RUN)] == list(range(1, 501))
        assert len(await log.read(RUN, limit=1000)) == 600

    async def test_events_come_back_whole(self, log):
        data = {"text": "zwei\nZeilen\r\u2028 und ü", "deep": [1, {"x": None}]}
        await log.append(RUN, [event("a", data=data), event("b")])
        assert await log.read(RUN) == [event("a", data=data, sequence=1), event("b", sequence=2)]

    async def test_changing_what_was_read_changes_nothing_kept(self, log):
        await log.append(RUN, [event("a", data={"n": 1})])
        (await log.read(RUN))[0]["data"]["n"] = 2
        assert (await log.read(RUN))[0]["data"] == {"n": 1}

    async def test_subjects_do_not_see_each_other(self, log):
        subjects = [RUN, f"board/board_{TEAM}", "task/task_1", f"team/{TEAM}", f"usage/{TEAM}", "user/u1"]
        for subject in subjects:
            assert await log.append(subject, [event("same id", subject=subject)]) == [1]
        for subject in subjects:
            assert [e["subject"] for e in await log.read(subject)] == [subject]


class TestSubjectNames:
    @pytest.mark.parametrize("subject", ["", "run", "card/1", "../x", f"team/{TEAM}/x"])
    async def test_an_unknown_kind_is_refused(self, log, subject):
        with pytest.raises(ValueError, match="not a subject"):
            await log.append(subject, [event("a")])
        with pytest.raises(ValueError, match="not a subject"):
            await log.read(subject)

    @pytest.mark.parametrize(
        "subject",
        ["task/..", "task/", "user/A", "user/a.b", "run/x", "run/run_../_x", "board/board_..", "team/w012345678"],
    )
    async def test_an_id_that_cannot_be_is_refused(self, log, subject):
        with pytest.raises((NotFound, ValueError)):
            await log.append(subject, [event("a")])
        with pytest.raises((NotFound, ValueError)):
            await log.last(subject)


class TestJsonlFiles:
    """What only the file log can break."""

    @pytest.mark.parametrize(
        ("subject", "file"),
        [
            (f"board/board_{TEAM}", f"teams/{TEAM}/events/board_{TEAM}.jsonl"),
            ("board/board_w0123456789", "workspaces/w0123456789/kanban/events/board_w0123456789.jsonl"),
            (RUN, f"teams/{TEAM}/events/run_{TEAM}_1.jsonl"),
            ("run/run_w0123456789_1", "workspaces/w0123456789/kanban/events/run_w0123456789_1.jsonl"),
            ("task/task_1", "portal/tasks/task_1.events.jsonl"),
            (f"team/{TEAM}", f"teams/{TEAM}/events/team.jsonl"),
            (f"usage/{TEAM}", f"teams/{TEAM}/events/usage.jsonl"),
            ("user/u1", "portal/users/u1.events.jsonl"),
        ],
    )
    async def test_each_subject_lies_where_the_layout_says(self, tmp_path, subject, file):
        await JsonlEvents(tmp_path).append(subject, [event("a")])
        assert orjson.loads((tmp_path / file).read_bytes()) == event("a", sequence=1)

    async def test_a_torn_last_line_is_ignored_and_then_replaced(self, tmp_path):
        await JsonlEvents(tmp_path).append(RUN, [event("a"), event("b")])
        with file_of(tmp_path).open("ab") as file:
            file.write(b'{"id":"torn","data":"' + b"x" * 5000)
        log = JsonlEvents(tmp_path)
        assert [e["id"] for e in await log.read(RUN)] == ["a", "b"]
        assert await log.append(RUN, [event("torn"), event("c")]) == [3, 4]
        assert [e["id"] for e in await log.read(RUN)] == ["a", "b", "torn", "c"]
        assert [orjson.loads(line)["sequence"] for line in file_of(tmp_path).read_bytes().splitlines()] == [1, 2, 3, 4]

    async def test_a_line_torn_behind_the_back_of_an_open_log(self, tmp_path):
        log = JsonlEvents(tmp_path)
        await log.append(RUN, [event("a")])
        with file_of(tmp_path).open("ab") as file:
            file.write(b'{"id":"torn"')
        assert [e["id"] for e in await log.read(RUN)] == ["a"]
        assert await log.append(RUN, [event("b")]) == [2]
        assert [e["id"] for e in await log.read(RUN)] == ["a", "b"]

    async def test_two_logs_on_one_file_see_each_other(self, tmp_path):
        one, other = JsonlEvents(tmp_path), JsonlEvents(tmp_path)
        assert await one.append(RUN, [event("a")]) == [1]
        assert await other.append(RUN, [event("b"), event("a")]) == [2, 1]
        assert await one.append(RUN, [event("b"), event("c")]) == [2, 3]
        assert [e["id"] for e in await other.read(RUN)] == ["a", "b", "c"]

    async def test_a_file_replaced_by_another_is_read_anew(self, tmp_path):
        log = JsonlEvents(tmp_path)
        await log.append(RUN, [event("a"), event("b")])
        copy = tmp_path / "copy"
        copy.write_bytes(orjson.dumps(event("z", sequence=1)) + b"\n")
        os.replace(copy, file_of(tmp_path))
        assert [e["id"] for e in await log.read(RUN)] == ["z"]
        assert await log.append(RUN, [event("a")]) == [2]

    @pytest.mark.parametrize("line", [b"{\n", b'{"id":"x","sequence":7}\n', b'{"sequence":2}\n', b"[]\n"])
    async def test_a_damaged_line_is_reported_and_not_built_upon(self, tmp_path, line):
        await JsonlEvents(tmp_path).append(RUN, [event("a")])
        with file_of(tmp_path).open("ab") as file:
            file.write(line)
        before = file_of(tmp_path).read_bytes()
        for log in (JsonlEvents(tmp_path), JsonlEvents(tmp_path)):
            with pytest.raises(PlatformError, match="line 2 is damaged"):
                await log.read(RUN)
            with pytest.raises(PlatformError, match="line 2 is damaged"):
                await log.append(RUN, [event("b")])
        assert file_of(tmp_path).read_bytes() == before

    async def test_reading_the_end_does_not_read_the_beginning(self, tmp_path):
        log = JsonlEvents(tmp_path)
        await log.append(RUN, [event(f"e{n}") for n in range(100)])
        with file_of(tmp_path).open("r+b") as file:
            file.write(b"#" * 50)
        assert await log.append(RUN, [event("last"), event("e0")]) == [101, 1]
        assert [e["id"] for e in await log.read(RUN, after=99)] == ["e99", "last"]

    async def test_a_disk_that_cannot_be_written_is_unavailable(self, tmp_path):
        (tmp_path / "teams").write_text("a file where a folder must be")
        with pytest.raises(Unavailable, match="data folder"):
            await JsonlEvents(tmp_path).append(RUN, [event("a")])

    async def test_an_append_without_room_is_refused_and_the_next_one_passes(self, tmp_path):
        log = JsonlEvents(tmp_path)
        await log.append(RUN, [event("a")])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
        try:
            with pytest.raises(Unavailable, match="data folder"):
                await log.append(RUN, [event("b", ballast="x" * 1_000)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [e["id"] for e in await log.read(RUN)] == ["a"]
        assert await log.append(RUN, [event("b"), event("c")]) == [2, 3]
        assert [e["id"] for e in await JsonlEvents(tmp_path).read(RUN)] == ["a", "b", "c"]


class TestProcesses:
    """Other processes at work on the same subject; `place` says to them where it is."""

    @pytest.fixture(params=["files", "azure"])
    async def place(self, request: pytest.FixtureRequest, tmp_path: Path, storage: str) -> str:
        return str(tmp_path) if request.param == "files" else f"{storage}|e{uuid4().hex}"

    @asynccontextmanager
    async def fresh(self, place: str) -> AsyncGenerator[EventLog]:
        connection, _, table = place.partition("|")
        if not table:
            yield JsonlEvents(Path(place))
            return
        log = TableEvents(connection, table)
        yield log
        await log.close()

    async def test_two_of_them_leave_no_gap_and_no_duplicate(self, place):
        rounds = 60 if "|" not in place else 15
        children = [start(name, place, rounds) for name in ("left", "right")]
        assert [await asyncio.to_thread(child.wait, 90) for child in children] == [0, 0]
        for child in children:
            child.stdout.close()
        async with self.fresh(place) as log:
            events = await log.read(RUN)
        assert [e["sequence"] for e in events] == list(range(1, 6 * rounds + 1))
        assert len({e["id"] for e in events}) == 6 * rounds

    async def test_a_kill_in_the_middle_of_appending_loses_nothing_acknowledged(self, place):
        acknowledged = 0
        for turn, pause in enumerate((0.01, 0.03, 0.05, 0.07)):
            child = start(f"turn{turn}", place, 0)
            lines = [await asyncio.to_thread(child.stdout.readline)]
            await asyncio.sleep(pause)
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.readlines()
            child.wait(10)
            child.stdout.close()
            acknowledged = max([acknowledged, *(int(line) for line in lines if line.endswith(b"\n"))])
            async with self.fresh(place) as log:
                last = (await log.append(RUN, [event(f"after{turn}")]))[0]
                assert last > acknowledged
                assert [e["sequence"] for e in await log.read(RUN, limit=100_000)] == list(range(1, last + 1))


def file_of(root: Path) -> Path:
    return root / "teams" / TEAM / "events" / f"run_{TEAM}_1.jsonl"


def start(name: str, place: str, rounds: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.contracts.event_log_child", name, place, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])


class TestDrop:
    async def test_nothing_is_left_and_the_subject_begins_anew(self, log):
        await log.append(RUN, [event(f"e{n}") for n in range(120)])
        await log.drop(RUN)
        assert (await log.last(RUN), await log.read(RUN)) == (0, [])
        assert await log.append(RUN, [event("e1"), event("z")]) == [1, 2]
        assert [e["id"] for e in await log.read(RUN)] == ["e1", "z"]

    async def test_a_subject_without_events_is_fine_and_others_stay(self, log):
        await log.append(f"run/run_{TEAM}_2", [event("a")])
        await log.drop(RUN)
        await log.drop(RUN)
        assert await log.last(f"run/run_{TEAM}_2") == 1

    async def test_whoever_has_read_it_before_sees_it_begin_anew(self, tmp_path, storage):
        for kind in ("files", "azure"):
            async with events_of(kind, tmp_path, storage) as log:
                other = JsonlEvents(tmp_path) if isinstance(log, JsonlEvents) else log
                await log.append(RUN, [event("first")])
                assert await other.last(RUN) == 1
                await log.drop(RUN)
                await log.append(RUN, [event("the second is longer"), event("and one more")])
                assert [e["id"] for e in await other.read(RUN)] == ["the second is longer", "and one more"]

    async def test_whoever_is_cancelled_while_appending_can_drop_it_for_good(self, tmp_path):
        log = JsonlEvents(tmp_path)
        await log.append(RUN, [event("a")])
        with open(layout.subject_file(tmp_path, RUN), "rb") as busy:
            fcntl.flock(busy, fcntl.LOCK_EX)
            append = asyncio.create_task(log.append(RUN, [event("b")]))
            await asyncio.sleep(0.05)
            append.cancel()
            drop = asyncio.create_task(log.drop(RUN))
            await asyncio.sleep(0.05)
            assert not append.done()
        with pytest.raises(asyncio.CancelledError):
            await append
        await drop
        assert await log.last(RUN) == 0
