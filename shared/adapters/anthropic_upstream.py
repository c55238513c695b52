"""The Anthropic Messages API, or anything that speaks it, through one shared HTTP session."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from shared.adapters.provider_credentials import Credential
from shared.core.errors import Unavailable
from shared.llm.upstream import Incoming, NoAnswer, NotSent, Outgoing

_GENERATED = ("accept", "accept-encoding", "content-type", "user-agent")
"""Headers the client library would add by itself; the caller's, or none, are right."""
_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: to connect, until a stream begins, until another answer begins, of silence within an answer."""

    connect: float = 10
    first_byte: float = 120
    answer: float = 600
    idle: float = 300


class AnthropicUpstream:
    """`base_url` may carry a path (`https://host/anthropic`); `/v1/...` goes behind it."""

    def __init__(self, base_url: str, credential: Credential, patience: Patience | None = None) -> None:
        self._base = base_url.rstrip("/")
        self._credential = credential
        self._patience = patience or Patience()
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def open(self, request: Outgoing) -> AsyncGenerator[Incoming]:
        response = await self._send(request)
        try:
            if 300 <= response.status < 400:
                raise NotSent(
                    f"The model service at {self._base} redirects. Set ANTHROPIC_BASE_URL, or base_url in LLM_ROUTES, "
                    "to its final address."
                )
            headers = [(name.lower(), value) for name, value in response.headers.items()]
            yield Incoming(response.status, headers, _chunks(response, self._patience.idle))
        finally:
            response.close()

    async def close(self) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    async def _send(self, request: Outgoing) -> aiohttp.ClientResponse:
        query = f"?{request.query}" if request.query else ""
        headers = [*request.headers, *await self._credential()]
        try:
            async with asyncio.timeout(self._patience.first_byte if request.streamed else self._patience.answer):
                return await self._open_session().request(
                    request.method,
                    URL(f"{self._base}{request.path}{query}", encoded=True),
                    headers=headers,
                    data=request.body or None,
                    allow_redirects=False,
                )
        except _NOT_CONNECTED as error:
            raise NotSent(
                f"The model service at {self._base} cannot be reached. Try again in a moment.", retry_after=2
            ) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NoAnswer(f"The model service at {self._base} did not answer. Try again in a moment.") from error

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._patience.connect),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_GENERATED,
            )
        return self._session


async def _chunks(response: aiohttp.ClientResponse, idle: float) -> AsyncIterator[bytes]:
    try:
        while True:
            async with asyncio.timeout(idle):
                chunk = await response.content.readany()
            if not chunk:
                return
            yield chunk
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable("The model service broke off its answer. Try again.") from error
