"""Parts of the platform fail in the middle of everything: after it the state is as if nothing had happened."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from local.child import Child
from local.cloud import LocalCloud
from tests.clocks import SetClock
from tests.disks import mounted
from tests.flows.faults import PATIENCE, Browser, Work
from tests.flows.world import Json, Person, git, join, make_workspace, started_cloud

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Row:
    """A line of the fault table."""

    what: str
    when: str
    first_change: float
    all_done: float


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest):
    """Collects what was killed and how long it took; printed at the end."""
    rows: list[Row] = []
    yield rows
    shown = Table(title="Faults", title_justify="left")
    for column in ("What", "When", "Next change taken after", "Everything done after", "Lost"):
        shown.add_column(column)
    for row in rows:
        shown.add_row(row.what, row.when, f"{row.first_change:.1f} s", f"{row.all_done:.1f} s", "nothing")
    capturing: Any = request.config.pluginmanager.getplugin("capturemanager")
    with capturing.global_and_fixture_disabled():
        print()
        Console(width=140).print(shown)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("source")
    git(folder, "init", "-q", "-b", "main")
    (folder / "README.md").write_text("# Source\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Start")
    return folder.as_uri()


@dataclass
class Stage:
    """A cloud of its own with Ada's workspace, what calm times bring, and Bob who watches."""

    cloud: LocalCloud
    ada: Person
    bob: Person
    place: Json
    source: str
    calm: Json

    def work(self) -> AbstractAsyncContextManager[Work]:
        return Work.going_on(self.ada, self.bob, self.place, self.source)

    async def recovered(self, work: Work, what: str, in_order: bool = True) -> Row:
        """Waits until everything has ended as in calm times.

        Without `in_order` events may be told late: what a full disk refused, or a killed host left, is sent by the
        sweeper, after later ones.
        """
        up, moves = time.monotonic(), len(work.mover.acknowledged)
        async with asyncio.timeout(PATIENCE):
            while len(work.mover.acknowledged) == moves:
                work.check_going()
                await asyncio.sleep(0.05)
        first = work.mover.last_acknowledged
        came = await work.ends()
        done = time.monotonic()
        for run in came["runs"]:
            assert _told(run, in_order) == _told(self.calm["runs"][0], in_order)
        for task in came["tasks"]:
            (calm,) = [each for each in self.calm["tasks"] if each["plan"] == task["plan"]]
            assert _told(task, in_order) == _told(calm, in_order)
        assert len(came["tasks"]) == len(work.started)
        await work.stop()
        await work.check_moves(in_order)
        return Row(what, "run, tasks, moves", first - up, done - up)


@asynccontextmanager
async def staged(data: Path, source: str, **environ: str) -> AsyncGenerator[Stage]:
    async with (
        started_cloud(data, model_delay=0.01, host_environ=environ) as cloud,
        Browser.signed_in(cloud, "ada@contoso.test") as ada,
        Browser.signed_in(cloud, "bob@contoso.test") as bob,
    ):
        place = await make_workspace(ada, "Under fire")
        await join(ada, place["team_id"], bob, "viewer")
        yield Stage(cloud, ada, bob, place, source, {})


@pytest.fixture(scope="module")
async def stage(cloud_parts: None, tmp_path_factory: pytest.TempPathFactory, source: str) -> AsyncGenerator[Stage]:
    async with staged(tmp_path_factory.mktemp("faults"), source) as ready:
        async with ready.work() as work:
            await work.found_all()
            ready.calm = await work.ends()
            await work.stop()
            await work.check_moves()
        assert [run["status"][0] for run in ready.calm["runs"]] == ["succeeded"]
        assert [task["status"] for task in ready.calm["tasks"]] == ["succeeded"] * 3
        yield ready


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> SetClock:
    return SetClock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
async def frail(
    stage: Stage, clock: SetClock, tmp_path_factory: pytest.TempPathFactory, source: str
) -> AsyncGenerator[Stage]:
    """A cloud whose data is on a small disk of its own, and whose function host has a clock that can be set."""
    disk, beside = tmp_path_factory.mktemp("disk"), tmp_path_factory.mktemp("beside")
    with mounted(disk, 64):
        for outside in ("jobs", "github"):  # on other machines in earnest
            (beside / outside).mkdir()
            (disk / outside).symlink_to(beside / outside)
        async with staged(disk, source, **clock.environ) as ready:
            ready.calm = stage.calm
            yield ready


class TestPartsKilled:
    @pytest.mark.parametrize(
        ("part", "away"),
        [("model", 3), ("web pubsub", 3), ("valkey", 3), ("azurite", 3), ("function host", 0)],
    )
    async def test_leave_no_trace(self, stage: Stage, table: list[Row], part: str, away: float):
        child = _part(stage.cloud, part)
        async with stage.work() as work:
            await work.found_all(apart=0.15)
            await work.hand_out()
            await child.kill()
            during = asyncio.gather(*([work.hand_out(), work.found_all()] if away else []))
            await asyncio.sleep(away)
            await child.start()
            await during
            table.append(await stage.recovered(work, f"{part} killed"))


class TestFullDisk:
    async def test_is_waited_for(self, frail: Stage, table: list[Row]):
        async with frail.work() as work:
            await work.found_all(apart=0.15)
            filler = frail.cloud.data / "filler"
            _fill(filler)
            during = asyncio.gather(work.hand_out(), work.found_all())
            await asyncio.sleep(4)
            with suppress(OSError):
                _fill(frail.cloud.data / "more")
            filler.unlink()
            (frail.cloud.data / "more").unlink(missing_ok=True)
            await during
            table.append(await frail.recovered(work, "disk full, then room made"))


class TestJumpingClock:
    @pytest.mark.parametrize(("jump", "seconds"), [("+1d", 86_400), ("-1h", -3_600)])
    async def test_changes_nothing(self, frail: Stage, clock: SetClock, table: list[Row], jump: str, seconds: int):
        async with frail.work() as work:
            await work.found_all(apart=0.15)
            clock.set(seconds)
            await work.hand_out()
            await asyncio.sleep(4)
            work.check_going()
            clock.set(0)
            table.append(await frail.recovered(work, f"clock {jump} for 4 s"))


def _told(came: Json, in_order: bool) -> Json:
    return came if in_order else came | {"told": sorted(came["told"])}


def _fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as filler:
        while filler.write(b"\0" * 65536):
            pass
    with suppress(OSError), path.open("ab", buffering=0) as filler:
        while filler.write(b"\0" * 512):
            pass


def _part(cloud: LocalCloud, name: str) -> Child:
    parts = {
        "model": cloud.model,
        "web pubsub": cloud.realtime,
        "valkey": cloud.valkey.child,
        "azurite": cloud.azurite.child,
        "function host": cloud.functions,
    }
    part = parts[name]
    assert part is not None
    return part
