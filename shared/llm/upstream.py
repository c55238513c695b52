"""A model service behind the gateway, as the gateway sees it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shared.core.errors import Unavailable

type Headers = Sequence[tuple[str, str]]
"""Header lines in order, names in lower case; a name may repeat."""


class NotSent(Unavailable):
    """The request did not reach the service: nothing can have been billed."""


class NoAnswer(Unavailable):
    """The request was sent and no answer began: it may have been billed."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to the model service. `path` begins with /v1; `query` is raw, without the question mark.

    `team_id` is whose it is; the service does not hear of it.
    """

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes = field(default=b"", repr=False)
    streamed: bool = False
    team_id: str = ""


class Incoming(Protocol):
    """Its answer. `headers` have their names in lower case."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    async def read(self, quiet: float | None = None) -> bytes | None:
        """Undecoded bytes as they arrive, at the end none. None when there was none for `quiet` seconds.

        Raises Unavailable where they break off, after those that arrived.
        """
        ...

    def close(self) -> None:
        """Ends the request, wherever it is. It may be repeated."""
        ...


@dataclass(slots=True)
class Whole:
    """An answer that was read to its end."""

    status: int
    headers: Headers
    body: bytes

    async def read(self, quiet: float | None = None) -> bytes:
        body, self.body = self.body, b""
        return body

    def close(self) -> None:
        pass


class Upstream(Protocol):
    """Sends one request; adds the platform's own credentials to it."""

    async def send(self, request: Outgoing) -> Incoming:
        """Returns once status and headers are there; it must be closed. Being cancelled ends the request.

        Any status is an answer. Raises NotSent or NoAnswer when there is none. Nothing is ever sent twice.
        """
        ...

    async def close(self) -> None: ...


def header(incoming: Incoming, name: str) -> str:
    return next((value for key, value in incoming.headers if key == name), "")
