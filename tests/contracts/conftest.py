"""One Azurite and one Docker engine for all contracts; each test has tables and containers of its own."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from local.azurite import Azurite
from local.azurite import missing as azurite_missing
from local.valkey import Valkey, ValkeyMissing, server_binary
from shared.adapters.redis_ledger import RedisLedger
from shared.llm.ledger import Ledger
from tests.fakes import FakeLedger
from tests.requires import require

if TYPE_CHECKING:
    from tests.contracts.hosts import DockerHarness, Harness
    from tests.engine import Engine


@pytest.fixture(scope="session")
async def storage() -> AsyncGenerator[str]:
    """A connection string."""
    require(not azurite_missing(), azurite_missing())
    async with Azurite() as azurite:
        yield azurite.connection_string


def missing_valkey() -> str:
    try:
        server_binary()
    except ValkeyMissing as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
async def valkey_url() -> AsyncGenerator[str]:
    require(not missing_valkey(), missing_valkey())
    async with Valkey() as server:
        yield server.url


@pytest.fixture
async def redis(valkey_url: str, lease: float) -> AsyncGenerator[RedisLedger]:
    """An empty one. A module says how long its leases are."""
    async with Redis.from_url(valkey_url) as admin:
        await admin.flushdb()
    ledger = RedisLedger(valkey_url, lease)
    yield ledger
    await ledger.close()


@pytest.fixture(params=["fake", "redis"])
def ledger(request: pytest.FixtureRequest, lease: float) -> Ledger:
    return FakeLedger(lease=lease) if request.param == "fake" else request.getfixturevalue("redis")


@pytest.fixture(scope="session")
async def job_image(engine: "Engine", agent_image: str) -> str:
    """The agent's image with the programs that the contract runs."""
    from tests.contracts.hosts import build_job_image

    return await asyncio.to_thread(build_job_image, engine, agent_image)


@pytest.fixture
def driver(request: pytest.FixtureRequest) -> "tuple[str, Engine | None, str]":
    """`fake`, `process` or `docker`, with the engine and the image of the last."""
    if request.param == "docker":
        return request.param, request.getfixturevalue("engine"), request.getfixturevalue("job_image")
    return request.param, None, ""


@pytest.fixture
async def harness(driver: "tuple[str, Engine | None, str]", tmp_path: Path) -> "AsyncGenerator[Harness]":
    from shared.adapters.process_folders import stop_all
    from tests.contracts.hosts import DockerHarness, FakeHarness, ProcessHarness

    name, engine, image = driver
    if engine:
        docker = DockerHarness(engine, image)
        yield docker
        await docker.close()
    else:
        local = FakeHarness() if name == "fake" else ProcessHarness(tmp_path)
        yield local
        await local.host.close()
        stop_all(tmp_path / "host")


@pytest.fixture
async def docker(engine: "Engine", job_image: str) -> "AsyncGenerator[DockerHarness]":
    from tests.contracts.hosts import DockerHarness

    harness = DockerHarness(engine, job_image)
    yield harness
    await harness.close()
