"""The words that flow tests are written in: people, workspaces, cards, runs, on a running local cloud."""

import os
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from local.client import Client
from local.cloud import LocalCloud
from local.ports import CloudPorts
from shared.bootstrap import adapters
from shared.core.ports import Documents, Put
from shared.core.settings import Settings
from tests.contracts.pubsub_client import PubSubClient
from tests.waiting import until

type Json = dict[str, Any]

TASK_OVER = ("succeeded", "failed", "needs_attention", "cancelled", "rolled_back")
RUN_OVER = ("succeeded", "failed", "cancelled")
_ENDS = frozenset(
    f"{kind}.{end}" for kind in ("task", "agent") for end in ("completed", "failed", "rolled_back", "cancelled")
)
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "DOCKER_HOST", "CONTAINER_SUBNETS")
"""Of this process's settings, the engine among them that was started for tests."""


def combination() -> dict[str, str]:
    """The drivers that this session tests: KANBAN_TEST_HOST=process|docker, KANBAN_TEST_STORE=tinydb|tables."""
    return {
        "CONTAINER_HOST": os.environ.get("KANBAN_TEST_HOST", "process"),
        "STORE": os.environ.get("KANBAN_TEST_STORE", "tinydb"),
    }


def on_docker() -> bool:
    return combination()["CONTAINER_HOST"] == "docker"


@asynccontextmanager
async def started_cloud(
    data: Path,
    model_delay: float = 0,
    host_environ: dict[str, str] | None = None,
    with_functions: bool = True,
    **settings: str,
) -> AsyncGenerator[LocalCloud]:
    """A cloud with the demo model and nothing of this process's settings but `settings`."""
    environ = {name: os.environ[name] for name in KEPT if name in os.environ} | combination() | settings
    ports = CloudPorts.free()
    cloud = LocalCloud(
        data,
        ports,
        environ,
        model_delay,
        browsable=False,
        host_environ=host_environ,
        with_functions=with_functions,
        eager_saves=os.environ.get("KANBAN_TEST_SAVES") != "lazy",
    )
    async with cloud:
        yield cloud


@asynccontextmanager
async def stored(cloud: LocalCloud) -> AsyncGenerator[Documents]:
    """What the cloud keeps, whatever its store."""
    ports = adapters(Settings.from_env(cloud.settings))
    yield ports.documents
    for close in ports.closers:
        await close()


class Person(Client):
    """Somebody at the API; `request` shows the bare answer, `refused` the problem."""

    def __init__(self, cloud: LocalCloud) -> None:
        super().__init__(cloud.api_url)
        self.cloud = cloud

    @classmethod
    @asynccontextmanager
    async def signed_in(cls, cloud: LocalCloud, username: str) -> AsyncGenerator[Self]:
        async with cls(cloud) as person:
            await person.sign_in(username)
            yield person

    @property
    def id(self) -> str:
        return self.user["id"]

    async def request(self, method: str, path: str, **request: Any) -> httpx.Response:
        await self.renew()
        return await self._http.request(method, path, **request)

    async def refused(self, method: str, path: str, body: Any = None, **headers: str) -> Json:
        """The problem of a call that must not succeed."""
        answer = await self.request(method, path, json=body, headers=headers)
        return problem(answer)

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[PubSubClient]:
        """This person's live events."""
        async with PubSubClient((await self.get("/api/realtime/negotiate"))["url"]) as socket:
            yield socket


def problem(answer: httpx.Response) -> Json:
    """The answer's problem report, whose form is checked."""
    assert answer.status_code >= 400, f"{answer.request.method} {answer.url} was allowed: {answer.text[:300]}"
    assert answer.headers["content-type"] == "application/problem+json", answer.text[:300]
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["type"].startswith("https://")
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


async def rewrite(cloud: LocalCloud, partition: str, id: str, **changes: Any) -> None:
    """Change a kept document, as time would: flow tests cannot wait for a month."""
    async with stored(cloud) as documents:
        kept = await documents.get(partition, id)
        assert kept is not None, f"{partition} has no {id}"
        await documents.commit(partition, [Put(id, kept.body | changes, kept.etag)])


