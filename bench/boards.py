"""What the benchmarks of boards have in common: a cloud to measure, boards full of cards, processes to look at."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.report import OURS
from local.client import Client
from local.cloud import LocalCloud
from local.ports import CloudPorts
from shared.bootstrap import adapters
from shared.core import ids, rank
from shared.core.ports import ANY, Documents, Put
from shared.core.settings import Settings

STORES = {"tinydb": OURS, "tables": "ours on Azurite tables"}
PEERS = {
    "Planka 2.1": "needs PostgreSQL and images of its own; docs/benchmarks.md quotes 2026-11-22",
    "Kanboard": "needs PHP; docs/benchmarks.md quotes 2026-11-22",
}
_BATCH = 100
_AT_ONCE = 8
"""Azurite writes its whole database for each commit, or for several at once."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A running cloud, a person signed in, and the store behind."""

    cloud: LocalCloud
    client: Client
    headers: dict[str, str]
    documents: Documents

    @property
    def pid(self) -> int:
        """The function host's."""
        assert self.cloud.functions is not None
        return self.cloud.functions.pid


@dataclass(frozen=True, slots=True)
class Board:
    id: str
    cards: list[str]
    columns: list[str]


@asynccontextmanager
async def started(folder: Path, store: str) -> AsyncGenerator[Bench]:
    """The function host has the first core to itself."""
    environ = dict(os.environ) | {"STORE": store}
    async with LocalCloud(folder, CloudPorts.free(), environ) as cloud, Client(cloud.api_url) as client:
        token = (await client.sign_in("ada@contoso.test"))["access_token"]
        ports = adapters(Settings.from_env(cloud.settings))
        bench = Bench(cloud, client, {"authorization": f"Bearer {token}"}, ports.documents)
        pin(bench.pid)
        yield bench
        for close in ports.closers:
            await close()


async def full_board(bench: Bench, count: int) -> Board:
    """A team's board with `count` cards, each with a text of 240 characters."""
    client = bench.client
    started = await client.post("/api/teams", {"name": f"Benchmark {count}"})
    await client.finished(started["task_id"])
    board_id = started["team"]["board_id"]
    first = await client.post(f"/api/boards/{board_id}/cards", {"title": "Card 0", "body": "Text. " * 40})
    columns = (await client.get(f"/api/boards/{board_id}"))["board"]["columns"]
    board = Board(board_id, [first["id"]], [c["id"] for c in columns if c["kind"] == "plain"])
    await fill(bench, board, count)
    return board


async def fill(bench: Bench, board: Board, count: int) -> None:
    """Up to `count` cards, whoever made those that are there."""
    there = len((await bench.client.get(f"/api/boards/{board.id}"))["cards"])
    board.cards.extend(await _copies(bench.documents, board.cards[0], count - there))
    assert len((await bench.client.get(f"/api/boards/{board.id}"))["cards"]) == count


async def _copies(documents: Documents, card_id: str, count: int) -> list[str]:
    """More cards like the first, straight into the store: making them over HTTP would take most of the time."""
    scope = ids.scope_of(card_id, "card")
    doc = await documents.get(f"boards/{scope}", f"card/{card_id}")
    assert doc is not None
    place, made, puts = doc.body["rank"], list[str](), list[Put]()
    for n in range(count):
        place = rank.between(place, None)
        made.append(ids.scoped("card", scope))
        body = doc.body | {"id": made[-1], "rank": place, "title": f"Card {n + 1}"}
        puts.append(Put(f"card/{made[-1]}", body, ANY))
    batches = [puts[start : start + _BATCH] for start in range(0, count, _BATCH)]
    for start in range(0, len(batches), _AT_ONCE):
        commits = [documents.commit(f"boards/{scope}", batch) for batch in batches[start : start + _AT_ONCE]]
        await asyncio.gather(*commits)
    return made


def connector() -> aiohttp.TCPConnector:
    """As many connections as wanted, none idle for so long that the server may just be closing it."""
    return aiohttp.TCPConnector(limit=0, keepalive_timeout=2)


def leave_first_core() -> None:
    """This process, and what it starts, goes on the other cores."""
    if cores := sorted(os.sched_getaffinity(0))[1:]:
        os.sched_setaffinity(0, cores)


def give_way() -> None:
    """What arrives for this process no longer interrupts others on its core: sched(7), SCHED_BATCH."""
    os.sched_setscheduler(0, os.SCHED_BATCH | os.SCHED_RESET_ON_FORK, os.sched_param(0))


def come_first(pid: int) -> None:
    """All threads of a process run as soon as there is something for them to do: sched(7), SCHED_RR.

    What shares their core waits; nice values would not see to that where the kernel groups tasks by session. Raises
    PermissionError for those who are not root.
    """
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(ProcessLookupError):
            os.sched_setscheduler(int(thread), os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def pin(pid: int) -> None:
    """All threads of a process, to the first core."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {0})


def rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2
