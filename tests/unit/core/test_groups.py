"""What waits for the same key is done together."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.core.groups import Groups


class Recorder:
    """Notes each group, and answers a work with itself doubled; what is negative is refused, zero breaks the group."""

    def __init__(self) -> None:
        self.groups: list[tuple[str, list[int]]] = []

    async def run(self, key: str, works: list[int]) -> Sequence[int | Exception]:
        self.groups.append((key, works))
        await asyncio.sleep(0.01)
        if 0 in works:
            raise OSError("broken")
        return [ValueError(work) if work < 0 else 2 * work for work in works]


async def test_what_comes_while_a_group_runs_is_the_next_group():
    recorder = Recorder()
    groups = Groups[int, int](recorder.run)
    first = groups.post("a", 1)
    await asyncio.sleep(0)
    rest = [groups.post("a", work) for work in (2, 3)]
    assert await asyncio.gather(first, *rest) == [2, 4, 6]
    assert recorder.groups == [("a", [1]), ("a", [2, 3])]


async def test_keys_do_not_wait_for_each_other():
    all_begun = asyncio.Barrier(100)

    async def run(key: str, works: list[int]) -> Sequence[int]:
        await all_begun.wait()
        return works

    groups = Groups[int, int](run)
    async with asyncio.timeout(10):
        await asyncio.gather(*(groups.post(str(place), 1) for place in range(100)))


async def test_a_group_has_at_most_128():
    recorder = Recorder()
    groups = Groups[int, int](recorder.run)
    await asyncio.gather(*(groups.post("a", 1) for _ in range(300)))
    assert [len(works) for _, works in recorder.groups] == [128, 128, 44]


async def test_one_that_is_refused_does_not_spoil_the_others():
    groups = Groups[int, int](Recorder().run)
    answers = await asyncio.gather(*(groups.post("a", work) for work in (1, -1, 2)), return_exceptions=True)
    assert [answers[0], answers[2]] == [2, 4]
    assert isinstance(answers[1], ValueError)


async def test_a_group_that_breaks_fails_its_own_and_the_next_goes_on():
    groups = Groups[int, int](Recorder().run)
    broken = groups.post("a", 0)
    await asyncio.sleep(0)
    after = groups.post("a", 1)
    with pytest.raises(OSError, match="broken"):
        await broken
    assert await after == 2


async def test_what_comes_while_a_group_lingers_is_part_of_it():
    recorder = Recorder()
    groups = Groups[int, int](recorder.run, 0.05)
    groups.tell("a", 1)
    await asyncio.sleep(0.02)
    groups.tell("a", 2)
    assert not recorder.groups
    await groups.idle()
    assert recorder.groups == [("a", [1, 2])]


async def test_as_many_as_go_together_wait_for_no_more():
    recorder = Recorder()
    groups = Groups[int, int](recorder.run, 60)
    for number in range(256):
        groups.tell("a", number)
    await asyncio.wait_for(groups.idle(), 5)
    assert [len(works) for _, works in recorder.groups] == [128, 128]


async def test_a_group_may_have_fewer():
    recorder = Recorder()
    groups = Groups[int, int](recorder.run, 60, most=3)
    for number in range(1, 7):
        groups.tell("a", number)
    await asyncio.wait_for(groups.idle(), 5)
    assert recorder.groups == [("a", [1, 2, 3]), ("a", [4, 5, 6])]


async def test_what_is_told_may_fail_without_anybody_to_hear_of_it():
    recorder = Recorder()
    groups = Groups[int, int](recorder.run, 0.01)
    groups.tell("a", -1)
    groups.tell("a", 0)
    await groups.idle()
    assert await groups.post("a", 1) == 2
    assert recorder.groups == [("a", [-1, 0]), ("a", [1])]


async def test_it_can_be_waited_for_until_all_is_done():
    recorder = Recorder()
    groups = Groups[int, int](recorder.run, 0.02)
    groups.tell("a", 1)
    await groups.idle()
    assert recorder.groups == [("a", [1])]
