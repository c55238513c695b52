"""Work under way while parts of the platform fail, and what must have come of it, to be compared with calm times."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.exceptions import WebSocketException

from local.client import ApiError
from shared.core import ids
from shared.core.usage import records_since
from shared.llm.models import BROKEN_OFF
from tests.contracts.pubsub_client import PubSubClient
from tests.flows.world import (
    Json,
    Person,
    bare_repository,
    events_of,
    events_to_end,
    finished_run,
    finished_task,
    git,
    make_card,
    move,
    started_run,
    stored,
)
from tests.waiting import until

BODY = """1. Create `first.txt`:

   ```
   one
   ```

2. Run: `sleep 1`

3. Create `second.txt`:

   ```
   two
   ```

4. Run: `sleep 1`
"""
PATIENCE = 90
"""Seconds that people may have to wait for what was under way."""
_COUNTED = ("commits", "files_changed", "additions", "deletions")
_PLAIN = ("ready", "backlog")


class Impatient(AssertionError):
    """The API asked for more than patience."""


async def patiently[T](call: Callable[[], Awaitable[T]], within: float = PATIENCE) -> T:
    """What a client does by itself: no answer and 503 are tried again. Any other refusal is passed on."""
    deadline = time.monotonic() + within
    while True:
        try:
            return await call()
        except httpx.TransportError:
            pass
        except ApiError as error:
            if error.status != 503:
                raise
        if time.monotonic() > deadline:
            raise Impatient(f"no answer within {within} s")
        await asyncio.sleep(0.2)


class Browser(Person):
    """Stays signed in by itself: a call refused for its access token is made again with a fresh one."""

    async def call(self, method: str, path: str, **request: Any) -> Any:
        await self.renew()
        refused = self.authorization
        try:
            return await super().call(method, path, **request)
        except ApiError as error:
            if error.status != 401 or not refused:
                raise
        await self.renew(refused)
        return await super().call(method, path, **request)


class Follower:
    """A second browser: live events, a new connection when it is cut, and what it missed by sequence."""

    def __init__(self, person: Person, board_id: str) -> None:
        self._person, self._board = person, board_id
        self.seen: dict[int, Json] = {}
        self.live: list[int] = []
        self._after = 0

    async def follow(self) -> None:
        while True:
            with contextlib.suppress(httpx.TransportError, ApiError, OSError, WebSocketException, TimeoutError):
                url = (await self._person.get("/api/realtime/negotiate"))["url"]
                async with PubSubClient(url) as socket:
                    await self._catch_up()
                    await self._listen(socket)
            await asyncio.sleep(0.2)

    async def _listen(self, socket: PubSubClient) -> None:
        taken = 0
        while not socket.closed:
            await asyncio.sleep(0.02)
            for message in socket.messages[taken:]:
                taken += 1
                if message["data"]["subject"] == f"board/{self._board}":
                    await self._take(message["data"])

    async def _take(self, event: Json) -> None:
        self.live.append(event["sequence"])
        if event["sequence"] > self._after + 1:
            await self._catch_up()
        self._keep(event)

    async def _catch_up(self) -> None:
        while (page := await self._person.get(f"/api/boards/{self._board}/events", after=self._after))["items"]:
            for event in page["items"]:
                self._keep(event)

    def _keep(self, event: Json) -> None:
        known = self.seen.setdefault(event["sequence"], event)
        assert known["id"] == event["id"], "two events under one sequence"
        self._after = max(self._after, event["sequence"])


class Mover:
    """Moves one card to and fro, each move acknowledged before the next."""

    def __init__(self, person: Person, board_id: str) -> None:
        self._person, self._board = person, board_id
        self.acknowledged: list[str] = []
        self.enough = False
        self.slowest = 0.0
        self.last_acknowledged = 0.0

    async def start(self) -> None:
        self.card = await make_card(self._person, self._board, "To and fro")
        self._column = self.card["column_id"]

    async def go_on(self) -> None:
        for target in itertools.cycle(_PLAIN):
            if self.enough:
                return
            if target != self._column:
                began = time.monotonic()
                await patiently(lambda target=target: self._move(target))
                self.last_acknowledged = time.monotonic()
                self.slowest = max(self.slowest, self.last_acknowledged - began)
                self.acknowledged.append(target)
                self._column = target
            await asyncio.sleep(0.02)

    async def _move(self, target: str) -> None:
        try:
            await move(self._person, self.card["id"], target, expected_column=self._column)
        except ApiError as error:
            if error.status != 409:
                raise
            there = await self._person.get(f"/api/cards/{self.card['id']}")  # did it happen before the answer was lost?
            if there["column_id"] != target:
                raise

    async def check(self, in_order: bool) -> None:
        """Every acknowledged move happened once, and nothing else did."""
        events = [e for e in await events_of(self._person, f"boards/{self._board}") if _is_about(e, self.card["id"])]
        moves = [e["data"]["card"]["column_id"] for e in events if e["type"] == "card.moved"]
        assert (moves if in_order else sorted(moves)) == (self.acknowledged if in_order else sorted(self.acknowledged))
        assert [e["type"] for e in events if e["type"] != "card.moved"] == ["card.created"]
        kept = await self._person.get(f"/api/cards/{self.card['id']}")
        assert kept["column_id"] == self.acknowledged[-1]


def _is_about(event: Json, card_id: str) -> bool:
    return event["data"].get("card", {}).get("id") == card_id


@dataclass
class Work:
    """Runs, workspaces, teams and moves under way at once."""

    owner: Person
    place: Json
    follower: Follower
    mover: Mover
    import_url: str
    cards: list[Json] = field(default_factory=list)
    started: list[Json] = field(default_factory=list)
    _going: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def going_on(cls, owner: Person, guest: Person, place: Json, import_url: str) -> "AsyncGenerator[Work]":
        """An agent is at work, a card is moved to and fro, and somebody watches."""
        follower, mover = Follower(guest, place["board_id"]), Mover(owner, place["board_id"])
        self = cls(owner, place, follower, mover, import_url)
        await mover.start()
        self._going = [asyncio.create_task(follower.follow()), asyncio.create_task(mover.go_on())]
        try:
            await self.hand_out()
            run = await started_run(owner, self.cards[0]["id"], within=PATIENCE)
            await until(lambda: self._has_turned(run["id"]), within=PATIENCE)
            yield self
        finally:
            for task in self._going:
                task.cancel()
            await asyncio.gather(*self._going, return_exceptions=True)

    async def _has_turned(self, run_id: str) -> bool:
        return (await self.owner.get(f"/api/runs/{run_id}"))["turns"] >= 1

    async def hand_out(self) -> None:
        """Move a card to where an agent takes it up."""
        card = await patiently(lambda: make_card(self.owner, self.place["board_id"], "Make two files", BODY))
        self.cards.append(card)
        await patiently(lambda: self._start_agent(card["id"]))

    async def _start_agent(self, card_id: str) -> None:
        try:
            await move(self.owner, card_id, "progress", expected_column="backlog")
        except ApiError as error:
            if error.status != 409 or (await self.owner.get(f"/api/cards/{card_id}"))["column_id"] == "backlog":
                raise

    async def found(self, path: str, **body: Any) -> None:
        """Begin a team or a workspace."""
        name = f"Begun {ids.random_text(6)}"
        self.started.append(await patiently(lambda: self.owner.post(path, {"name": name, **body})))

    async def found_all(self, apart: float = 0) -> None:
        await self.found("/api/workspaces", import_url=self.import_url)
        await asyncio.sleep(apart)
        await self.found("/api/workspaces", import_url=None)
        await asyncio.sleep(apart)
        await self.found("/api/teams")

    async def ends(self) -> Json:
        """What came of it, once all is done."""
        tasks = [await patiently(lambda item=item: self._task(item["task_id"])) for item in self.started]
        runs = [await patiently(lambda card=card: self._run(card)) for card in self.cards]
        return {"tasks": tasks, "runs": runs}

    def check_going(self) -> None:
        for task in self._going:
            if task.done():
                task.result()
                raise AssertionError("nobody moves or watches any more")

    async def stop(self) -> None:
        """No more moves; the last one is acknowledged."""
        self.mover.enough = True
        await self._going[1]

    async def check_moves(self, in_order: bool = True) -> None:
        await self.mover.check(in_order)
        events = await events_of(self.owner, f"boards/{self.place['board_id']}")

        async def caught_up() -> bool:
            return len(self.follower.seen) == len(events)

        if self._going[0].done():
            await self._going[0]
        await until(caught_up, within=10)
        assert [self.follower.seen[n]["id"] for n in range(1, len(events) + 1)] == [event["id"] for event in events]

    async def _task(self, task_id: str) -> Json:
        task = await finished_task(self.owner, task_id, within=PATIENCE)
        told = await events_to_end(self.owner, f"tasks/{task_id}", within=PATIENCE)
        return {"plan": task["plan"], "status": task["status"], "error": task["error"], "told": _steps_told(told)}

    async def _run(self, card: Json) -> Json:
        newest = await started_run(self.owner, card["id"], within=PATIENCE)
        run = await finished_run(self.owner, newest["id"], within=PATIENCE)
        told = await events_to_end(self.owner, f"runs/{run['id']}", within=PATIENCE)
        kept = await self.owner.get(f"/api/cards/{card['id']}")
        attempts = (await self.owner.get(f"/api/cards/{card['id']}/runs"))["items"]
        return {
            "status": (run["status"], run["reason"], run["turns"], len(attempts)),
            "card": (kept["column_id"], kept["run"]["status"]),
            "result": run["result"] and {k: run["result"][k] for k in _COUNTED},
            "git": self._branch(run["branch"]),
            "usage": await self._usage(run["id"]),
            "told": [_what(event) for event in told if event["type"] != "usage.recorded"],
        }

    async def _usage(self, run_id: str) -> Json:
        """Whatever the cache of a model held: the sum of the prompt's tokens stays the same.

        What a killed process was asking the model counts at its most, and what a killed model was answering counts as
        far as it came: those are left out, since the agent asked again.
        """

        async def settled() -> Json | None:
            lost = await self._lost_calls(run_id)
            run = await self.owner.get(f"/api/runs/{run_id}")
            usage = run["usage"]
            if usage["requests"] - len(lost) < run["turns"] or lost != await self._lost_calls(run_id):
                return None
            return {
                "requests": usage["requests"] - len(lost),
                "prompt": _prompt(usage) - sum(map(_prompt, lost)),
                "output": usage["output_tokens"] - sum(call["output_tokens"] for call in lost),
            }

        return await until(settled, within=PATIENCE + 30, every=0.2)

    async def _lost_calls(self, run_id: str) -> list[Json]:
        async with stored(self.owner.cloud) as documents:
            records = await records_since(documents, self.place["team_id"], "")
        of_run = [record for record in records if record["run_id"] == run_id]
        return [record for record in of_run if record["estimated"] or record["status"] == BROKEN_OFF]

    def _branch(self, branch: str) -> Json:
        bare = bare_repository(self.owner.cloud, self.place)
        if not git(bare, "branch", "--list", branch):
            return {}
        commits = git(bare, "log", "--format=%s", f"main..{branch}").splitlines()
        return {"commits": commits, "files": git(bare, "ls-tree", "-r", branch).splitlines()}


def _prompt(usage: Json) -> int:
    return usage["input_tokens"] + usage["cache_read_tokens"] + usage["cache_write_tokens"]


def _what(event: Json) -> str:
    """An event as far as two runs of the same card have it in common."""
    data = event["data"]
    words = (event["type"], data.get("kind"), data.get("name"), data.get("turn"))
    return " ".join(str(word) for word in words if word is not None)


def _steps_told(events: list[Json]) -> list[str]:
    """What a task told: each state of its steps once, for one that is taken up again may say that it still is so."""
    types = [event["type"] for event in events]
    assert (types[0], types.count("task.created"), types.count("task.completed")) == ("task.created", 1, 1), types
    return list(dict.fromkeys(" ".join(step["status"] for step in e["data"]["task"]["steps"]) for e in events))
