import asyncio

from shared.core.live import LiveConnections
from tests.fakes.realtime import FakeRealtime


async def _until_cut(realtime: FakeRealtime) -> None:
    async with asyncio.timeout(2):
        while "bob" in realtime.groups["team.t1"]:
            await asyncio.sleep(0.005)


class TestCut:
    async def test_happens_at_once(self) -> None:
        realtime = FakeRealtime()
        realtime.groups["team.t1"] = {"ada", "bob"}
        await LiveConnections(realtime).cut("bob", ["team.t1"], _gone)
        assert realtime.groups["team.t1"] == {"ada"}

    async def test_happens_as_soon_as_the_service_answers_again(self) -> None:
        realtime = FakeRealtime()
        realtime.groups["team.t1"] = {"ada", "bob"}
        realtime.down = True
        await LiveConnections(realtime, every=0.01).cut("bob", ["team.t1"], _gone)
        await asyncio.sleep(0.05)
        realtime.down = False
        await _until_cut(realtime)

    async def test_stops_when_the_person_is_back(self) -> None:
        realtime = FakeRealtime()
        realtime.groups["team.t1"] = {"bob"}
        realtime.down = True
        await LiveConnections(realtime, every=0.01).cut("bob", ["team.t1"], _back)
        realtime.down = False
        await asyncio.sleep(0.05)
        assert realtime.groups["team.t1"] == {"bob"}


async def _gone() -> bool:
    return True


async def _back() -> bool:
    return False
