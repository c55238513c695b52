import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.errors import Unavailable
from shared.llm.sse import PING, Events, with_pings


async def play(*steps: bytes | float) -> AsyncIterator[bytes]:
    for step in steps:
        if isinstance(step, bytes):
            yield step
        else:
            await asyncio.sleep(step)


async def pinged(*steps: bytes | float, interval: float = 0.02) -> list[bytes]:
    return [chunk async for chunk in with_pings(play(*steps), interval)]


PIECES = st.sampled_from([b"data: 1", b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n"])


class TestEvents:
    @given(
        text=st.lists(st.sampled_from([b"data: 1", b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n"])).map(b"".join),
        data=st.data(),
    )
    def test_no_byte_is_lost_however_a_stream_is_cut(self, text: bytes, data: st.DataObject):
        events, got, at = Events(), b"", 0
        while at < len(text):
            size = data.draw(st.integers(1, len(text) - at))
            whole = events.feed(text[at : at + size])
            got, at = got + whole, at + size
            assert not whole or whole.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))
        assert got + events.rest() == text

    def test_what_is_whole_goes_at_once(self):
        events = Events()
        assert events.feed(b"data: 1\n\ndata: 2\n") == b"data: 1\n\n"
        assert events.feed(b"\n") == b"data: 2\n\n"
        assert events.rest() == b""


class TestPings:
    async def test_a_silent_stream_is_pinged_between_events(self):
        got = await pinged(b"data: 1\n\n", 0.07, b"data: 2\n\n")
        assert (got[0], got[-1]) == (b"data: 1\n\n", b"data: 2\n\n")
        assert 1 <= got.count(PING) <= 4

    async def test_silence_before_the_first_event_is_pinged(self):
        assert PING in await pinged(0.05, b"data: 1\n\n")

    @pytest.mark.parametrize("part", [b"data: 1\n", b"data: 1", b"data: 1\r\n", b"data: 1\r\n\r"])
    async def test_never_inside_an_event(self, part: bytes):
        got = await pinged(part, 0.06, b"\n\n")
        assert PING in got
        assert [chunk for chunk in got if chunk is not PING] == [part + b"\n\n"]

    async def test_a_lively_stream_is_left_alone(self):
        steps = [b"data: 1\n\n", 0.001] * 20
        assert await pinged(*steps, interval=5) == [b"data: 1\n\n"] * 20

    async def test_a_stream_without_a_last_end_passes_whole(self):
        assert b"".join(await pinged(b"data: 1\n\ndata: 2\n")) == b"data: 1\n\ndata: 2\n"

    async def test_leaving_early_ends_the_source(self):
        ended = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            try:
                yield b"data: 1\n\n"
                await asyncio.sleep(60)
            finally:
                ended.set()

        async with aclosing(with_pings(endless(), 0.01)) as chunks:
            assert [await anext(chunks), await anext(chunks)] == [b"data: 1\n\n", PING]
        assert ended.is_set()

    async def test_a_client_that_does_not_read_holds_the_source_back(self):
        made: list[int] = []

        async def endless() -> AsyncIterator[bytes]:
            while True:
                made.append(1)
                yield b"data: 1\n\n"

        async with aclosing(with_pings(endless(), 1)) as chunks:
            await anext(chunks)
            await asyncio.sleep(0.02)
            assert len(made) < 50

    @pytest.mark.parametrize("error", [Unavailable("gone"), ZeroDivisionError()])
    async def test_an_error_of_the_source_comes_after_the_last_whole_event(self, error: Exception):
        async def broken() -> AsyncIterator[bytes]:
            yield b"data: 1\n\ndata: 2"
            raise error

        async with aclosing(with_pings(broken(), 1)) as chunks:
            assert await anext(chunks) == b"data: 1\n\n"
            with pytest.raises(type(error)):
                await anext(chunks)
