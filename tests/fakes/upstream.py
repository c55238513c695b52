"""Model services that play a script: one in memory for unit tests, one over HTTP for contract tests."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from shared.core.errors import PlatformError
from shared.llm.upstream import Incoming, Outgoing


def sse(*events: dict[str, Any]) -> list[bytes]:
    """One chunk per event, framed as the Anthropic API frames them."""
    return [b"event: " + event["type"].encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n" for event in events]


def stream_events(
    text: Sequence[str] = ("Hel", "lo"),
    model: str = "claude-sonnet-5-5",
    output_tokens: int = 12,
    **usage: Any,
) -> list[dict[str, Any]]:
    """The events of a streamed message; `usage` goes into message_start."""
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 1} | usage,
    }
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": part}} for part in text),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": output_tokens},
        },
        {"type": "message_stop"},
    ]


def tool_use_events(name: str, arguments: dict[str, Any], model: str = "claude-sonnet-5-5") -> list[dict[str, Any]]:
    """The events of a streamed message that calls a tool, its input in pieces."""
    start, *_, delta, stop = stream_events(model=model)
    block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
    text = orjson.dumps(arguments).decode()
    pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
    return [
        start,
        {"type": "content_block_start", "index": 0, "content_block": block},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": piece}}
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": 0},
        delta | {"delta": {"stop_reason": "tool_use", "stop_sequence": None}},
        stop,
    ]


def message(model: str = "claude-sonnet-5-5", **usage: Any) -> dict[str, Any]:
    """A whole message."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 12} | usage,
    }


@dataclass
class Script:
    """An answer. In `steps`, bytes are sent, a float is a silence in seconds, an error breaks the answer off."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = (("content-type", "application/json"),)
    steps: Sequence[bytes | float | PlatformError] = ()

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> "Script":
        return cls(status, [("content-type", "application/json"), *headers], [orjson.dumps(value)])

    @classmethod
    def stream(cls, *steps: bytes | float | PlatformError) -> "Script":
        return cls(200, [("content-type", "text/event-stream; charset=utf-8"), ("request-id", "req_up")], steps)


@dataclass
class FakeUpstream:
    """Answers from `scripts` in turn, the last one again and again; an error instead of a script is raised.

    While it is `silent` no answer begins.
    """

    scripts: list[Script | PlatformError]
    silent: bool = False
    requests: list[Outgoing] = field(default_factory=list)
    fell_silent: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while an answer is in one of its silences, or was."""
    ended: int = 0

    async def send(self, request: Outgoing) -> Incoming:
        self.requests.append(request)
        if self.silent:
            await asyncio.Event().wait()
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        if isinstance(script, PlatformError):
            raise script
        return Played(script.status, list(script.headers), list(script.steps), self._end, self.fell_silent)

    def _end(self) -> None:
        self.ended += 1

    async def close(self) -> None:
        pass


@dataclass
class Played:
    """An answer that follows its steps."""

    status: int
    headers: Sequence[tuple[str, str]]
    steps: list[bytes | float | PlatformError]
    ended: Callable[[], None] = lambda: None
    silent: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    async def read(self, quiet: float | None = None) -> bytes | None:
        while self.steps:
            step = self.steps.pop(0)
            if isinstance(step, float):
                self.silent.set()
            match step:
                case bytes() as data:
                    return data
                case PlatformError() as error:
                    raise error
                case seconds if quiet and seconds > quiet:
                    self.steps.insert(0, seconds - quiet)
                    await asyncio.sleep(quiet)
                    return None
                case seconds:
                    await asyncio.sleep(seconds)
        return b""

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.ended()


@dataclass
class Received:
    """A request as the model service saw it, and when and how its answer went."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    sent: list[bytes] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def all(self, name: str) -> list[str]:
        return [value.decode() for key, value in self.headers if key == name.encode()]


class UpstreamApp:
    """An ASGI model service that plays `first` in turn, then `script`; a step may also be an asyncio.Event to wait for.

    Before its answer begins it waits for `silence` and for `delay` seconds.
    """

    def __init__(self) -> None:
        self.first: list[Script] = []
        self.script = Script()
        self.silence: asyncio.Event | None = None
        self.delay = 0.0
        self.received: list[Received] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = bytearray()
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        path = scope["raw_path"].decode()
        request = Received(scope["method"], path, scope["query_string"], list(scope["headers"]), bytes(body))
        self.received.append(request)
        play = asyncio.create_task(self._play(request, send))
        gone = asyncio.create_task(receive())
        await asyncio.wait({play, gone}, return_when=asyncio.FIRST_COMPLETED)
        if play.done():
            gone.cancel()
            await play
        else:
            play.cancel()
            request.cancelled.set()

    async def _play(self, request: Received, send: Any) -> None:
        if self.silence:
            await self.silence.wait()
        await asyncio.sleep(self.delay)
        script = self.first.pop(0) if self.first else self.script
        headers = [(name.encode(), value.encode()) for name, value in script.headers]
        await send({"type": "http.response.start", "status": script.status, "headers": headers})
        steps: Sequence[Any] = script.steps
        for step in steps:
            if isinstance(step, bytes):
                await send({"type": "http.response.body", "body": step, "more_body": True})
                request.sent.append(step)
            elif isinstance(step, asyncio.Event):
                await step.wait()
            else:
                await asyncio.sleep(step)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
