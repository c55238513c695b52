"""Waiting for what happens in its own time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, overload


@overload
async def until[T](look: Callable[[], Awaitable[T | None]], within: float = 30, every: float = 0.02) -> T: ...


@overload
async def until[T](look: Callable[[], T | None], within: float = 30, every: float = 0.02) -> T: ...


async def until(look: Callable[[], Any], within: float = 30, every: float = 0.02) -> Any:
    """The first truthy answer; fails when there is none in so many seconds."""
    deadline = time.monotonic() + within
    while True:
        found = look()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"{look.__qualname__} found nothing within {within} s"
        await asyncio.sleep(every)
