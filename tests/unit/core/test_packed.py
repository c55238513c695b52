"""JSON that is kept takes the memory it needs."""

import tracemalloc

import orjson

from shared.core.packed import packed


class TestPacked:
    def test_is_the_same_json(self):
        value = {"text": "é\n", "list": [1, None, True]}
        assert packed(value) == orjson.dumps(value)

    def test_short_json_takes_little_memory(self):
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            kept = [packed({"place": place}) for place in range(1000)]
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (after - before) / len(kept) < 200
