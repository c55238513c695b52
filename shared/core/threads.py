"""Blocking work in threads that nobody leaves behind."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


async def in_thread[T](work: Callable[[], T]) -> T:
    """As asyncio.to_thread; whoever is cancelled waits for its end: what undoes the work must come after it."""
    return await to_its_end(asyncio.to_thread(work))


async def to_its_end[T](work: Awaitable[T]) -> T:
    """Its result. A cancelled caller waits until it has ended, and is cancelled then."""
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await future
        raise
