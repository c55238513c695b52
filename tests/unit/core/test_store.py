import asyncio
from collections.abc import Sequence

import orjson
import pytest

from shared.core.clock import iso
from shared.core.errors import Conflict, Exists, Stale, Unavailable
from shared.core.events import NewEvent, ProvisionedData
from shared.core.ports import Delete, Json, Put
from shared.core.store import Commit, Membership, Message, retry_stale
from tests.fakes import FakeEventLog
from tests.unit.world import StoreWorld
from tests.waiting import until

TEAM = "t0123456789"
PARTITION = f"portal/team/{TEAM}"
SUBJECT = f"team/{TEAM}"


def provisioned(name: str = "Rockets", id: str | None = None) -> NewEvent:
    data = ProvisionedData(team_id=TEAM, name=name)
    return NewEvent("team.provisioned", SUBJECT, data, (f"team.{TEAM}",), id)


def change(id: str = "team", **rest: object) -> Commit:
    return Commit(PARTITION, [Put(id, {"n": 1})], [provisioned()], [Message("webhooks", {"n": 1}, 2)], **rest)  # type: ignore[arg-type]


@pytest.fixture
def world() -> StoreWorld:
    return StoreWorld()


def tickets(world: StoreWorld) -> list[list[tuple[str, bytes]]]:
    """The tickets of PARTITION's outbox: (etag, JSON)."""
    return [
        [row for key, row in rows.items() if key == f"outbox~{PARTITION}"]
        for partition, rows in world.documents.partitions.items()
        if partition.startswith("open/")
    ]


class Crash(BaseException):
    """The process is gone."""


class TestCommit:
    async def test_events_and_messages_are_sent_with_the_change(self, world: StoreWorld) -> None:
        etags = await world.store.commit(change())
        doc = await world.documents.get(PARTITION, "team")
        assert doc is not None
        assert etags["team"] == doc.etag
        assert world.queues.sent == [("webhooks", {"n": 1}, 2)]
        (event,) = await world.subject(SUBJECT)
        assert event["type"] == "team.provisioned"
        assert event["data"] == {"team_id": TEAM, "workspace_id": None, "name": "Rockets"}
        assert world.realtime.messages(f"team.{TEAM}") == [event]

    async def test_nothing_is_left_lying_afterwards(self, world: StoreWorld) -> None:
        await world.store.commit(change())
        await world.store.idle()
        assert world.rows(PARTITION) == ["team"]
        world.clock.advance(61)
        assert await world.store.sweep() == 0
        assert world.open_rows("outbox~") == []

    async def test_a_busy_partition_files_a_ticket_now_and_then(self, world: StoreWorld) -> None:
        filed: list[str] = []
        for n in range(10):
            await world.store.commit(change(f"doc{n}"))
            world.clock.advance(5)
            filed += [orjson.loads(raw)["at"] for rows in tickets(world) for _, raw in rows]
        assert len(set(filed)) == 3
        world.clock.advance(-3600)  # a clock that is put back must not keep a stale ticket in use
        await world.store.commit(change("last"))
        assert [orjson.loads(raw)["at"] for rows in tickets(world) for _, raw in rows] == [iso(world.clock.now())]

    async def test_changes_at_once_are_told_to_browsers_in_order(self, world: StoreWorld) -> None:
        await asyncio.gather(*(world.store.commit(change(f"doc{n}")) for n in range(20)))
        assert [event["sequence"] for event in world.realtime.messages(f"team.{TEAM}")] == list(range(1, 21))

    async def test_a_refused_change_sends_nothing(self, world: StoreWorld) -> None:
        await world.store.documents.commit(PARTITION, [Put("team", {})])
        with pytest.raises(Exists):
            await world.store.commit(change(memberships=[Membership("uada", f"team.{TEAM}")]))
        world.clock.advance(3600)
        assert await world.store.sweep() == 0
        assert world.queues.sent == world.realtime.published == []
        assert await world.subject(SUBJECT) == []
        assert world.realtime.groups == {}
        assert world.open_rows() == []

    async def test_a_change_made_on_an_old_version_sends_nothing(self, world: StoreWorld) -> None:
        await world.store.documents.commit(PARTITION, [Put("team", {})])
        with pytest.raises(Stale):
            await world.store.commit(Commit(PARTITION, [Put("team", {}, "v0")], [provisioned()]))
        assert world.rows(PARTITION) == ["team"]
        assert await world.subject(SUBJECT) == []

    async def test_an_event_outside_the_catalogue_is_refused_before_anything_is_written(
        self, world: StoreWorld
    ) -> None:
        unknown = NewEvent("team.painted", SUBJECT, ProvisionedData(team_id=TEAM, name="x"))
        with pytest.raises(ValueError, match=r"team\.painted"):
            await world.store.commit(Commit(PARTITION, [Put("team", {})], [unknown]))
        assert world.documents.partitions == {}

    async def test_sequences_of_simultaneous_changes_have_no_gap(self, world: StoreWorld) -> None:
        other = world.another_store()
        stores = [world.store, other] * 20
        await asyncio.gather(*(store.commit(change(f"doc{n}")) for n, store in enumerate(stores)))
        assert len(await world.subject(SUBJECT)) == 40

    async def test_one_process_sends_a_partitions_events_in_the_order_of_their_changes(self, world: StoreWorld) -> None:
        async def rename(name: str) -> None:
            await world.store.commit(Commit(PARTITION, [Put("team", {"name": name}, "*")], [provisioned(name)]))

        await asyncio.gather(*(rename(f"name {n}") for n in range(20)))
        doc = await world.documents.get(PARTITION, "team")
        assert doc is not None
        assert (await world.subject(SUBJECT))[-1]["data"]["name"] == doc.body["name"]

    async def test_the_same_event_twice_is_kept_once(self, world: StoreWorld) -> None:
        for n in range(2):
            await world.store.commit(Commit(PARTITION, [Put(f"doc{n}", {})], [provisioned(id="once")]))
        assert len(await world.subject(SUBJECT)) == 1


