"""A whole platform on fakes, and the words that unit tests are written in."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from shared.adapters.jwt_tokens import JwtTokens
from shared.agents.models import RunCompletion, WebhookAnswer
from shared.boards.models import Card, CardMove, NewCard
from shared.bootstrap import Platform, Ports, build
from shared.core.access import Principal
from shared.core.clock import ManualClock
from shared.core.errors import PlatformError
from shared.core.permissions import Role
from shared.core.ports import Delete, Doc, Json, Op
from shared.core.resources import Run
from shared.core.settings import Settings
from shared.core.store import Store
from shared.llm.routes import DEFAULT
from shared.teams.models import NewInvitation, NewTeam, Team
from shared.workspaces.models import NewWorkspace, Workspace
from tests.fakes import FakeBlobs, FakeDocuments, FakeEventLog, FakeLedger, FakeQueues, FakeRealtime, FakeSecrets
from tests.fakes.container_host import FakeContainerHost
from tests.fakes.identity import TENANT, FakeIdentity
from tests.fakes.repositories import FakeRepositories
from tests.fakes.upstream import FakeUpstream
from tests.fakes.webhooks import FakeSigner, FakeWebhookSender

TEMPLATE = "acme/template"
SETTINGS = Settings(
    public_api_url="https://api.example",
    public_web_url="https://web.example",
    first_admin="grace@contoso.test",
    entra_allowed_tenants=(TENANT,),
    anthropic_api_key="sk-test",
    demo_model=True,
    github_template=TEMPLATE,
)


class InterleavedDocuments(FakeDocuments):
    """Gives way before every operation, so that tasks running at once really meet."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[tuple[str, BaseException, bool, bool]] = []

    def fail(self, partition: str, error: BaseException, *, removal: bool = False, happens: bool = False) -> None:
        """The next commit of a partition that starts so raises `error`; when it `happens`, after it was written. One
        that only removes what was sent comes when it comes: it is or is not what is meant."""
        self.failures.append((partition, error, removal, happens))

    async def get(self, partition: str, id: str) -> Doc | None:
        await asyncio.sleep(0)
        return await super().get(partition, id)

    async def query(self, partition: str, prefix: str = "", after: str = "", limit: int | None = None) -> list[Doc]:
        await asyncio.sleep(0)
        return await super().query(partition, prefix, after, limit)

    async def commit(self, partition: str, ops: Sequence[Op]) -> dict[str, str]:
        await asyncio.sleep(0)
        removal = all(isinstance(op, Delete) and op.id.startswith("outbox/") for op in ops)
        for wanted in self.failures:
            if partition.startswith(wanted[0]) and removal == wanted[2]:
                self.failures.remove(wanted)
                if wanted[3]:
                    await super().commit(partition, ops)
                raise wanted[1]
        return await super().commit(partition, ops)


@dataclass
class StoreWorld:
    """A store on fakes."""

    clock: ManualClock = field(default_factory=ManualClock)
    documents: InterleavedDocuments = field(default_factory=InterleavedDocuments)
    events: FakeEventLog = field(default_factory=FakeEventLog)
    queues: FakeQueues = field(default_factory=FakeQueues)
    realtime: FakeRealtime = field(default_factory=FakeRealtime)

    def __post_init__(self) -> None:
        self.store = self.another_store()

    def another_store(self) -> Store:
        """The same state seen by another process."""
        return Store(self.documents, self.events, self.queues, self.realtime, self.clock)

    def rows(self, partition: str, prefix: str = "") -> list[str]:
        return sorted(key for key in self.documents.partitions.get(partition, {}) if key.startswith(prefix))

    def open_rows(self, prefix: str = "") -> list[str]:
        """What lies in the `open/` partitions. Without `prefix`: work, not the tickets of outboxes."""
        return sorted(
            key
            for partition in self.documents.partitions
            if partition.startswith("open/")
            for key in self.rows(partition, prefix)
            if prefix or not key.startswith("outbox~")
        )

    async def subject(self, name: str) -> list[Json]:
        """A subject's events; that their sequence has no gap is checked."""
        events = await self.events.read(name, limit=10_000)
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        return events

    async def types(self, name: str) -> list[str]:
        return [event["type"] for event in await self.subject(name)]


