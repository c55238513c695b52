"""Builds the answer: a message, whole or as server-sent events, cut where the request says it must be."""

import asyncio
import secrets
import string
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from local.model.messages import Json, MessageRequest
from local.model.usage import InputUsage, compact, tokens
from local.model.worker import Turn

_PIECES_AT_MOST = 120
_TEXT_PIECE = 8
_JSON_PIECE = 24


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished turn of the model."""

    id: str
    model: str
    content: list[Json]
    stop_reason: str
    stop_sequence: str | None
    usage: InputUsage
    output_tokens: int

    def message(self) -> Json:
        return self._start() | {
            "content": self.content,
            "stop_reason": self.stop_reason,
            "stop_sequence": self.stop_sequence,
            "usage": self.usage.full(self.output_tokens),
        }

    def events(self) -> Iterator[Json]:
        """The stream's events in order, with the ping the real API sends after the first block has begun."""
        yield {"type": "message_start", "message": self._start()}
        for index, block in enumerate(self.content):
            empty = block | ({"input": {}} if block["type"] == "tool_use" else {"text": ""})
            yield {"type": "content_block_start", "index": index, "content_block": empty}
            if index == 0:
                yield {"type": "ping"}
            for delta in _deltas(block):
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        ended = {"stop_reason": self.stop_reason, "stop_sequence": self.stop_sequence}
        usage = self.usage.flat() | {"output_tokens": self.output_tokens}
        yield {"type": "message_delta", "delta": ended, "usage": usage}
        yield {"type": "message_stop"}

    async def stream(self, delay: float) -> AsyncIterator[bytes]:
        """Server-sent events, with `delay` seconds before each piece of content."""
        for event in self.events():
            if delay and event["type"] == "content_block_delta":
                await asyncio.sleep(delay)
            yield f"event: {event['type']}\ndata: {compact(event)}\n\n".encode()

    def _start(self) -> Json:
        """The message as it is before its first block."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self.usage.full(1),
        }


def build(request: MessageRequest, turn: Turn, usage: InputUsage) -> Reply:
    """A tool use that does not fit into `max_tokens`, or stands behind a stop sequence, is left out."""
    text, stop_reason, stop_sequence = _cut(turn.text, request)
    content: list[Json] = [{"type": "text", "text": text}] if text else []
    spent = tokens(text)
    if stop_reason == "end_turn" and turn.call:
        cost = tokens(turn.call.name) + tokens(compact(turn.call.input))
        if spent + cost > request.max_tokens:
            stop_reason = "max_tokens"
        else:
            spent += cost
            stop_reason = "tool_use"
            identifier = _identifier("toolu_01")
            content.append({"type": "tool_use", "id": identifier, "name": turn.call.name, "input": turn.call.input})
    return Reply(_identifier("msg_01"), request.model, content, stop_reason, stop_sequence, usage, spent)


def _cut(text: str, request: MessageRequest) -> tuple[str, str, str | None]:
    stops = [(text.find(stop), stop) for stop in request.stop_sequences if stop and stop in text]
    at, sequence = min(stops, default=(len(text), None))
    reason = "end_turn" if sequence is None else "stop_sequence"
    text = text[:at]
    if tokens(text) <= request.max_tokens:
        return text, reason, sequence
    return text.encode()[: request.max_tokens * 4].decode(errors="ignore"), "max_tokens", None


def _deltas(block: Json) -> Iterator[Json]:
    if block["type"] == "text":
        for piece in _pieces(block["text"], _TEXT_PIECE):
            yield {"type": "text_delta", "text": piece}
        return
    yield {"type": "input_json_delta", "partial_json": ""}
    for piece in _pieces(compact(block["input"]), _JSON_PIECE):
        yield {"type": "input_json_delta", "partial_json": piece}


def _pieces(text: str, size: int) -> Iterator[str]:
    """Small pieces, larger ones for a long text: a block is never slow because it is long."""
    size = max(size, -(-len(text) // _PIECES_AT_MOST))
    for at in range(0, len(text), size):
        yield text[at : at + size]


def _identifier(prefix: str) -> str:
    alphabet = string.ascii_letters + string.digits
    return prefix + "".join(secrets.choice(alphabet) for _ in range(22))
