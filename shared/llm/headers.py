"""Which headers pass through the gateway, in either direction."""

from shared.llm.upstream import Headers

_FORTH = frozenset(("accept", "content-type", "idempotency-key", "user-agent", "x-app"))
_FORTH_PREFIXES = ("anthropic-", "x-stainless-", "x-claude-")
_NOT_BACK = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer", "transfer-encoding"),
        *("upgrade", "content-length", "date", "server", "set-cookie", "alt-svc", "strict-transport-security"),
    )
)
"""What belongs to one connection or one host; the caller's connection and host have their own."""


def forth(incoming: Headers, streamed: bool) -> Headers:
    """Named ones only, so that no credential, cookie or proxy header reaches the model service.

    Streams are asked for uncompressed: a ping cannot be put between compressed bytes.
    """
    accepted = ",".join(value for name, value in incoming if name == "accept-encoding")
    encoding = "gzip" if "gzip" in accepted and not streamed else "identity"
    passed = [(name, value) for name, value in incoming if name in _FORTH or name.startswith(_FORTH_PREFIXES)]
    return [*passed, ("accept-encoding", encoding)]


def back(outgoing: Headers, length: int | None = None) -> Headers:
    """All but those of the other connection, and CORS, which is ours. `length`: of a body that is there whole."""
    passed = [
        (name, value) for name, value in outgoing if name not in _NOT_BACK and not name.startswith("access-control-")
    ]
    return passed if length is None else [*passed, ("content-length", str(length))]