# -- tasks ------------------------------------------------------------------------------------------


async def finished_task(person: Person, task_id: str, within: float = 30) -> Json:
    async def over() -> Json | None:
        task = await person.get(f"/api/tasks/{task_id}")
        return task if task["status"] in TASK_OVER else None

    return await until(over, within)


async def make_workspace(person: Person, name: str, import_url: str | None = None) -> Json:
    started = await person.post("/api/workspaces", {"name": name, "import_url": import_url})
    task = await finished_task(person, started["task_id"])
    assert task["status"] == "succeeded", task["error"]
    return await person.get(f"/api/workspaces/{started['workspace']['id']}")


async def make_team(person: Person, name: str) -> Json:
    started = await person.post("/api/teams", {"name": name})
    task = await finished_task(person, started["task_id"])
    assert task["status"] == "succeeded", task["error"]
    return await person.get(f"/api/teams/{started['team']['id']}")


async def join(owner: Person, team_id: str, guest: Person, role: str) -> None:
    invitation = await owner.post(f"/api/teams/{team_id}/invitations", {"role": role})
    await guest.post(f"/api/invitations/{invitation['url'].rpartition('/')[2]}/accept")


# -- boards, cards, runs ----------------------------------------------------------------------------


async def board_of(person: Person, board_id: str) -> Json:
    return (await person.get(f"/api/boards/{board_id}"))["board"]


async def make_card(person: Person, board_id: str, title: str, body: str = "", **fields: Any) -> Json:
    return await person.post(f"/api/boards/{board_id}/cards", {"title": title, "body": body, **fields})


async def move(person: Person, card_id: str, column_id: str, **fields: Any) -> Json:
    return await person.post(f"/api/cards/{card_id}/move", {"column_id": column_id, **fields})


async def runs_of(person: Person, card_id: str) -> list[Json]:
    return (await person.get(f"/api/cards/{card_id}/runs"))["items"]


async def started_run(person: Person, card_id: str, within: float = 20) -> Json:
    """The newest run of a card that was moved."""

    async def newest() -> Json | None:
        runs = await runs_of(person, card_id)
        return runs[0] if runs else None

    return await until(newest, within)


async def run_in(person: Person, run_id: str, *statuses: str, within: float = 60) -> Json:
    """The run, once it has one of these statuses."""

    async def there() -> Json | None:
        run = await person.get(f"/api/runs/{run_id}")
        assert run["status"] in statuses or run["status"] not in RUN_OVER, (run["status"], run["reason"])
        return run if run["status"] in statuses else None

    return await until(there, within, every=0.1)


async def run_card(person: Person, board_id: str, title: str, body: str) -> tuple[Json, Json]:
    """A card moved to In Progress, and its run."""
    card = await make_card(person, board_id, title, body)
    await move(person, card["id"], "progress")
    return card, await started_run(person, card["id"])


async def finished_run(person: Person, run_id: str, within: float = 60) -> Json:
    return await run_in(person, run_id, *RUN_OVER, within=within)


async def events_of(person: Person, subject: str) -> list[Json]:
    """All events of `tasks/<id>`, `boards/<id>` or `runs/<id>`; that none is missing is checked."""
    items: list[Json] = []
    while True:
        page = await person.get(f"/api/{subject}/events", after=len(items))
        items += page["items"]
        if not page["items"] or len(items) >= page["last"]:
            break
    assert [event["sequence"] for event in items] == list(range(1, len(items) + 1))
    assert len({event["id"] for event in items}) == len(items)
    return items


async def events_to_end(person: Person, subject: str, within: float = 10) -> list[Json]:
    """All events of a task or run that is over: its end is there a moment before it is told."""

    async def whole() -> list[Json] | None:
        events = await events_of(person, subject)
        return events if any(event["type"] in _ENDS for event in events) else None

    return await until(whole, within, every=0.1)


def bare_repository(cloud: LocalCloud, workspace: Json) -> Path:
    """Where the GitHub emulator keeps it, to ask git itself."""
    return next((cloud.data / "github").rglob(f"{workspace['repository']['full_name']}.git"))


def git(folder: Path, *command: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *command], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()
