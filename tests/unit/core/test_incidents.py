import pytest

from shared.core.clock import ManualClock
from shared.core.errors import Conflict, NotFound, Unavailable
from shared.core.incidents import Incidents
from shared.core.ports import Json
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
        await desk.incidents.replay(incident.id, "ugrace")
        assert desk.queues.bodies("webhooks") == [{"n": 1}]
        assert await desk.incidents.list() == []
        with pytest.raises(NotFound):
            await desk.incidents.replay(incident.id, "ugrace")

    async def test_while_queues_are_down_it_is_kept(self) -> None:
        desk = Desk()
        incident = await desk.incidents.record("webhooks", {"n": 1}, "gave up", "m1")
        desk.queues.down = True
        with pytest.raises(Unavailable):
            await desk.incidents.replay(incident.id, "ugrace")
        assert len(await desk.incidents.list()) == 1

    async def test_what_could_not_be_read_cannot_be_replayed(self) -> None:
        desk = Desk()
        incident = await desk.incidents.record("webhooks", {"raw": "\x00"}, "gave up", "m1")
        with pytest.raises(Conflict, match=r"cannot be read.*Dismiss"):
            await desk.incidents.replay(incident.id, "ugrace")
        assert desk.queues.sent == []
        assert len(await desk.incidents.list()) == 1

    @pytest.mark.parametrize("body", [{"raw": "\x00"}, {"n": 1}])
    async def test_one_that_is_dismissed_is_gone_and_the_log_says_who_did_it(
        self, body: Json, caplog: pytest.LogCaptureFixture
    ) -> None:
        desk = Desk()
        incident = await desk.incidents.record("webhooks", body, "gave up", "m1")
        kept = await desk.incidents.record("webhooks", body, "gave up", "m2")
        with caplog.at_level("INFO", "shared.core.incidents"):
            await desk.incidents.dismiss(incident.id, "ugrace")
        assert [each.id for each in await desk.incidents.list()] == [kept.id]
        assert desk.queues.sent == []
        (entry,) = caplog.records
        fields = {"incident_id": incident.id, "queue": "webhooks", "reason": "gave up", "user_id": "ugrace"}
        assert (entry.message, entry.__dict__["fields"]) == ("incident.dismissed", fields)
        with pytest.raises(NotFound):
            await desk.incidents.dismiss(incident.id, "ugrace")
