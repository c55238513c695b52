"""What llama.cpp's server (build 11434) answered, to the byte, between the gateway and real clients.

The server itself is in no package that runs on every machine; docs/models.md says how it was tried.
"""

from collections.abc import AsyncGenerator
from typing import Any

import anthropic
import orjson
import pytest

from tests.contracts.gateway_stage import Stage, staged
from tests.fakes.upstream import Script

ASKED: Any = {"model": "local", "max_tokens": 50, "messages": [{"role": "user", "content": "uv"}]}
WEATHER: Any = {
    "name": "weather",
    "description": "The weather",
    "input_schema": {"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"]},
}
TOOL_CALL = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"chatcmpl-Foxz9fvgi9B7rrqvkdc8exM1tHbxmBuH",'
    b'"type":"message","role":"assistant","content":[],"model":"alphabet","stop_reason":null,"stop_sequence":null,'
    b'"usage":{"cache_read_input_tokens":639,"input_tokens":1,"output_tokens":0}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
    b'{"type":"tool_use","id":"on0PqHEeWvLAJ4fHvc8Oz9tJ6xnBwxIn","name":"weather"}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
    b'{"type":"input_json_delta","partial_json":"{"}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
    b'{"type":"input_json_delta","partial_json":"\\"n\\": true}"}}\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},'
    b'"usage":{"output_tokens":4}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
WHOLE = (
    b'{"id":"chatcmpl-SL8m8JNYcwSDf073q0NgJWVURFKSa6VJ","type":"message","role":"assistant",'
    b'"content":[{"type":"text","text":"wxyz"}],"model":"alphabet","stop_reason":"end_turn","stop_sequence":null,'
    b'"usage":{"cache_read_input_tokens":2,"input_tokens":1,"output_tokens":5}}'
)
TOO_LONG = (
    b'{"error":{"code":400,"message":"request (2001 tokens) exceeds the available context size (256 tokens), '
    b'try increasing it","type":"exceed_context_size_error","n_prompt_tokens":2001,"n_ctx":256}}'
)
JSON = ("content-type", "application/json; charset=utf-8")
CONNECTION = [("server", "llama.cpp"), ("access-control-allow-origin", ""), ("keep-alive", "timeout=5, max=100")]


@pytest.fixture
async def stage() -> AsyncGenerator[Stage]:
    async with staged({"llama": {}}, [{"provider": "llama", "model": "alphabet"}], model="local") as stage:
        yield stage


async def figures(stage: Stage) -> tuple[int | None, ...]:
    await stage.world.gateway.close()
    (sent,) = stage.world.usage()
    names = ("status", "input_tokens", "cache_read_tokens", "output_tokens", "cost_micro_usd")
    return tuple(sent[name] for name in names)


class TestAnswers:
    async def test_a_streamed_tool_call_is_put_together_and_counted(self, stage: Stage):
        stage.services["llama"].script = Script(200, [("content-type", "text/event-stream"), *CONNECTION], [TOOL_CALL])
        async with stage.sdk() as client, client.messages.stream(**ASKED, tools=[WEATHER]) as stream:
            final = await stream.get_final_message()
        (block,) = final.content
        assert block.type == "tool_use"
        assert (block.name, block.input, final.stop_reason) == ("weather", {"n": True}, "tool_use")
        assert await figures(stage) == (200, 1, 639, 4, None)

    async def test_a_stream_passes_to_the_byte(self, stage: Stage):
        stage.services["llama"].script = Script(200, [("content-type", "text/event-stream"), *CONNECTION], [TOOL_CALL])
        async with stage.http() as http:
            answer = await http.post("/messages", json=ASKED | {"stream": True})
        assert answer.content == TOOL_CALL
        assert "request-id" in answer.headers
        assert not {"keep-alive", "access-control-allow-origin"} & answer.headers.keys()

    async def test_a_whole_message_is_counted(self, stage: Stage):
        stage.services["llama"].script = Script(200, [JSON, *CONNECTION], [WHOLE])
        async with stage.sdk() as client:
            answer = await client.messages.create(**ASKED)
        assert (answer.content[0].text, answer.model) == ("wxyz", "alphabet")  # type: ignore[union-attr]
        assert await figures(stage) == (200, 1, 2, 5, None)

    async def test_a_prompt_beyond_the_context_is_told_in_the_servers_words(self, stage: Stage):
        stage.services["llama"].script = Script(400, [JSON, *CONNECTION], [TOO_LONG])
        async with stage.sdk() as client:
            with pytest.raises(anthropic.BadRequestError, match="exceeds the available context size") as raised:
                await client.messages.create(**ASKED)
        assert raised.value.response.content == TOO_LONG
        assert orjson.loads(stage.services["llama"].received[0].body)["model"] == "alphabet"
        assert await figures(stage) == (400, 0, 0, 0, 0)
