from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.errors import BadRequest
from shared.llm.body import Asked, asked, with_model

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("model"), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.text() | st.just("messages"), VALUES, max_size=5).map(lambda body: {"model": "fast"} | body)


class TestWithModel:
    def test_every_other_byte_stays(self):
        body = '{ "a":1.50 , "model" : "fäst" ,\n"b":{"model":"fast"},"n":12345678901234567890, "x":"\\u00e9é"}\n'
        assert with_model(body.encode(), "m-1").decode() == body.replace('"fäst"', '"m-1"')

    @given(body=BODIES, pretty=st.booleans(), model=st.text(min_size=1))
    def test_only_the_model_is_another(self, body: dict[str, Any], pretty: bool, model: str):
        text = orjson.dumps(body, option=orjson.OPT_INDENT_2 if pretty else 0)
        assert orjson.loads(with_model(text, model)) == body | {"model": model}


class TestAsked:
    def test_what_the_gateway_reads(self):
        assert asked(b'{"model": "m", "stream": true, "max_tokens": 5}') == Asked("m", True, 5)
        assert asked(b'{"model": "m", "stream": "yes", "max_tokens": "x"}') == Asked("m", False, 10_000_000)

    @pytest.mark.parametrize(("given", "most"), [("0", 0), ("64.0", 64), ("1e3", 1000)])
    def test_a_number_may_be_written_in_any_way(self, given: str, most: int):
        assert asked(b'{"model": "m", "max_tokens": %b}' % given.encode()).max_tokens == most

    @pytest.mark.parametrize("given", ["-1", "null", "true", '"9"'])
    def test_what_is_no_limit_is_held_as_all_that_can_be_counted(self, given: str):
        assert asked(b'{"model": "m", "max_tokens": %b}' % given.encode()).max_tokens == 10_000_000

    def test_without_a_limit_as_many_are_held_as_a_service_gives_by_itself(self):
        assert asked(b'{"model": "m"}').max_tokens == 4096

    @pytest.mark.parametrize("digits", ["10000001", "1" + "0" * 18, "2" + "0" * 18, "1" + "0" * 300])
    def test_no_more_output_is_held_than_can_be_counted(self, digits: str):
        assert asked(b'{"model": "m", "max_tokens": %b}' % digits.encode()).max_tokens == 10_000_000

    def test_what_makes_it_dearer(self):
        assert asked(b'{"model": "m", "speed": "fast", "inference_geo": "us"}') == Asked("m", fast=True, us_only=True)
        assert asked(b'{"model": "m", "speed": "standard", "inference_geo": "global"}') == Asked("m")

    @pytest.mark.parametrize(
        ("tools", "searches"),
        [
            ([{"type": "web_search_20250305", "max_uses": 3}, {"name": "web_search"}, {"type": "custom"}], 3),
            ([{"type": "web_search_20260209"}], 10),
            ([{"type": "web_search_20260209", "max_uses": None}], 10),
            ([{"type": "web_search_20260209", "max_uses": 10**15}] * 2, 1000),
            ([{"type": ["web_search"]}, "web_search", None], 0),
            ({"type": "web_search_20260209"}, 0),
        ],
    )
    def test_how_often_it_may_search_the_web(self, tools: Any, searches: int):
        assert asked(orjson.dumps({"model": "m", "tools": tools})) == Asked("m", web_searches=searches)

    @pytest.mark.parametrize(
        ("field", "prompt"),
        [
            (b'"system": "cache_control 1h"', "input"),
            (b'"system": [{"cache_control": {"type": "ephemeral"}}]', "cache_write_5m"),
            (b'"cache_control": {"type": "ephemeral", "ttl": "1h"}', "cache_write_1h"),
            (b'"\\u0063ache_control": {"type": "ephemeral"}', "cache_write_1h"),
            (b'"Cache_Control": {"TTL": "1H"}', "cache_write_1h"),
            (b'"x": [{"caching": {"type": "ephemeral", "ttl": "5m"}}]', "cache_write_5m"),
            (b'"cache_control": {"type": "ephemeral", "ttl": "\\u0031h"}', "cache_write_1h"),
            (b'"system": "\\u001b[1m \\u00e9 \\u003cb\\u003e"', "input"),
        ],
    )
    def test_what_its_prompt_may_be_priced_as(self, field: bytes, prompt: str):
        assert asked(b'{"model": "m", %b}' % field).prompt == prompt

    @pytest.mark.parametrize(
        "body",
        [
            b'{"model": "dear", "model": "cheap"}',
            b'{"mod\\u0065l": "dear", "model": "cheap"}',
            b'{"model": "cheap", "MODEL": "dear"}',
            b'{"model": "m", "max_tokens": 1, "Max_Tokens": 9}',
            '{"model": "m", "\u017ftream": true}'.encode(),
            b'{"model": "m", "stream": false, "x": {"stream": true}, "stream": true}',
            b'{"model": "m", "speed": "fast", "speed": "standard"}',
            b'{"model": "m", "tools": [{"model": "dear"}], "tools": []}',
        ],
    )
    def test_what_services_may_read_in_two_ways_is_refused(self, body: bytes):
        with pytest.raises(BadRequest):
            asked(body)

    def test_names_within_may_come_again(self):
        body = b'{"model": "m", "tools": [{"model": 1, "MODEL": 2, "stream": 3}, {"stream": 4}]}'
        assert asked(body) == Asked("m")

    def test_models_that_may_be_asked_by_the_way(self):
        tools = [{"type": "advisor_20260301", "name": "advisor", "model": "dear"}, {"name": "mine"}, "odd"]
        body = orjson.dumps({"model": "m", "tools": tools, "fallbacks": [{"model": "other"}, "odd", 4, {}]})
        assert asked(body).beside == ("dear", "other")

    def test_a_model_of_a_longer_name_than_any_is_refused(self):
        assert asked(orjson.dumps({"model": "m" * 200})).model == "m" * 200
        with pytest.raises(BadRequest, match="200"):
            asked(orjson.dumps({"model": "m" * 201}))

    def test_so_are_more_fields_than_any_has(self):
        fields = {"model": "m"} | {f"field{place}": 1 for place in range(999)}
        assert asked(orjson.dumps(fields)) == Asked("m")
        assert orjson.loads(with_model(orjson.dumps(fields), "n"))["model"] == "n"
        with pytest.raises(BadRequest, match="1000"):
            asked(orjson.dumps(fields | {"one": "more"}))
        with pytest.raises(BadRequest, match="1000"):
            asked(b'{"model": "m", "\\u0061": 1' + b', "a": 1' * 1000 + b"}")

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"model": 3}', b'{"model": ""}', b"\xff"])
    def test_a_body_without_a_model_is_refused(self, body: bytes):
        with pytest.raises(BadRequest):
            asked(body)
