"""Which headers pass through the gateway, in either direction."""

from collections.abc import Collection
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from shared.core import ids
from shared.core.log import correlation
from shared.llm.upstream import Headers

_FORTH = frozenset(("accept", "content-type", "idempotency-key", "user-agent", "x-app"))
_FORTH_PREFIXES = ("anthropic-", "x-stainless-", "x-claude-")
_BETA = "anthropic-beta"
_NOT_BACK = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer", "transfer-encoding"),
        *("upgrade", "content-length", "date", "server", "set-cookie", "alt-svc", "strict-transport-security"),
        "x-request-id",
    )
)
"""What belongs to one connection or one host; the caller's have their own, `x-request-id` among them."""


def forth(incoming: Headers, streamed: bool) -> Headers:
    """Named ones only, so that no credential, cookie or proxy header reaches the model service.

    Streams are asked for uncompressed: a ping cannot be put between compressed bytes.
    """
    accepted = ",".join(value for name, value in incoming if name == "accept-encoding")
    encoding = "gzip" if "gzip" in accepted and not streamed else "identity"
    passed = [(name, value) for name, value in incoming if name in _FORTH or name.startswith(_FORTH_PREFIXES)]
    return [*passed, ("accept-encoding", encoding)]


def without_betas(passed: Headers, refused: Collection[str]) -> Headers:
    """A line without a refused flag stays as it is, to the byte."""
    if not refused or not any(name == _BETA for name, _ in passed):
        return passed
    kept: list[tuple[str, str]] = []
    for name, value in passed:
        flags = [flag.strip() for flag in value.split(",")]
        if name != _BETA or not any(flag in refused for flag in flags):
            kept.append((name, value))
        elif rest := [flag for flag in flags if flag not in refused]:
            kept.append((name, ",".join(rest)))
    return kept


def back(outgoing: Headers, length: int | None = None) -> Headers:
    """All but those of the other connection, and CORS, which is ours. `length`: of a body that is there whole.

    Every answer has a request id: where the model service gave none, ours.
    """
    passed = [
        (name, value) for name, value in outgoing if name not in _NOT_BACK and not name.startswith("access-control-")
    ]
    if not any(name == "request-id" for name, _ in passed):
        passed.append(("request-id", request_id()))
    return passed if length is None else [*passed, ("content-length", str(length))]


def request_id() -> str:
    """That of the answer's `x-request-id` and of the log."""
    return f"req_{correlation.get() or ids.sortable()}"


def retry_after(answer: Headers) -> float:
    """Seconds that an answer asks to wait; 0 where it does not say."""
    text = next((value for name, value in answer if name == "retry-after"), "").strip()
    if text.replace(".", "", 1).isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()) if text else 0.0
    except (TypeError, ValueError, OverflowError):
        return 0.0
