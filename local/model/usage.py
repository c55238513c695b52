"""Usage figures: tokens estimated from the text (four bytes each), and a prompt cache of prefixes."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from local.model.messages import CountRequest, Json

_BYTES_PER_TOKEN = 4
_IMAGE_TOKENS = 1_500
_LOOKBACK = 20
_SECONDS = {"5m": 300.0, "1h": 3_600.0}
_CACHE_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class InputUsage:
    """Their sum is the whole input; `input_tokens` are those that touch no cache."""

    input_tokens: int
    cache_creation_5m: int = 0
    cache_creation_1h: int = 0
    cache_read: int = 0

    @property
    def cache_creation(self) -> int:
        return self.cache_creation_5m + self.cache_creation_1h

    def flat(self) -> Json:
        return {
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": self.cache_creation,
            "cache_read_input_tokens": self.cache_read,
        }

    def full(self, output_tokens: int) -> Json:
        created = {
            "ephemeral_5m_input_tokens": self.cache_creation_5m,
            "ephemeral_1h_input_tokens": self.cache_creation_1h,
        }
        rest = {"cache_creation": created, "output_tokens": output_tokens, "service_tier": "standard"}
        return self.flat() | rest


def tokens(text: str) -> int:
    """An estimate: one token for each four bytes begun."""
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def input_tokens(request: CountRequest) -> int:
    return sum(part.tokens for part in _parts(request))


@dataclass(frozen=True, slots=True)
class _Part:
    """A block of the prompt; `ttl` is set where the client asks to cache everything up to here."""

    text: str
    tokens: int
    ttl: str | None


class PromptCache:
    """Remembers prefixes for as long as the client asked, renewed by use; each key has its own."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._expiry: dict[bytes, tuple[float, float]] = {}

    def usage(self, request: CountRequest, key: str) -> InputUsage:
        parts = list(_parts(request))
        marks = [at for at, part in enumerate(parts) if part.ttl]
        if not marks:
            return InputUsage(sum(part.tokens for part in parts))
        digests = _prefixes(f"{key}\n{request.model}", parts)
        hit = self._longest(digests, marks)
        written = {"5m": 0, "1h": 0}
        start = hit + 1
        for mark in marks:
            ttl = parts[mark].ttl or "5m"
            written[ttl] += sum(part.tokens for part in parts[start : mark + 1])
            start = max(start, mark + 1)
            self._remember(digests[mark], _SECONDS[ttl])
        return InputUsage(
            input_tokens=sum(part.tokens for part in parts[start:]),
            cache_creation_5m=written["5m"],
            cache_creation_1h=written["1h"],
            cache_read=sum(part.tokens for part in parts[: hit + 1]),
        )

    def _longest(self, digests: list[bytes], marks: list[int]) -> int:
        """Index of the last block of the longest remembered prefix, or -1; looks back from each mark."""
        near = {at for mark in marks for at in range(max(0, mark - _LOOKBACK + 1), mark + 1)}
        for at in sorted(near, reverse=True):
            expiry, seconds = self._expiry.get(digests[at], (0.0, 0.0))
            if expiry > self._now():
                self._remember(digests[at], seconds)
                return at
        return -1

    def _remember(self, digest: bytes, seconds: float) -> None:
        if len(self._expiry) >= _CACHE_ENTRIES:
            now = self._now()
            self._expiry = {known: entry for known, entry in self._expiry.items() if entry[0] > now}
            while len(self._expiry) >= _CACHE_ENTRIES:
                del self._expiry[next(iter(self._expiry))]
        self._expiry[digest] = (self._now() + seconds, seconds)


def _prefixes(start: str, parts: list[_Part]) -> list[bytes]:
    digest = hashlib.sha256(start.encode()).digest()
    result: list[bytes] = []
    for part in parts:
        digest = hashlib.sha256(digest + part.text.encode()).digest()
        result.append(digest)
    return result


def _parts(request: CountRequest) -> Iterator[_Part]:
    """Tools, system, messages: the order in which the API builds its prompt."""
    found = list(_marked_parts(request))
    if request.cache_control and not found[-1].ttl:
        last = found.pop()
        found.append(_Part(last.text, last.tokens, _ttl(request.cache_control)))
    yield from found


def _marked_parts(request: CountRequest) -> Iterator[_Part]:
    for tool in request.tools:
        yield _part("tool", tool.model_dump(exclude_none=True))
    system = [{"type": "text", "text": request.system}] if isinstance(request.system, str) else request.system
    for block in system:
        if block.get("text"):
            yield _part("system", block)
    for message in request.messages:
        content = message.content
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            yield _part(message.role, block)


def _part(place: str, block: Json) -> _Part:
    bare = {name: value for name, value in block.items() if name != "cache_control"}
    text = compact(bare)
    if bare.get("type") == "image":
        count = _IMAGE_TOKENS
    else:
        count = tokens(bare["text"] if bare.get("type") == "text" else text)
    control = block.get("cache_control")
    return _Part(f"{place}\n{text}\n", count, _ttl(control) if control else None)


def _ttl(control: Json) -> str:
    return "1h" if control.get("ttl") == "1h" else "5m"
