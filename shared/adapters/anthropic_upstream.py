"""The Anthropic Messages API, or anything that speaks it, through one shared HTTP session."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from shared.core.errors import Unavailable
from shared.llm.upstream import Incoming, Outgoing

_GENERATED = ("accept", "accept-encoding", "content-type", "user-agent")
"""Headers the client library would add by itself; the caller's, or none, are right."""


class AnthropicUpstream:
    """`base_url` may carry a path (`https://host/anthropic`); `/v1/...` goes behind it."""

    def __init__(
        self, base_url: str, api_key: str, *, connect_timeout: float = 10, silence_timeout: float = 300
    ) -> None:
        self._base = base_url.rstrip("/")
        self._api_key = api_key
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, sock_read=silence_timeout)
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def open(self, request: Outgoing) -> AsyncGenerator[Incoming]:
        response = await self._send(request)
        try:
            if 300 <= response.status < 400:
                raise Unavailable(
                    f"The model service at {self._base} redirects. Set ANTHROPIC_BASE_URL to its final address."
                )
            headers = [(name.lower(), value) for name, value in response.headers.items()]
            yield Incoming(response.status, headers, _chunks(response))
        finally:
            response.close()

    async def close(self) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    async def _send(self, request: Outgoing) -> aiohttp.ClientResponse:
        query = f"?{request.query}" if request.query else ""
        headers = [*request.headers, ("x-api-key", self._api_key)]
        try:
            return await self._open_session().request(
                request.method,
                URL(f"{self._base}{request.path}{query}", encoded=True),
                headers=headers,
                data=request.body or None,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(
                f"The model service at {self._base} did not answer. Try again in a moment.", retry_after=2
            ) from error

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=self._timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_GENERATED,
            )
        return self._session


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable("The model service broke off its answer. Try again.") from error
