"""A gateway on fakes, with one team's key and run tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from shared.core.clock import ManualClock
from shared.core.errors import PlatformError, Unauthenticated
from shared.core.ports import Json, Put, Tokens
from shared.core.store import Store
from shared.llm.books import Books
from shared.llm.gateway import Gateway
from shared.llm.keys import Keys
from shared.llm.models import Answer, Call, KeyRecord
from shared.llm.routes import DEFAULT, Routes
from shared.llm.routing import Router
from shared.llm.service import UsageRecorder
from shared.llm.upstream import Headers, Upstream
from tests.fakes import FakeDocuments, FakeEventLog, FakeLedger, FakeQueues, FakeRealtime, FakeSecrets
from tests.fakes.upstream import FakeUpstream, Script, message

TEAM = "t0123456789"
RUN = f"run_{TEAM}_0001"
CARD = f"card_{TEAM}_0001"


class ClearTokens:
    """Tokens anybody can read: audience, subject and claims as hex JSON between dots."""

    async def sign(self, audience: str, subject: str, claims: Json, ttl: int) -> str:
        return f"run.{orjson.dumps({**claims, 'aud': audience, 'sub': subject}).hex()}.x"

    async def verify(self, token: str, audience: str, leeway: int = 0) -> Json:
        kind, payload, _ = token.split(".")
        claims = orjson.loads(bytes.fromhex(payload)) if kind == "run" else {}
        if claims.get("aud") != audience:
            raise Unauthenticated("This token is not valid here.")
        return claims

    async def jwks(self) -> Json:
        return {"keys": []}


async def no_sleep(_: float) -> None:
    """Pauses between tries are over at once."""


@dataclass
class World:
    upstream: Upstream
    ping_seconds: float = 15
    fail_open: bool = False
    clock: ManualClock = field(default_factory=ManualClock)
    documents: FakeDocuments = field(default_factory=FakeDocuments)
    secrets: FakeSecrets = field(default_factory=FakeSecrets)
    queues: FakeQueues = field(default_factory=FakeQueues)
    events: FakeEventLog = field(default_factory=FakeEventLog)
    realtime: FakeRealtime = field(default_factory=FakeRealtime)
    tokens: Tokens = field(default_factory=ClearTokens)
    routes: Routes = DEFAULT
    others: Mapping[str, Upstream] = field(default_factory=dict[str, Upstream])

    def __post_init__(self) -> None:
        self.ledger = FakeLedger(self.clock)
        self.documents.partitions[f"portal/team/{TEAM}"] = {"team": ("v0", orjson.dumps({"scope": TEAM}))}
        self.store = Store(self.documents, self.events, self.queues, self.realtime, self.clock)
        self.recorder = UsageRecorder(self.store)
        self.keys = Keys(self.documents, self.secrets, self.tokens, self.clock)
        self.books = self.another_books()
        router = Router(self.routes, {"anthropic": self.upstream, **self.others}, self.clock, no_sleep)
        self.gateway = Gateway(self.keys, self.books, router, self.clock, ping_seconds=self.ping_seconds)

    def another_books(self) -> Books:
        """Those of another process."""
        return Books(self.ledger, self.documents, self.queues, self.recorder, self.clock, fail_open=self.fail_open)

    async def key(self) -> tuple[str, KeyRecord]:
        """The team's key and its record."""
        record = await self.keys.ensure_key(TEAM)
        return self.secrets.secrets[record.secret_name], record

    async def run_token(self, cap: int = 5_000_000, run: str = RUN, **claims: Any) -> str:
        _, record = await self.key()
        body = {"team_id": TEAM, "card_id": CARD, "key_hash": record.key_hash, "cap": cap} | claims
        await self.put_run(run, "running")
        return await self.tokens.sign("run", run, body, 3600)

    async def put_run(self, run: str, status: str) -> None:
        """As much of a run's document as the gateway looks at."""
        await self.documents.commit(f"boards/{TEAM}", [Put(f"run/{run}", {"status": status}, "*")])

    def usage(self) -> list[Json]:
        """Usage records that were sent."""
        return [record for message in self.queues.bodies("usage") for record in message["records"]]

    async def recorded(self) -> list[Json]:
        """The usage records, when all have been sent."""
        await self.books.close()
        return self.usage()

    async def spent(self, subject: str) -> int:
        """Micro-USD, when all that was under way is settled."""
        await self.books.close()
        assert self.ledger.subjects[subject].held == 0
        return self.ledger.subjects[subject].spent["total"]


def scripted(*scripts: Script | PlatformError) -> tuple[World, FakeUpstream]:
    upstream = FakeUpstream(list(scripts) or [Script.json(message())])
    return World(upstream), upstream


def call(token: str, body: bytes = b'{"model": "claude-sonnet-5-5"}', headers: Headers = ()) -> Call:
    return Call("POST", "/v1/messages", "beta=true", [("x-api-key", token), *headers], body)


async def read(answer: Answer) -> list[bytes]:
    """Its pieces."""
    return [answer.body] if answer.chunks is None else [chunk async for chunk in answer.chunks]
