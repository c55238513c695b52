"""Work that waits for the same key is done together: one wait for a disk or a service serves it all."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from shared.core.errors import PlatformError
from shared.core.log import Log

log = Log(__name__)

_LARGEST = 128


class Groups[Work, Result]:
    """`run(key, works)` answers each work in order, with its result or the error its submitter shall see.

    Groups of a key run one after another; submitters are answered in the order they came.
    """

    def __init__(
        self,
        run: Callable[[str, list[Work]], Awaitable[Sequence[Result | Exception]]],
        linger: float = 0,
        most: int = _LARGEST,
    ) -> None:
        """`linger`: seconds that a group of less than `most` waits for more to come."""
        self._run, self._linger, self._most = run, linger, most
        self._waiting: dict[str, list[tuple[Work, asyncio.Future[Result] | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def post(self, key: str, work: Work) -> asyncio.Future[Result]:
        """Cancelling the future does not take the work back."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._add(key, work, future)
        return future

    def tell(self, key: str, work: Work) -> None:
        """For work that nobody waits for: what comes of it is `run`'s business."""
        self._add(key, work, None)

    async def idle(self) -> None:
        """Waits for what has been submitted."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _add(self, key: str, work: Work, future: asyncio.Future[Result] | None) -> None:
        if key in self._waiting:
            self._waiting[key].append((work, future))
        else:
            self._waiting[key] = [(work, future)]
            task = asyncio.create_task(self._serve(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, key: str) -> None:
        while waiting := self._waiting[key]:
            if self._linger and len(waiting) < self._most:
                await asyncio.sleep(self._linger)
                waiting = self._waiting[key]
            group, self._waiting[key] = waiting[: self._most], waiting[self._most :]
            try:
                results = await self._run(key, [work for work, _ in group])
            except BaseException as error:
                futures = [future for _, future in group]
                for future in futures:
                    _fail(future, error)
                if None in futures and not isinstance(error, PlatformError | asyncio.CancelledError):
                    log.exception("groups.unexpected_error", error=type(error).__name__)  # nobody else hears of it
                if not isinstance(error, Exception):
                    self._abandon(key, error)
                    raise
                continue
            for (_, future), result in zip(group, results, strict=True):
                if isinstance(result, Exception):
                    _fail(future, result)
                elif future and not future.done():
                    future.set_result(result)
        del self._waiting[key]

    def _abandon(self, key: str, error: BaseException) -> None:
        for _, future in self._waiting.pop(key):
            _fail(future, error)


def _fail[T](future: asyncio.Future[T] | None, error: BaseException) -> None:
    if future is None or future.done():
        return
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
    else:
        future.set_exception(error)