class World(StoreWorld):
    """A platform whose queue messages are consumed when a test says so."""

    def __init__(self, settings: Settings = SETTINGS, *, isolated: bool = True) -> None:
        super().__init__()
        self.blobs, self.secrets, self.identity = FakeBlobs(), FakeSecrets(), FakeIdentity()
        self.ledger, self.host = FakeLedger(self.clock), FakeContainerHost(isolated=isolated)
        self.repositories = FakeRepositories(templates={TEMPLATE: {"app.py": "print(1)\n"}}, clock=self.clock)
        self.sender, self.signer = FakeWebhookSender(), FakeSigner(self.clock)
        self.sender.receiver = self._receive
        self.settings = settings
        self.platform = self.another_platform()
        self.answers: list[WebhookAnswer] = []
        self._taken = 0
        self._waiting: list[tuple[datetime, str, Json]] = []

    def another_platform(self) -> Platform:
        """The same state in another process."""
        ports = Ports(
            documents=self.documents,
            event_log=self.events,
            blobs=self.blobs,
            secrets=self.secrets,
            queues=self.queues,
            realtime=self.realtime,
            ledger=self.ledger,
            identity=self.identity,
            tokens=JwtTokens(self.secrets, self.settings.public_api_url, self.clock),
            repositories=self.repositories,
            host=self.host,
            routes=DEFAULT,
            providers={"anthropic": FakeUpstream([])},
            sender=self.sender,
            signer=self.signer,
            clock=self.clock,
        )
        return build(self.settings, ports)

    def traces(self, *texts: str) -> list[str]:
        """Every place, in any store or outside, that knows one of the texts."""
        places = [
            (f"{partition} {key}", raw)
            for partition, rows in self.documents.partitions.items()
            for key, (_, raw) in rows.items()
        ]
        places += [(subject, b"".join(lines)) for subject, lines in self.events.subjects.items() if lines]
        places += list(self.blobs.blobs.items())
        places += [(f"secret {name}", value.encode()) for name, value in self.secrets.secrets.items()]
        places += [(f"host {name}", b"") for name in [*self.host.teams, *self.host._jobs, *self.host._services]]
        places += [
            (f"repository {hosted.repository.full_name}", hosted.description.encode())
            for hosted in self.repositories.repositories.values()
        ]
        return sorted(
            place for place, content in places if any(text in place or text.encode() in content for text in texts)
        )

    # -- queues ---------------------------------------------------------------------------------

    async def pump(self, seconds: float = 0) -> None:
        """Consume every message that is due within `seconds`; the clock follows the messages."""
        end = self.clock.now() + timedelta(seconds=seconds)
        for _ in range(2000):
            self._collect()
            due = [entry for entry in self._waiting if entry[0] <= end]
            if not due:
                self.clock.advance((end - self.clock.now()).total_seconds())
                return
            entry = min(due, key=lambda waiting: waiting[0])
            self._waiting.remove(entry)
            self.clock.advance(max(0.0, (entry[0] - self.clock.now()).total_seconds()))
            await self.consume(entry[1], entry[2])
        raise AssertionError("the queues never came to rest")

    def waiting(self, queue: str) -> list[Json]:
        """Messages that are sent and not consumed."""
        self._collect()
        return [body for _, name, body in self._waiting if name == queue]

    def lose_messages(self) -> None:
        """The queue's messages are hidden for good, as after a crash of whoever held them."""
        self._collect()
        self._waiting.clear()

    def _collect(self) -> None:
        for queue, body, delay in self.queues.sent[self._taken :]:
            self._waiting.append((self.clock.now() + timedelta(seconds=delay), queue, body))
        self._taken = len(self.queues.sent)

    async def consume(self, queue: str, body: Json) -> None:
        here = self.platform
        consumers = {
            "provisioning": here.runner.handle,
            "agent-runs": here.lifecycle.handle,
            "webhooks": here.webhooks.deliver,
            "usage": here.books.record,
        }
        await consumers[queue](body)

    async def _receive(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The platform's own agent endpoint."""
        try:
            answer = await self.platform.intake.receive(urlsplit(url).path.split("/")[3], headers, body)
        except PlatformError as error:
            return error.status
        self.answers.append(answer)
        return 202

    # -- people, teams, workspaces --------------------------------------------------------------

    async def person(self, name: str) -> Principal:
        auth = self.platform.auth
        session = await auth.finish(self.identity.consent(name), (await auth.begin(None)).state)
        return await auth.principal(f"Bearer {session.access_token}")

    async def team(self, owner: Principal, name: str = "Rockets") -> Team:
        started = await self.platform.teams.create(owner, NewTeam(name=name))
        await self.pump()
        team = await self.platform.teams.get(owner, started.team.id)
        assert team.status == "active"
        return team

    async def workspace(self, owner: Principal, name: str = "Rockets") -> Workspace:
        started = await self.platform.workspaces.create(owner, NewWorkspace(name=name))
        await self.pump()
        workspace = await self.platform.workspaces.get(owner, started.workspace.id)
        assert workspace.status == "active", workspace.error
        return workspace

    async def member(self, owner: Principal, team_id: str, name: str, role: Role = Role.MEMBER) -> Principal:
        """Somebody who joined by link."""
        person = await self.person(name)
        teams = self.platform.teams
        link = await teams.invite(owner, team_id, NewInvitation(role=role if role != Role.OWNER else Role.ADMIN))
        await teams.accept(person, (link.url or "").rpartition("/")[2])
        if role == Role.OWNER:
            await teams.change_role(owner, team_id, person.user_id, role)
        return person

    # -- cards and runs -------------------------------------------------------------------------

    async def card(self, by: Principal, board_id: str, title: str = "Add a healthcheck", **fields: Any) -> Card:
        return await self.platform.cards.create(by, board_id, NewCard(title=title, **fields))

    async def move(self, by: Principal, card_id: str, column_id: str, **fields: Any) -> Card:
        return await self.platform.cards.move(by, card_id, CardMove(column_id=column_id, **fields))

    async def started(self, by: Principal, board_id: str) -> Run:
        """The run of a new card that was moved to In Progress: its container is there and has reported."""
        card = await self.card(by, board_id)
        await self.move(by, card.id, "progress")
        await self.pump()
        run = (await self.platform.runs.of_card(by, card.id))[0]
        await self.platform.container.start(run.id, "box-1")
        return await self.platform.runs.get(by, run.id)

    def job_name(self, run_id: str) -> str:
        return run_id.replace("_", "-")

    async def push(self, run: Run, files: Mapping[str, str]) -> str:
        """What the agent's container does with git; the SHA of the commit."""
        full_name = next(iter(self.repositories.repositories.values())).repository.full_name
        token = await self.repositories.token(full_name)
        return self.repositories.push(full_name, run.branch, files, token)

    async def succeed(self, run: Run) -> Run:
        sha = await self.push(run, {"app.py": "print(2)\n"})
        done = RunCompletion(outcome="succeeded", summary="Done.", branch=run.branch, commit=sha, turns=3)
        return await self.platform.container.complete(run.id, done)
