"""A model service behind the gateway, as the gateway sees it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
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
    """A request to the model service. `path` begins with /v1; `query` is raw, without the question mark."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes = field(default=b"", repr=False)
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class Incoming:
    """Its answer: `chunks` are the undecoded bytes as they arrive, and raise Unavailable where they break off."""

    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")


class Upstream(Protocol):
    """Sends one request; adds the platform's own credentials to it."""

    def open(self, request: Outgoing) -> AbstractAsyncContextManager[Incoming]:
        """Yields once status and headers are there. Leaving it, or being cancelled in it, ends the request.

        Any status is an answer. Raises NotSent or NoAnswer when there is none. Nothing is ever sent twice.
        """
        ...

    async def close(self) -> None: ...
