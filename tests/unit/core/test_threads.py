import asyncio
import threading

import pytest

from shared.core.threads import in_thread


async def test_whoever_is_cancelled_waits_for_the_thread() -> None:
    entered, release, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        release.wait(5)
        ended.set()

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(entered.wait, 5)
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_results_and_errors_pass() -> None:
    assert await in_thread(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)
