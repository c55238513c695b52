"""Counters in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.core.errors import Unavailable

if TYPE_CHECKING:  # the SDK takes 0.2 s to import: only when first used
    from redis.asyncio import Redis

_ADD = """
local total = redis.call('INCRBY', KEYS[1], ARGV[1])
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return total
"""


class RedisCounters:
    """Counters in the Redis at `url`; no call takes longer than a few seconds."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._redis: Redis | None = None

    async def add(self, key: str, amount: int, ttl: int) -> int:
        """ValueError: `ttl` below 1."""
        if ttl < 1:
            raise ValueError(f"a counter cannot live {ttl} seconds: at least 1")
        return int(await self._ask("EVAL", _ADD, 1, key, amount, ttl))

    async def get(self, key: str) -> int:
        return int(await self._ask("GET", key) or 0)

    async def close(self) -> None:
        if self._redis:
            await self._redis.aclose()
            self._redis = None

    async def _ask(self, *command: str | int) -> Any:
        from redis.exceptions import RedisError

        if self._redis is None:
            self._redis = _connect(self._url)
        try:
            return await self._redis.execute_command(*command)
        except (RedisError, OSError) as error:
            raise Unavailable("Redis does not answer. Try again in a moment.") from error


def _connect(url: str) -> Redis:
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    try:
        # No retry: an addition whose answer was lost would count twice.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=32,
            timeout=2,
            socket_connect_timeout=2,
            socket_timeout=2,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise Unavailable("Redis is not configured: check REDIS_URL.") from error
    return Redis.from_pool(pool)
