"""Every Counters adapter keeps the same promises."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from local.free_ports import free_port
from local.valkey import Valkey, ValkeyMissing, server_binary
from shared.adapters.redis_counters import RedisCounters
from shared.core import ids
from shared.core.errors import Unavailable
from shared.core.ports import Counters
from tests.fakes import FakeCounters
from tests.requires import require


def missing_server() -> str:
    try:
        server_binary()
    except ValkeyMissing as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
async def url() -> AsyncIterator[str]:
    require(not missing_server(), missing_server())
    async with Valkey() as server:
        yield server.url


@pytest.fixture
async def redis(url: str) -> AsyncIterator[RedisCounters]:
    counters = RedisCounters(url)
    yield counters
    await counters.close()


@pytest.fixture(params=["fake", "redis"])
def counters(request: pytest.FixtureRequest) -> Counters:
    return FakeCounters() if request.param == "fake" else request.getfixturevalue("redis")


@pytest.fixture
def key() -> str:
    return f"spend:{ids.random_text()}"


async def test_what_was_never_added_to_is_zero(counters, key):
    assert await counters.get(key) == 0


async def test_adding_returns_the_total(counters, key):
    assert await counters.add(key, 5, 60) == 5
    assert await counters.add(key, 0, 60) == 5
    assert await counters.add(key, -7, 60) == -2
    assert await counters.get(key) == -2


async def test_totals_beyond_32_bits(counters, key):
    await counters.add(key, 2**40, 60)
    assert await counters.add(key, 2**40, 60) == 2**41


async def test_keys_do_not_see_each_other(counters, key):
    await counters.add(key, 1, 60)
    assert await counters.get(key + "x") == 0


async def test_no_concurrent_addition_is_lost(counters, key):
    totals = await asyncio.gather(*(counters.add(key, 1, 60) for _ in range(100)))
    assert sorted(totals) == list(range(1, 101))


async def test_it_expires_counted_from_the_first_use(counters, key):
    start = time.monotonic()
    await counters.add(key, 1, 1)
    await asyncio.sleep(0.5)
    assert await counters.add(key, 1, 1) == 2
    await asyncio.sleep(1.1 - (time.monotonic() - start))
    assert await counters.get(key) == 0
    assert await counters.add(key, 1, 60) == 1


@pytest.mark.parametrize("ttl", [0, -1])
async def test_a_counter_that_could_not_live_is_refused(counters, key, ttl):
    with pytest.raises(ValueError, match="at least 1"):
        await counters.add(key, 1, ttl)
    assert await counters.get(key) == 0


async def test_while_down_the_fake_is_unavailable(key):
    counters = FakeCounters()
    counters.down = True
    with pytest.raises(Unavailable):
        await counters.add(key, 1, 60)
    with pytest.raises(Unavailable):
        await counters.get(key)


class TestRedisCounters:
    async def test_two_connections_share_a_counter(self, redis, url, key):
        other = RedisCounters(url)
        await redis.add(key, 2, 60)
        assert await other.add(key, 3, 60) == 5
        await other.close()

    async def test_nobody_listening_is_unavailable_within_seconds(self, key):
        counters = RedisCounters(f"redis://127.0.0.1:{free_port()}/0")
        start = time.monotonic()
        with pytest.raises(Unavailable):
            await counters.add(key, 1, 60)
        with pytest.raises(Unavailable):
            await counters.get(key)
        assert time.monotonic() - start < 5
        await counters.close()

    async def test_a_server_that_never_answers_is_unavailable_within_seconds(self, key):
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            counters = RedisCounters(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
            start = time.monotonic()
            with pytest.raises(Unavailable):
                await counters.get(key)
            assert time.monotonic() - start < 6
            await counters.close()

    async def test_a_restarted_server_is_found_again(self, key):
        require(not missing_server(), missing_server())
        async with Valkey() as server:
            counters = RedisCounters(server.url)
            await counters.add(key, 1, 60)
            port = server.port
        with pytest.raises(Unavailable):
            await counters.get(key)
        async with Valkey(port=port):
            assert await counters.add(key, 4, 60) == 4
        await counters.close()

    async def test_it_works_again_after_close(self, redis, key):
        await redis.add(key, 1, 60)
        await redis.close()
        assert await redis.add(key, 1, 60) == 2

    @pytest.mark.parametrize("text", ["", "nonsense", "http://x"])
    async def test_an_address_that_is_none_says_which_setting(self, text):
        with pytest.raises(Unavailable, match="REDIS_URL"):
            await RedisCounters(text).get("k")

    def test_making_one_does_not_load_the_sdk(self):
        program = (
            "import sys; from shared.adapters.redis_counters import RedisCounters; RedisCounters('redis://x');"
            "sys.exit(any(name.split('.')[0] == 'redis' for name in sys.modules))"
        )
        assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2]).returncode == 0
