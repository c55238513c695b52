import itertools

from hypothesis import given
from hypothesis import strategies as st

from shared.llm.sse import Events, Splitter


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


class TestSplitter:
    @given(
        text=st.lists(st.sampled_from([b"data: 1", b"data:2", b"event: x", b"\n", b"\r\n", b"\r"])).map(b"".join),
        sizes=st.lists(st.integers(1, 9), min_size=1),
    )
    def test_data_does_not_depend_on_how_a_stream_is_cut(self, text: bytes, sizes: list[int]):
        cut, got, at = Splitter(), list[bytes](), 0
        for size in itertools.cycle(sizes):
            if at >= len(text):
                break
            got += cut.feed(text[at : at + size])
            at += size
        whole = Splitter()
        assert got == whole.feed(text)
        assert cut.between == whole.between
