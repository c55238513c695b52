"""The realtime emulator's bell: messages it carries are sent only where none is missing before them."""

import asyncio

import pytest

from local.pubsub.doorbell import Bell, Message


class TestBell:
    @pytest.mark.parametrize(
        ("rung", "taken"),
        [
            ([(4, "a"), (5, "b")], [(4, "a"), (5, "b")]),
            ([(5, "b")], []),
            ([(4, "a"), (6, "c")], []),
            ([(3, "sent"), (4, "a")], []),
            ([None, (4, "a")], []),
            ([None], []),
            ([], []),
        ],
        ids=["follow", "one is missing", "one between", "one was sent", "closed before", "closed", "quiet"],
    )
    def test_what_it_carries_must_follow_on_what_was_sent(self, rung: list[Message | None], taken: list[Message]):
        bell = Bell()
        for message in rung:
            bell.ring(message)
        assert bell.take(after=3) == taken

    def test_more_than_it_can_carry_shows_as_a_gap(self):
        bell = Bell()
        for sequence in range(1, 2_000):
            bell.ring((sequence, "x"))
        carried = bell.take(after=0)
        bell.ring((2_000, "y"))
        assert carried[0] == (1, "x")
        assert bell.take(after=carried[-1][0]) == []

    async def test_it_is_heard_at_once_and_brings_what_follows(self) -> None:
        bell = Bell()
        waiting = asyncio.create_task(bell.wait(60))
        await asyncio.sleep(0)
        bell.ring((8, "a"))
        bell.ring((9, "b"))
        await asyncio.wait_for(waiting, 1)
        await asyncio.wait_for(bell.wait(60), 1)  # rung already
        assert bell.take(7) == [(8, "a"), (9, "b")]
        bell.close()

    async def test_a_lost_ring_is_a_delay_however_lively_it_was_before(self) -> None:
        bell = Bell()
        for sequence in range(5):
            asyncio.get_running_loop().call_later(0.01, bell.ring, (sequence, ""))
            await bell.wait(0.2)
            bell.take(sequence - 1)
        started = asyncio.get_running_loop().time()
        await asyncio.wait_for(bell.wait(0.2), 5)
        assert asyncio.get_running_loop().time() - started > 0.1
        bell.take(4)
        await asyncio.wait_for(bell.wait(0.2), 5)
        bell.close()
