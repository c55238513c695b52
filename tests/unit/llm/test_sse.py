import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from shared.core.errors import Unavailable
from shared.llm.sse import PING, Boundary, with_pings


async def play(*steps: bytes | float) -> AsyncIterator[bytes]:
    for step in steps:
        if isinstance(step, bytes):
            yield step
        else:
            await asyncio.sleep(step)


async def pinged(*steps: bytes | float, interval: float | None = 0.02) -> list[bytes]:
    return [chunk async for chunk in with_pings(play(*steps), interval, Boundary())]


class TestPings:
    async def test_a_silent_stream_is_pinged_between_events(self):
        got = await pinged(b"data: 1\n\n", 0.07, b"data: 2\n\n")
        assert got[0] == b"data: 1\n\n"
        assert got[-1] == b"data: 2\n\n"
        assert 2 <= got.count(PING) <= 4

    async def test_silence_before_the_first_event_is_pinged(self):
        assert PING in await pinged(0.05, b"data: 1\n\n")

    @pytest.mark.parametrize("part", [b"data: 1\n", b"data: 1", b"data: 1\r\n", b"data: 1\r\n\r"])
    async def test_never_inside_an_event(self, part: bytes):
        assert PING not in await pinged(part, 0.06, b"\n\n")

    async def test_an_end_split_over_two_chunks_is_an_end(self):
        assert PING in await pinged(b"data: 1\n", b"\n", 0.05, b"data: 2\n\n")

    async def test_a_lively_stream_is_left_alone(self):
        steps = [b"data: 1\n\n", 0.001] * 20
        assert await pinged(*steps) == [b"data: 1\n\n"] * 20

    async def test_no_interval_means_no_pings(self):
        assert await pinged(b"a\n\n", 0.05, b"b\n\n", interval=None) == [b"a\n\n", b"b\n\n"]

    async def test_leaving_early_ends_the_source(self):
        ended = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            try:
                yield b"data: 1\n\n"
                await asyncio.sleep(60)
            finally:
                ended.set()

        async with aclosing(with_pings(endless(), 0.01, Boundary())) as chunks:
            assert [await anext(chunks), await anext(chunks)] == [b"data: 1\n\n", PING]
        assert ended.is_set()

    async def test_an_error_of_the_source_arrives(self):
        async def broken() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            raise Unavailable("gone")

        with pytest.raises(Unavailable):
            _ = [chunk async for chunk in with_pings(broken(), 1, Boundary())]
