import pytest

from shared.core.clock import ManualClock
from shared.core.errors import NotFound, Unavailable
from shared.core.incidents import Incidents
from tests.fakes import FakeDocuments, FakeQueues


class Desk:
    def __init__(self) -> None:
        self.queues, self.clock = FakeQueues(), ManualClock()
        self.incidents = Incidents(FakeDocuments(), self.queues, self.clock)


class TestIncidents:
    async def test_they_are_listed_in_the_order_they_happened(self) -> None:
        desk = Desk()
        for n in range(3):
            await desk.incidents.record("webhooks", {"n": n}, "gave up", f"m{n}")
            desk.clock.advance(1)
        assert [incident.body for incident in await desk.incidents.list()] == [{"n": 0}, {"n": 1}, {"n": 2}]

    async def test_the_same_message_is_one_incident(self) -> None:
        desk = Desk()
        for _ in range(2):
            await desk.incidents.record("webhooks", {"n": 1}, "gave up", "m1")
        await desk.incidents.record("usage", {"n": 1}, "gave up", "m1")
        assert len(await desk.incidents.list()) == 2

    async def test_a_replay_sends_the_message_again_and_forgets_it(self) -> None:
        desk = Desk()
        incident = await desk.incidents.record("webhooks", {"n": 1}, "gave up", "m1")
        await desk.incidents.replay(incident.id)
        assert desk.queues.bodies("webhooks") == [{"n": 1}]
        assert await desk.incidents.list() == []
        with pytest.raises(NotFound):
            await desk.incidents.replay(incident.id)

    async def test_while_queues_are_down_it_is_kept(self) -> None:
        desk = Desk()
        incident = await desk.incidents.record("webhooks", {"n": 1}, "gave up", "m1")
        desk.queues.down = True
        with pytest.raises(Unavailable):
            await desk.incidents.replay(incident.id)
        assert len(await desk.incidents.list()) == 1

    async def test_what_could_not_be_read_cannot_be_replayed(self) -> None:
        desk = Desk()
        incident = await desk.incidents.record("webhooks", {"raw": "\x00"}, "gave up", "m1")
        with pytest.raises(NotFound):
            await desk.incidents.replay(incident.id)
        assert desk.queues.sent == []
