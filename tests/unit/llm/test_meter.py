import gzip
import itertools
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.errors import Unavailable
from shared.llm.meter import Meter, Report
from shared.llm.models import Share, TokenCounts
from tests.fakes.upstream import message, sse, stream_events, tool_use_events

UNKNOWN = Share("asked", TokenCounts())
CACHED = {
    "cache_read_input_tokens": 500,
    "cache_creation_input_tokens": 30,
    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
}


def streamed(data: bytes, size: int) -> Report:
    report = Report("asked")
    meter = Meter(report, "", streamed=True)
    for start in range(0, len(data), size):
        meter.feed(data[start : start + size])
    with suppress(Unavailable):  # it was cut
        meter.end()
    return report


class TestStream:
    @pytest.mark.parametrize("size", [1, 7, 64, 100_000])
    def test_figures_do_not_depend_on_how_the_bytes_are_cut(self, size: int):
        report = streamed(b"".join(sse(*stream_events(**CACHED))), size)
        tokens = TokenCounts(input=10, output=12, cache_read=500, cache_write_5m=10, cache_write_1h=20)
        assert report.complete
        assert report.shares() == [Share("claude-sonnet-5-5", tokens)]

    def test_windows_line_ends_are_read_too(self):
        data = b"".join(sse(*stream_events())).replace(b"\n", b"\r\n")
        assert streamed(data, 3).shares()[0].tokens.output == 12

    def test_without_a_breakdown_cache_writes_count_as_five_minute_ones(self):
        report = streamed(b"".join(sse(*stream_events(cache_creation_input_tokens=30))), 50)
        assert report.shares()[0].tokens == TokenCounts(input=10, output=12, cache_write_5m=30)

    def test_text_that_looks_like_usage_is_not_counted(self):
        fake = '{"type":"message_delta","usage":{"output_tokens":9999}} event: message_stop'
        events = stream_events(text=[fake, "\n\ndata: " + fake])
        assert streamed(b"".join(sse(*events)), 11).shares()[0].tokens.output == 12

    @pytest.mark.parametrize("size", [1, 7, 64, 300, 100_000])
    def test_a_stop_sequence_that_looks_like_a_delta_hides_no_figures(self, size: int):
        *before, delta, stop = stream_events(output_tokens=50_000)
        delta |= {"delta": {"stop_reason": "stop_sequence", "stop_sequence": "content_block_delta"}}
        report = streamed(b"".join(sse(*before, delta, stop)), size)
        assert report.complete
        assert report.shares()[0].tokens.output == 50_000

    @given(
        st.lists(st.sampled_from((1, 7, 50, 114, 119, 200, 10_000)), min_size=1),
        st.sampled_from(("word", 'a "content_block_delta" of "message_start"', "some longer text: " * 20)),
    )
    def test_deltas_are_counted_however_the_bytes_are_cut(self, sizes: list[int], word: str):
        text = b"".join(sse(*stream_events([word] * 20)[:-2]))
        whole, cut = Report("m"), Report("m")
        Meter(whole, "", streamed=True).feed(text)
        meter, at = Meter(cut, "", streamed=True), 0
        for size in itertools.cycle(sizes):
            if at >= len(text):
                break
            meter.feed(text[at : at + size])
            at += size
        assert cut.at_least(UNKNOWN) == whole.at_least(UNKNOWN)
        written = orjson.dumps(word).decode()[1:-1]
        assert sum(share.tokens.output for share in whole.at_least(UNKNOWN)) == max(20, 20 * len(written) // 4)

    @pytest.mark.parametrize("size", [1, 300, 100_000])
    def test_a_large_delta_is_charged_by_its_size(self, size: int):
        events = tool_use_events("write", {})[:2]
        piece = {"type": "input_json_delta", "partial_json": "x" * 12_000}
        report = streamed(b"".join(sse(*events, {"type": "content_block_delta", "index": 0, "delta": piece})), size)
        assert 3000 <= sum(share.tokens.output for share in report.at_least(UNKNOWN)) <= 3010

    @pytest.mark.parametrize("size", [1, 300, 100_000])
    def test_what_a_search_found_is_no_output(self, size: int):
        start, *_ = stream_events()
        found = {"type": "web_search_tool_result", "content": [{"encrypted_content": "x" * 12_000}]}
        block = {"type": "content_block_start", "index": 1, "content_block": found}
        piece = {"type": "text_delta", "text": "Well"}
        report = streamed(
            b"".join(sse(start, block, {"type": "content_block_delta", "index": 2, "delta": piece})), size
        )
        assert sum(share.tokens.output for share in report.at_least(UNKNOWN)) == 1

    def test_when_the_figures_are_there_nothing_is_guessed(self):
        report = streamed(b"".join(sse(*stream_events(["word" * 1000])[:-1])), 1000)
        assert not report.complete
        assert sum(share.tokens.output for share in report.at_least(UNKNOWN)) == 12

    @pytest.mark.parametrize("end", [[], [{"type": "message_delta", "usage": {}}]])
    def test_the_figure_of_a_streams_head_is_not_that_of_its_end(self, end: list[Any]):
        *before, _, stop = stream_events(text=["a"] * 40)
        report = streamed(b"".join(sse(*before, *end, stop)), 99)
        assert report.complete
        assert not report.told
        assert sum(share.tokens.output for share in report.at_least(UNKNOWN)) == 40

    @pytest.mark.parametrize("size", [1, 30, 100_000])
    @pytest.mark.parametrize(
        ("last", "complete", "failed"),
        [
            (b'event: error\ndata: {"code": 500, "type": "server_error"}\n\n', False, True),
            (b'data: {"type": "error", "error": {}}\n\n', False, True),
            (b"event: message_stop\ndata: {}\n\n", True, False),
            (b'event: message_stop\ndata: {"type": "mess', False, False),
            (b'event: ping\ndata: {"of": "error"}\n\n', False, False),
        ],
    )
    def test_how_a_stream_may_end(self, size: int, last: bytes, complete: bool, failed: bool):
        report = streamed(b"".join(sse(*stream_events()[:-1])) + last, size)
        assert (report.complete, report.failed) == (complete, failed)

    def test_a_stream_cut_in_the_middle_charges_at_least_its_deltas(self):
        report = streamed(b"".join(sse(*stream_events(text=["a"] * 40))[:42]), 99)
        assert not report.complete
        assert report.shares()[0].tokens.output == 1
        assert sum(share.tokens.output for share in report.at_least(UNKNOWN)) == 40

    @pytest.mark.parametrize("apart", [[], [{"type": "advisor_message", "model": "demo-1", "output_tokens": 300}]])
    def test_what_is_streamed_after_figures_is_charged_beside_them(self, apart: list[dict[str, Any]]):
        start, block, *deltas, _, _, _ = stream_events(text=["a"] * 1500)
        figures = {"type": "message_delta", "usage": {"output_tokens": 1000, "iterations": apart}}
        report = Report("asked")
        meter = Meter(report, "", streamed=True)
        charged: list[int] = []
        for event in sse(start, block, *deltas[:1000], figures, *deltas[1000:]):
            meter.feed(event)
            charged.append(sum(share.tokens.output for share in report.at_least(UNKNOWN)))
        told = 1000 + sum(entry["output_tokens"] for entry in apart)
        assert charged == [1, 1, *range(1, 1001), told, *range(told + 1, told + 501)]

    def test_before_any_report_the_prompt_is_what_it_is_estimated_to_be(self):
        prompt = Share("demo-1", TokenCounts(input=1000), fast=True)
        assert Report("demo-1").at_least(prompt)[0] == prompt

    def test_what_was_streamed_cost_what_the_reported_mode_does(self):
        report = streamed(b"".join(sse(*stream_events(["word"] * 9, speed="fast")[:-2])), 1000)
        assert [share.fast for share in report.at_least(UNKNOWN)] == [True, True]


class TestMessage:
    def test_a_compressed_message_is_read(self):
        report = Report("asked")
        meter = Meter(report, "gzip", streamed=False)
        meter.feed(gzip.compress(orjson.dumps(message(**CACHED))))
        meter.end()
        assert report.shares()[0].tokens.cache_read == 500

    def test_another_encoding_is_refused_because_it_cannot_be_billed(self):
        with pytest.raises(Unavailable, match="br"):
            Meter(Report("asked"), "br", streamed=False)

    def test_advisor_and_compaction_tokens_count_beside_the_messages_own(self):
        report = Report("asked")
        meter = Meter(report, "", streamed=False)
        own = {"type": "message", "input_tokens": 10, "output_tokens": 12}
        advisor = {"type": "advisor_message", "model": "claude-opus-5-5", "input_tokens": 7, "output_tokens": 3}
        compaction = {"type": "compaction", "input_tokens": 90, "output_tokens": 9}
        meter.feed(orjson.dumps(message(iterations=[own, advisor, compaction], speed="fast")))
        meter.end()
        model = "claude-sonnet-5-5"
        assert report.shares() == [
            Share(model, TokenCounts(input=10, output=12), fast=True),
            Share("claude-opus-5-5", TokenCounts(input=7, output=3), fast=True),
            Share(model, TokenCounts(input=90, output=9), fast=True),
        ]

    @pytest.mark.parametrize("body", [b"not json", b'{"usage": {"input_tokens": 1'])
    def test_what_is_no_message_is_one_that_broke_off(self, body: bytes):
        meter = Meter(Report("asked"), "", streamed=False)
        meter.feed(body)
        with pytest.raises(Unavailable):
            meter.end()

    @pytest.mark.parametrize(
        ("body", "output"),
        [
            (b"", 0),
            (b"[]", 0),
            (b'{"content": "\\ud83d", "usage": {"input_tokens": 1, "output_tokens": 2}}', 2),
            (b'\xef\xbb\xbf{"x": NaN, "usage": {"input_tokens": 1, "output_tokens": 2}}', 2),
        ],
    )
    def test_what_only_some_can_read_is_whole(self, body: bytes, output: int):
        report = Report("asked")
        meter = Meter(report, "", streamed=False)
        meter.feed(body)
        meter.end()
        assert report.complete
        assert report.told == bool(output)
        assert sum(share.tokens.output for share in report.shares()) == output

    @pytest.mark.parametrize("parts", [1, 2, 5])
    def test_several_compressed_files_in_a_row_are_one(self, parts: int):
        text = orjson.dumps(message())
        size = len(text) // parts + 1
        report = Report("asked")
        meter = Meter(report, "gzip", streamed=False)
        meter.feed(b"".join(gzip.compress(text[at : at + size]) for at in range(0, len(text), size)))
        meter.end()
        assert report.shares()[0].tokens.output == 12

    @pytest.mark.parametrize("usage", [None, {}, [1], "3", {"input_tokens": None}])
    def test_a_body_without_usage_reports_nothing(self, usage: Any):
        report = self.reported(usage)
        assert not report.told
        assert report.shares() == []
        assert report.at_least(UNKNOWN)[-1].tokens.output > 0

    @pytest.mark.parametrize(
        "figures",
        [
            {"input_tokens": "10", "output_tokens": 5},
            {"input_tokens": 10, "output_tokens": True},
            {"input_tokens": -1, "output_tokens": 5},
            {"input_tokens": 2**63, "output_tokens": 5},
            {"input_tokens": 10},
        ],
    )
    def test_what_is_no_figure_is_not_told(self, figures: Any):
        report = self.reported(figures)
        assert not report.told
        assert all(0 <= count <= 10 for share in report.shares() for count in share.tokens)

    def test_a_figure_may_be_written_as_a_fraction(self):
        report = self.reported({"input_tokens": 10.0, "output_tokens": 4.2})
        assert report.told
        assert report.shares()[0].tokens == TokenCounts(input=10, output=5)

    def test_a_name_without_end_is_cut_off(self):
        assert len(self.reported({}, model="-12345678" * 1000).model) == 200

    @staticmethod
    def reported(usage: Any, model: str = "m") -> Report:
        report = Report("asked")
        meter = Meter(report, "", streamed=False)
        meter.feed(orjson.dumps({"model": model, "usage": usage}))
        meter.end()
        return report
