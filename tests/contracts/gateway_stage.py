"""A gateway over HTTP between real clients and scripted model services."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import orjson
from fastapi import FastAPI

from functions.model_gateway import ModelGateway
from shared.adapters.managed_identity import ManagedIdentity
from shared.bootstrap import providers
from shared.core.clock import ManualClock
from shared.core.settings import Settings
from shared.llm.routes import parse
from tests.fakes import FakeSecrets
from tests.fakes.upstream import UpstreamApp
from tests.serving import serve
from tests.unit.llm.world import World


@dataclass
class Stage:
    world: World
    services: Mapping[str, UpstreamApp]
    url: str
    token: str

    @property
    def base_url(self) -> str:
        """What a client of the Anthropic API is given."""
        return f"{self.url}/api"

    def sdk(self) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(base_url=self.base_url, auth_token=self.token, api_key=None, max_retries=0)

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"{self.base_url}/v1", headers={"x-api-key": self.token}, timeout=20)

    def asked(self, name: str) -> list[Any]:
        return [orjson.loads(got.body)["model"] for got in self.services[name].received]


@asynccontextmanager
async def staged(
    table: Mapping[str, Mapping[str, Any]],
    targets: Sequence[Mapping[str, Any]],
    identity: ManagedIdentity | None = None,
    secrets: FakeSecrets | None = None,
    *,
    model: str = "fast",
    cap: int = 5_000_000,
) -> AsyncGenerator[Stage]:
    """A gateway whose `model` has `targets`, and a scripted service for each provider that has no address."""
    services = {name: UpstreamApp() for name in table}
    async with AsyncExitStack() as stack:
        described: dict[str, Any] = {}
        for name, provider in table.items():
            url = await stack.enter_async_context(serve(services[name]))
            described[name] = {"base_url": f"{url}/anthropic"} | provider
        routes = parse(orjson.dumps({"providers": described, "models": {model: {"targets": targets}}}).decode())
        kept = secrets or FakeSecrets()
        upstreams = providers(routes, Settings(anthropic_api_key="sk-of-setting"), kept, identity or ManagedIdentity())
        first, *_ = upstreams
        world = World(upstreams[first], clock=ManualClock(), secrets=kept, routes=routes, others=upstreams)
        gateway = ModelGateway(FastAPI(), world.gateway)
        yield Stage(world, services, await stack.enter_async_context(serve(gateway)), await world.run_token(cap=cap))
        await world.gateway.close()
