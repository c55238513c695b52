"""Cuts live connections off groups at once, and again until it succeeds: a removal must not wait for a timer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from shared.core.errors import Unavailable
from shared.core.log import Log
from shared.core.ports import Realtime

log = Log(__name__)

_EVERY = 0.5
_TRIES = 240


class LiveConnections:
    def __init__(self, realtime: Realtime, every: float = _EVERY) -> None:
        self._realtime, self._every = realtime, every
        self._cutting: set[asyncio.Task[None]] = set()

    async def cut(self, user_id: str, groups: Sequence[str], gone: Callable[[], Awaitable[bool]]) -> None:
        """Never raises Unavailable: this process goes on for two minutes, while `gone()` is still so."""
        left = await self._cut(user_id, groups)
        if left:
            task = asyncio.create_task(self._go_on(user_id, left, gone))
            self._cutting.add(task)
            task.add_done_callback(self._cutting.discard)

    async def _cut(self, user_id: str, groups: Sequence[str]) -> list[str]:
        """Those that could not be cut off."""
        left: list[str] = []
        for group in groups:
            try:
                await self._realtime.remove_from_group(user_id, group)
            except Unavailable as error:
                log.warning("realtime.cut_postponed", group=group, reason=error.detail)
                left.append(group)
        return left

    async def _go_on(self, user_id: str, left: list[str], gone: Callable[[], Awaitable[bool]]) -> None:
        for _ in range(_TRIES):
            await asyncio.sleep(self._every)
            if not left or not await gone():
                return
            left = await self._cut(user_id, left)
