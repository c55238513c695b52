"""A model that says what a test wrote down, over the real Messages API wire format."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

type Json = dict[str, Any]


def say(text: str) -> Json:
    return {"type": "text", "text": text}


def use(name: str, **tool_input: Any) -> Json:
    return {"type": "tool_use", "name": name, "input": tool_input}


def finish(summary: str = "Did it.", outcome: str = "done") -> Json:
    return use("finish", outcome=outcome, summary=summary)


@dataclass
class Turn:
    """One answer: content blocks, or an HTTP error, or a stream that breaks off."""

    blocks: list[Json]
    stop_reason: str | None = None
    status: int = 200
    error: str = ""
    breaks: bool = False
    output_tokens: int = 10


def turn(*blocks: Json, **options: Any) -> Turn:
    return Turn(list(blocks), **options)


def refused(status: int, error: str) -> Turn:
    return Turn([], status=status, error=error)


@dataclass
class ScriptedModel:
    """Answers each request with the next turn; keeps what it was asked."""

    turns: list[Turn] = field(default_factory=list)
    requests: list[Json] = field(default_factory=list)

    async def endpoint(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        if not self.turns:
            return JSONResponse(_error("invalid_request_error", "the script is over"), 400)
        answer = self.turns.pop(0)
        if answer.status != 200:
            return JSONResponse(_error("api_error", answer.error), answer.status, {"retry-after-ms": "10"})
        return StreamingResponse(self._stream(answer, body["model"]), media_type="text/event-stream")

    async def _stream(self, answer: Turn, model: str) -> AsyncIterator[bytes]:
        number = len(self.requests)
        usage = {
            "input_tokens": 100,
            "output_tokens": 1,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        }
        message = {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        yield _event("message_start", message=message)
        for index, block in enumerate(answer.blocks):
            for chunk in _block(index, block, f"toolu_{number}_{index}"):
                yield chunk
            if answer.breaks:
                raise ConnectionResetError("the script breaks the stream here")
        tools = any(block["type"] == "tool_use" for block in answer.blocks)
        delta = {"stop_reason": answer.stop_reason or ("tool_use" if tools else "end_turn"), "stop_sequence": None}
        yield _event("message_delta", delta=delta, usage={"output_tokens": answer.output_tokens})
        yield _event("message_stop")


def _block(index: int, block: Json, call_id: str) -> list[bytes]:
    if block["type"] == "text":
        start, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
    else:
        start = {"type": "tool_use", "id": call_id, "name": block["name"], "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    return [
        _event("content_block_start", index=index, content_block=start),
        _event("content_block_delta", index=index, delta=delta),
        _event("content_block_stop", index=index),
    ]


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def _error(kind: str, message: str) -> Json:
    return {"type": "error", "error": {"type": kind, "message": message}}
