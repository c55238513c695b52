"""Sends webhooks over HTTP."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shared.core.errors import Unavailable

if TYPE_CHECKING:
    import aiohttp

_SECONDS = 15


class HttpWebhooks:
    """One shared session; redirects are answers, not places to go."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS))
        try:
            async with self._session.post(url, data=body, headers=dict(headers), allow_redirects=False) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"The subscriber did not answer: {type(error).__name__}.") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
