"""Reads what an answer used, from a copy of its bytes; the answer itself passes untouched."""

import json
import zlib
from math import ceil
from typing import Any

import orjson

from shared.core.errors import Unavailable
from shared.core.ports import Json
from shared.llm.models import LONGEST_MODEL, Share, TokenCounts
from shared.llm.sse import Splitter

_APART = ("compaction", "advisor_message")
"""Iterations whose tokens are not part of the top-level figures."""
_MOST_TOKENS = 10**11
"""More is no figure: it could not be counted."""
_END = b"\n\n"
_FRAME = len(b"event: content_block_delta\ndata: \n\n")
_EMPTY = len(b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}')


class Report:
    """Usage as the model service has reported it so far."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.complete = False
        self.failed = False
        """Whether the service said itself that it broke off."""
        self._usage: Json = {}
        self._final = False
        """Whether the output's figure is there: the head of a stream has one that stands for it."""
        self._deltas = self._deltas_size = 0
        """Pieces of content since the last figures, and their bytes."""
        self._output_told = 0
        """The output tokens of the last figures, which are of what was streamed before them."""

    @property
    def told(self) -> bool:
        """Whether it has the figures that no answer goes without."""
        return self._prompt_told and self._final

    @property
    def _prompt_told(self) -> bool:
        """llama.cpp leaves out the head of a stream, which tells it, where the first token is half a character."""
        return _told(self._usage, "input_tokens") is not None

    def message(self, message: Any) -> None:
        """A whole message."""
        self._head(message)
        self._final = _told(self._usage, "output_tokens") is not None
        self.complete = True

    def _head(self, message: Any) -> None:
        if isinstance(message, dict):
            self.model = _name(message, self.model)
            self._add(_fields(message.get("usage")))

    def delta(self, size: int) -> None:
        """A piece of content, whose event has so many bytes."""
        self._deltas += 1
        self._deltas_size += size

    def event(self, name: bytes, data: bytes) -> None:
        """An event of a stream. Figures of later events replace those of earlier ones.

        What one is only its name or type says: a client's stop sequence, which comes back beside the figures, may be
        any word. llama.cpp's errors have a type of their own.
        """
        if name == b"error":
            self.failed = True
            return
        is_delta = b'"content_block_delta"' in data
        if b'"message_' in data or b'"error"' in data or name == b"message_stop":
            event = _parsed(data)
            kind = event.get("type", name.decode("latin-1")) if isinstance(event, dict) else ""
            self._message_event(kind, _fields(event))
            is_delta = kind == "content_block_delta"
        if is_delta:
            self.delta(len(data) + _FRAME)

    def shares(self) -> list[Share]:
        if not self._usage:
            return []
        apart = [entry for entry in _list(self._usage.get("iterations")) if entry.get("type") in _APART]
        return [
            self._share(self.model, self._usage),
            *(self._share(_name(entry, self.model), entry) for entry in apart),
        ]

    def at_least(self, prompt: Share) -> list[Share]:
        """For a cap, when not all was told: figures not reported are taken as some, never as none.

        A token per streamed delta, or per four bytes of them where that is more; `prompt` until it is reported.
        """
        reported = self.shares() if self._prompt_told else [*self.shares(), prompt]
        since = _output(reported) - self._output_told
        streamed = max(self._deltas, (self._deltas_size - self._deltas * (_FRAME + _EMPTY)) // 4)
        return [*reported, reported[0]._replace(tokens=TokenCounts(output=max(streamed - since, 0)))]

    def _message_event(self, kind: Any, event: Json) -> None:
        match kind:
            case "message_start":
                self._head(event.get("message"))
            case "message_delta":
                usage = _fields(event.get("usage"))
                self._add(usage)
                self._final = self._final or _told(usage, "output_tokens") is not None
                if _count(usage, "output_tokens"):
                    self._deltas = self._deltas_size = 0
                    self._output_told = _output(self.shares())
            case "message_stop":
                self.complete = True
            case "error":
                self.failed = True
            case _:
                pass

    def _add(self, usage: Json) -> None:
        self._usage |= {name: value for name, value in usage.items() if value is not None}

    def _share(self, model: str, usage: Json) -> Share:
        fast = self._usage.get("speed") == "fast"
        return Share(model, _tokens(usage), fast, us_only=self._usage.get("inference_geo") == "us")


class Meter:
    """Feeds a report from the bytes of an answer, decoding a copy where they are compressed."""

    def __init__(self, report: Report, encoding: str, *, streamed: bool) -> None:
        self._report = report
        self._decoder = _decoder(encoding)
        self._events = Splitter() if streamed else None
        self._body = b""

    def feed(self, chunk: bytes) -> None:
        plain = self._decode(chunk)
        if self._events is None:
            self._body += plain
            return
        if not self._events.between or not plain.endswith(_END) or b"\r" in plain:
            self._feed(self._events, plain)
            return
        for event in plain[: -len(_END)].split(_END):  # few of them have to be read
            if b'"message_' in event or b'"error"' in event or event.startswith((b"event: error", b"event: message_")):
                self._feed(self._events, event + _END)
            elif b'"content_block_delta"' in event:
                self._report.delta(len(event) + len(_END))

    def _feed(self, events: Splitter, plain: bytes) -> None:
        for name, data in events.feed(plain):
            self._report.event(name, data)

    def end(self, broken: Unavailable | None = None) -> None:
        """Nothing more comes. Raises `broken`, or Unavailable, for what is not all of an answer, unless the service
        said so."""
        if self._events is None:
            self._end_of_message()
            return
        self._feed(self._events, _END)  # some leave out that of the last event
        if not self._report.complete and not self._report.failed:
            raise broken or Unavailable("The model service ended its answer before it was whole. Try again.")

    def _end_of_message(self) -> None:
        message = _parsed(self._body)
        if message is None and self._body.strip():
            raise Unavailable("The model service sent no message, or only a part of one. Try again.")
        self._report.message(message)
        if not self._report.told:
            self._report.delta(len(self._body))

    def _decode(self, chunk: bytes) -> bytes:
        try:
            return self._decompressed(chunk) if self._decoder else chunk
        except zlib.error as error:
            raise Unavailable("The model service sent a damaged gzip body. Try again.") from error

    def _decompressed(self, chunk: bytes) -> bytes:
        """It may be several compressed files in a row."""
        plain = self._decoder.decompress(chunk)
        while self._decoder.eof and (rest := self._decoder.unused_data):
            self._decoder = _decoder("gzip")
            plain += self._decoder.decompress(rest)
        return plain


def _decoder(encoding: str) -> Any:
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip":
            return zlib.decompressobj(wbits=31)
        case other:
            raise Unavailable(f"The model service answered in an encoding that was not asked for: {other[:40]}.")


def _parsed(data: bytes) -> Any:
    """None for what is no JSON. Half characters, NaN and a mark at the start, which are none to orjson, are common."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None


def _list(value: Any) -> list[Json]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _output(shares: list[Share]) -> int:
    return sum(share.tokens.output for share in shares)


def _tokens(usage: Json) -> TokenCounts:
    """Cache writes without a breakdown are the default kind, which lives five minutes."""
    breakdown = _fields(usage.get("cache_creation"))
    hour = _count(breakdown, "ephemeral_1h_input_tokens")
    written = max(_count(usage, "cache_creation_input_tokens"), hour + _count(breakdown, "ephemeral_5m_input_tokens"))
    return TokenCounts(
        input=_count(usage, "input_tokens"),
        output=_count(usage, "output_tokens"),
        cache_read=_count(usage, "cache_read_input_tokens"),
        cache_write_5m=written - hour,
        cache_write_1h=hour,
        web_searches=_count(_fields(usage.get("server_tool_use")), "web_search_requests"),
    )


def _fields(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _name(of: Json, otherwise: str) -> str:
    return str(of.get("model") or otherwise)[:LONGEST_MODEL]


def _count(usage: Json, name: str) -> int:
    return _told(usage, name) or 0


def _told(usage: Json, name: str) -> int | None:
    """A figure; None for what is none, such as text. Some write 10.0."""
    value = usage.get(name)
    if type(value) is int:
        return value if 0 <= value <= _MOST_TOKENS else None
    return ceil(value) if type(value) is float and 0 <= value <= _MOST_TOKENS else None
