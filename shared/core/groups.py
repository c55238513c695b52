"""Work that waits for the same key is done together: one wait for a disk or a service serves it all."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

_LARGEST = 128


class Groups[Work, Result]:
    """`run(key, works)` answers each work in order, with its result or the error its submitter shall see.

    Groups of a key run one after another; submitters are answered in the order they came.
    """

    def __init__(
        self, run: Callable[[str, list[Work]], Awaitable[Sequence[Result | Exception]]], linger: float = 0
    ) -> None:
        """`linger`: seconds that a group waits for more to come."""
        self._run, self._linger = run, linger
        self._waiting: dict[str, list[tuple[Work, asyncio.Future[Result]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def post(self, key: str, work: Work) -> asyncio.Future[Result]:
        """Cancelling the future does not take the work back."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        if key in self._waiting:
            self._waiting[key].append((work, future))
        else:
            self._waiting[key] = [(work, future)]
            task = asyncio.create_task(self._serve(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return future

    async def idle(self) -> None:
        """Waits for what has been submitted."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, key: str) -> None:
        while waiting := self._waiting[key]:
            if self._linger:
                await asyncio.sleep(self._linger)
                waiting = self._waiting[key]
            group, self._waiting[key] = waiting[:_LARGEST], waiting[_LARGEST:]
            try:
                results = await self._run(key, [work for work, _ in group])
            except BaseException as error:
                for _, future in group:
                    _fail(future, error)
                if not isinstance(error, Exception):
                    self._abandon(key, error)
                    raise
                continue
            for (_, future), result in zip(group, results, strict=True):
                if isinstance(result, Exception):
                    _fail(future, result)
                elif not future.done():
                    future.set_result(result)
        del self._waiting[key]

    def _abandon(self, key: str, error: BaseException) -> None:
        for _, future in self._waiting.pop(key):
            _fail(future, error)


def _fail[T](future: asyncio.Future[T], error: BaseException) -> None:
    if future.done():
        return
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
    else:
        future.set_exception(error)