class Gate(asyncio.Event):
    """What waits until it is set, and how often somebody came."""

    came = 0

    async def passed(self) -> None:
        self.came += 1
        await self.wait()


class TestEventsSoon:
    """A change that is answered before its events are kept."""

    def renamed(self, name: str, *messages: Message) -> Commit:
        puts = [Put("team", {"name": name}, "*")]
        return Commit(PARTITION, puts, [provisioned(name)], messages, events_soon=True)

    async def told(self, world: StoreWorld) -> list[str]:
        return [event["data"]["name"] for event in await world.subject(SUBJECT)]

    @pytest.fixture
    async def kept(self, world: StoreWorld) -> Gate:
        """Events are kept while it is set. The partition is in step."""
        append, gate = world.events.append, Gate()

        async def wait(subject: str, events: Sequence[Json]) -> list[int]:
            await gate.passed()
            return await append(subject, events)

        await world.store.commit(self.renamed("zeroth"))
        world.events.append = wait  # type: ignore[method-assign]
        return gate

    async def test_waits_for_the_disk_alone(self, world: StoreWorld, kept: Gate) -> None:
        async with asyncio.timeout(2):
            etags = await world.store.commit(self.renamed("first"))
        doc = await world.documents.get(PARTITION, "team")
        assert doc is not None
        assert (etags["team"], await self.told(world)) == (doc.etag, ["zeroth"])
        assert world.rows(PARTITION, "outbox/")
        asyncio.get_running_loop().call_later(0.01, kept.set)
        await world.store.told(PARTITION)
        assert await self.told(world) == ["zeroth", "first"]
        await world.store.idle()
        assert world.realtime.messages(f"team.{TEAM}") == await world.subject(SUBJECT)
        assert world.rows(PARTITION) == ["team"]

    async def test_whoever_asks_waits_for_what_came_before_alone(self, world: StoreWorld, kept: Gate) -> None:
        for name in ("first", "second"):
            await world.store.commit(self.renamed(name))
        asyncio.get_running_loop().call_later(0.01, kept.set)
        await world.store.told(PARTITION)
        assert await self.told(world) == ["zeroth", "first", "second"]
        kept.clear()
        async with asyncio.timeout(2):
            await world.store.told(PARTITION)

    async def test_nobody_waits_long_for_events_that_hang(
        self, world: StoreWorld, kept: Gate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shared.core.outbox._FLUSH_SECONDS", 0.05)
        await world.store.commit(self.renamed("first"))
        async with asyncio.timeout(2):
            await world.store.told(PARTITION)
        assert await self.told(world) == ["zeroth"]
        kept.set()

    async def test_a_message_that_starts_something_is_waited_for(self, world: StoreWorld) -> None:
        await world.store.commit(self.renamed("zeroth"))
        await world.store.commit(self.renamed("first", Message("webhooks", {"n": 1})))
        assert world.queues.bodies("webhooks") == [{"n": 1}]

    async def test_with_much_to_tell_changes_wait_again(self, world: StoreWorld, kept: Gate) -> None:
        changes = [asyncio.create_task(world.store.commit(self.renamed(f"{n}"))) for n in range(150)]
        await until(lambda: sum(change.done() for change in changes) >= 100)
        _, waiting = await asyncio.wait(changes, timeout=0.05)
        assert len(waiting) == 50
        kept.set()
        await asyncio.gather(*changes)
        assert len(await self.told(world)) == 151

    async def test_while_events_cannot_be_kept_changes_wait(self, world: StoreWorld) -> None:
        append, asked = world.events.append, 0

        async def no_room(*_: object) -> list[int]:
            nonlocal asked
            asked += 1
            raise Unavailable("disk full")

        world.events.append = no_room  # type: ignore[method-assign]
        for n in range(3):
            await world.store.commit(self.renamed(f"{n}"))
            assert asked == n + 1
        world.events.append = append  # type: ignore[method-assign]
        await world.store.commit(self.renamed("last"))
        assert await self.told(world) == ["0", "1", "2", "last"]

    async def test_an_error_that_nobody_expected_loses_nothing(
        self, world: StoreWorld, kept: Gate, caplog: pytest.LogCaptureFixture
    ) -> None:
        kept.set()
        append = world.events.append

        async def broken(*_: object) -> list[int]:
            raise RuntimeError("a bug")

        world.events.append = broken  # type: ignore[method-assign]
        await world.store.commit(self.renamed("first"))
        await world.store.told(PARTITION)
        assert [(record.message, record.exc_info) for record in caplog.records][-1] == ("outbox.unexpected_error", None)
        world.events.append = append  # type: ignore[method-assign]
        world.clock.advance(6)
        assert await world.store.sweep() == 1
        assert await self.told(world) == ["zeroth", "first"]

    async def test_what_a_dead_process_did_not_tell_the_sweeper_does(self, world: StoreWorld, kept: Gate) -> None:
        await world.store.commit(self.renamed("first"))
        await until(lambda: kept.came)
        world.events.append = FakeEventLog.append.__get__(world.events)  # type: ignore[method-assign]
        world.clock.advance(6)
        assert await world.another_store().sweep() > 0
        assert await self.told(world) == ["zeroth", "first"]
        kept.set()
        await world.store.idle()
        assert await self.told(world) == ["zeroth", "first"]


class TestQueuesDown:
    async def test_the_change_is_kept_and_sent_once_by_the_sweeper(self, world: StoreWorld) -> None:
        world.queues.down = True
        etags = await world.store.commit(change())
        assert "team" in etags
        assert world.queues.sent == []
        world.queues.down = False
        world.clock.advance(6)
        sweeper = world.another_store()
        assert await sweeper.sweep() > 0
        assert await sweeper.sweep() == 0
        assert world.queues.bodies("webhooks") == [{"n": 1}]
        assert len(await world.subject(SUBJECT)) == 1
        assert world.rows(PARTITION) == ["team"]
        assert world.open_rows() == []

    async def test_the_sweeper_tries_again_while_they_stay_down(self, world: StoreWorld) -> None:
        world.queues.down = True
        await world.store.commit(change())
        for _ in range(3):
            world.clock.advance(3600)
            assert await world.store.sweep() == 0
        world.queues.down = False
        assert await world.store.sweep() > 0
        assert world.queues.bodies("webhooks") == [{"n": 1}]

    async def test_one_partition_that_cannot_send_does_not_hold_up_others(self, world: StoreWorld) -> None:
        world.queues.down = True
        await world.store.commit(change())
        await world.store.commit(Commit("portal/team/t9999999999", [Put("team", {})], [], [Message("usage", {})]))
        world.queues.down = False
        world.clock.advance(6)
        world.documents.fail(PARTITION, Unavailable("disk full"))
        await world.store.sweep()
        assert world.queues.bodies("usage") == [{}]
        await world.store.sweep()
        assert world.open_rows() == []

    async def test_nobody_waits_long_for_a_queue_that_hangs(
        self, world: StoreWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def hang(queue: str, body: Json, delay: float = 0) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr("shared.core.outbox._FLUSH_SECONDS", 0.05)
        sent, world.queues.send = world.queues.send, hang
        async with asyncio.timeout(2):
            assert await world.store.commit(change())
        world.queues.send = sent
        world.clock.advance(6)
        await world.store.sweep()
        assert world.queues.bodies("webhooks") == [{"n": 1}]
        assert world.open_rows() == []

    async def test_a_change_is_answered_though_its_outbox_cannot_be_emptied(self, world: StoreWorld) -> None:
        """An error would make whoever asked repeat what has happened; consumers see a message twice instead."""

        async def no_room(queue: str, body: Json, delay: float = 0) -> None:
            world.documents.fail(PARTITION, Unavailable("disk full"), removal=True)
            await sent(queue, body, delay)

        sent, world.queues.send = world.queues.send, no_room
        assert await world.store.commit(change())
        await world.store.idle()
        assert len(world.rows(PARTITION, "outbox/")) == 2
        world.queues.send = sent
        world.clock.advance(6)
        assert await world.store.sweep() == 2
        assert world.rows(PARTITION) == ["team"]
        assert world.queues.bodies("webhooks") == [{"n": 1}, {"n": 1}]
        assert len(await world.subject(SUBJECT)) == 1

    async def test_what_no_queue_takes_does_not_hold_up_others(self, world: StoreWorld) -> None:
        async def too_large(queue: str, body: Json, delay: float = 0) -> None:
            raise ValueError("a message of 99999 bytes")

        sent, world.queues.send = world.queues.send, too_large
        await world.store.commit(change())
        world.queues.send = sent
        world.queues.down = True
        await world.store.commit(Commit("portal/team/t9999999999", [Put("team", {})], [], [Message("usage", {})]))
        world.queues.down = False
        world.clock.advance(6)
        world.queues.send = lambda queue, body, delay=0: (too_large if queue == "webhooks" else sent)(
            queue, body, delay
        )
        await world.store.sweep()
        assert world.queues.bodies("usage") == [{}]


class TestCrash:
    @pytest.mark.parametrize("moment", ["outbox~", PARTITION])
    async def test_what_was_not_committed_is_never_sent(self, world: StoreWorld, moment: str) -> None:
        world.documents.fail("open/" if moment == "outbox~" else PARTITION, Crash())
        with pytest.raises(Crash):
            await world.store.commit(change())
        for _ in range(2):
            world.clock.advance(61)
            await world.another_store().sweep()
        assert world.queues.sent == []
        assert await world.subject(SUBJECT) == []
        assert world.open_rows() == []

    async def test_what_was_committed_is_sent_by_another_process(self, world: StoreWorld) -> None:
        sent = world.queues.send

        async def crash(*_: object) -> None:
            raise Crash

        world.queues.send = crash  # type: ignore[method-assign]
        with pytest.raises(Crash):
            await world.store.commit(change())
        world.queues.send = sent  # type: ignore[method-assign]
        world.clock.advance(6)
        await world.another_store().sweep()
        assert world.queues.bodies("webhooks") == [{"n": 1}]
        assert len(await world.subject(SUBJECT)) == 1

    async def test_a_ticket_whose_commit_may_be_under_way_is_left_alone(self, world: StoreWorld) -> None:
        world.documents.fail(PARTITION, Crash())
        with pytest.raises(Crash):
            await world.store.commit(change())
        world.clock.advance(30)
        await world.store.sweep()
        assert len(world.open_rows("outbox~")) == 1


class TestOrder:
    """Events get their sequence in the order of the changes, whatever came between."""

    def named(self, name: str) -> Commit:
        return Commit(PARTITION, [Put("team", {"name": name}, "*")], [provisioned(name)])

    async def test_what_a_dead_process_left_goes_before_what_another_one_commits(self, world: StoreWorld) -> None:
        append = world.events.append

        async def crash(*_: object) -> list[int]:
            raise Crash

        world.events.append = crash  # type: ignore[method-assign]
        with pytest.raises(Crash):
            await world.store.commit(self.named("first"))
        world.events.append = append  # type: ignore[method-assign]
        world.clock.advance(2)
        await world.another_store().commit(self.named("second"))
        assert [event["data"]["name"] for event in await world.subject(SUBJECT)] == ["first", "second"]

    async def test_what_could_not_be_kept_goes_before_later_changes(self, world: StoreWorld) -> None:
        append = world.events.append

        async def no_room(*_: object) -> list[int]:
            raise Unavailable("disk full")

        await world.store.commit(self.named("zeroth"))
        world.events.append = no_room  # type: ignore[method-assign]
        await world.store.commit(self.named("first"))
        world.events.append = append  # type: ignore[method-assign]
        await world.store.commit(self.named("second"))
        await world.store.idle()
        names = [event["data"]["name"] for event in await world.subject(SUBJECT)]
        assert names == ["zeroth", "first", "second"]
        assert world.rows(PARTITION) == ["team"]


class TestSweep:
    async def test_fresh_tickets_are_their_makers_business(self, world: StoreWorld) -> None:
        world.queues.down = True
        await world.store.commit(change())
        world.queues.down = False
        world.clock.advance(4)
        assert await world.store.sweep() == 0
        assert world.queues.sent == []

    async def test_with_nothing_left_lying_it_does_nothing(self, world: StoreWorld) -> None:
        await world.store.commit(change())
        await world.store.idle()
        world.clock.advance(3600)
        assert await world.store.sweep() == 0

    async def test_several_commits_that_a_dead_process_left_are_put_in_order_at_once(self, world: StoreWorld) -> None:
        world.queues.down = True
        for n in range(3):
            await world.store.commit(Commit(PARTITION, [Put(f"doc/{n}", {})], [], [Message("usage", {"n": n})]))
        world.queues.down = False
        world.clock.advance(60)
        await world.another_store().sweep()
        assert world.rows(PARTITION, "outbox/") == []
        assert {body["n"] for body in world.queues.bodies("usage")} == {0, 1, 2}


class TestFollow:
    def following(self) -> Commit:
        return change(
            follow=[Commit("portal/user/uada", [Put("team", {"id": TEAM})], [], [Message("usage", {"n": 2})])]
        )

    async def test_changes_of_other_partitions_follow(self, world: StoreWorld) -> None:
        await world.store.commit(self.following())
        assert world.rows("portal/user/uada") == ["team"]
        assert world.queues.bodies("usage") == [{"n": 2}]

    async def test_they_do_not_follow_a_refused_change(self, world: StoreWorld) -> None:
        await world.store.documents.commit(PARTITION, [Put("team", {})])
        with pytest.raises(Exists):
            await world.store.commit(self.following())
        assert world.rows("portal/user/uada") == []

    async def test_they_happen_once_however_often_they_are_tried(self, world: StoreWorld) -> None:
        world.queues.down = True
        await world.store.commit(self.following())
        assert world.rows("portal/user/uada", "team") == ["team"]
        for _ in range(2):
            world.clock.advance(6)
            await world.another_store().sweep()
        world.queues.down = False
        await world.another_store().sweep()
        assert world.queues.bodies("usage") == [{"n": 2}]
        assert world.rows("portal/user/uada") == ["team"]
        assert world.rows(PARTITION) == ["team"]

    async def test_they_follow_even_when_their_store_was_away(self, world: StoreWorld) -> None:
        world.documents.fail("portal/user/", Unavailable("disk full"))
        await world.store.commit(self.following())
        assert world.rows("portal/user/uada") == []
        world.clock.advance(6)
        await world.store.sweep()
        assert world.rows("portal/user/uada") == ["team"]

    @pytest.mark.parametrize("op", [Put("team", {}, "*"), Put("team", {}, "v1"), Delete("team")])
    async def test_they_may_only_create(self, world: StoreWorld, op: Put | Delete) -> None:
        with pytest.raises(ValueError, match="only create"):
            await world.store.commit(change(follow=[Commit("portal/user/uada", [op])]))


class TestMemberships:
    async def test_live_connections_join_and_leave_with_the_change(self, world: StoreWorld) -> None:
        await world.store.commit(
            change("one", memberships=[Membership("uada", "team.x"), Membership("ubob", "team.x")])
        )
        assert world.realtime.groups == {"team.x": {"uada", "ubob"}}
        await world.store.commit(change("two", memberships=[Membership("ubob", "team.x", member=False)]))
        assert world.realtime.groups == {"team.x": {"uada"}}

    async def test_a_lost_join_is_no_failure(self, world: StoreWorld) -> None:
        world.realtime.down = True
        await world.store.commit(change(memberships=[Membership("uada", "team.x")]))
        assert world.open_rows() == []

    async def test_a_removal_is_tried_until_it_succeeds(self, world: StoreWorld) -> None:
        await world.realtime.add_to_group("ubob", "team.x")
        world.realtime.down = True
        await world.store.commit(change(memberships=[Membership("ubob", "team.x", member=False)]))
        world.clock.advance(6)
        await world.store.sweep()
        world.realtime.down = False
        assert world.realtime.groups == {"team.x": {"ubob"}}
        await world.store.sweep()
        assert world.realtime.groups == {"team.x": set()}
        assert world.open_rows() == []


class TestRealtimeDown:
    async def test_events_are_kept_for_those_who_catch_up(self, world: StoreWorld) -> None:
        world.realtime.down = True
        await world.store.commit(change())
        world.realtime.down = False
        await world.store.commit(change("other"))
        assert [event["sequence"] for event in await world.subject(SUBJECT)] == [1, 2]
        assert [event["sequence"] for event in world.realtime.messages(f"team.{TEAM}")] == [2]
        assert world.queues.bodies("webhooks") == [{"n": 1}, {"n": 1}]


class TestOpenWork:
    async def test_it_is_filed_before_the_change_and_stays_until_settled(self, world: StoreWorld) -> None:
        world.documents.fail(PARTITION, Crash())
        with pytest.raises(Crash):
            await world.store.commit(change(watch=["task/a"]))
        assert await world.store.open_work("task") == ["task/a"]
        await world.store.commit(change(watch=["task/a", "run/b"]))
        assert await world.store.open_work("task") == ["task/a"]
        assert await world.store.open_work("run") == ["run/b"]
        await world.store.settle("task/a")
        await world.store.settle("task/a")
        assert await world.store.open_work("task") == []

    async def test_work_that_follows_is_filed_too(self, world: StoreWorld) -> None:
        await world.store.commit(change(follow=[Commit("tasks/a", [Put("task", {})], watch=["task/a"])]))
        assert await world.store.open_work("task") == ["task/a"]


class TestRetryStale:
    async def test_simultaneous_changes_of_one_document_all_happen(self, world: StoreWorld) -> None:
        await world.documents.commit(PARTITION, [Put("count", {"n": 0})])

        async def add() -> None:
            doc = await world.documents.get(PARTITION, "count")
            assert doc is not None
            await world.documents.commit(PARTITION, [Put("count", {"n": doc.body["n"] + 1}, doc.etag)])

        await asyncio.gather(*(retry_stale(add) for _ in range(40)))
        doc = await world.documents.get(PARTITION, "count")
        assert doc is not None
        assert doc.body == {"n": 40}

    async def test_it_gives_up_at_last(self) -> None:
        tries: list[int] = []

        async def never() -> None:
            tries.append(1)
            raise Stale("changed")

        with pytest.raises(Stale):
            await retry_stale(never, tries=3)
        assert len(tries) == 3

    async def test_other_errors_are_not_retried(self) -> None:
        tries: list[int] = []

        async def refuse() -> None:
            tries.append(1)
            raise Conflict("no")

        with pytest.raises(Conflict):
            await retry_stale(refuse)
        assert len(tries) == 1


class TestWatch:
    async def test_one_that_fails_keeps_no_other_waiting(self) -> None:
        world = StoreWorld()
        for name in ("a", "b", "c"):
            await world.store.file_open(f"task/{name}")
        looked: list[str] = []

        async def look(reference: str) -> bool:
            looked.append(reference)
            if reference == "task/b":
                raise Unavailable("Its partition is damaged.")
            return reference == "task/a"

        assert await world.store.watch("task", look) == 1
        assert sorted(looked) == ["task/a", "task/b", "task/c"]
