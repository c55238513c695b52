"""What proves to a provider of models that the platform calls: header lines, made anew where they expire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from shared.core.errors import Unavailable
from shared.core.log import Log
from shared.core.ports import Secrets
from shared.llm.upstream import NotSent

if TYPE_CHECKING:  # azure-identity loads when a token is needed
    from shared.adapters.managed_identity import ManagedIdentity

log = Log(__name__)

type Credential = Callable[[], Awaitable[Sequence[tuple[str, str]]]]
"""Header lines of the next request. Raises NotSent when there are none to be had."""

FOUNDRY_SCOPE = "https://ai.azure.com/.default"
_SECRET_KEPT = 300.0
"""Seconds: so long a rotated key goes unnoticed."""
_SECRET_ASKED_AGAIN = 30.0
"""Seconds: when the secret store was away."""
_TOKEN_MARGIN = 300.0


def api_key(key: str) -> Credential:
    """Empty: nothing is sent."""
    lines = [("x-api-key", key)] if key else []

    async def headers() -> Sequence[tuple[str, str]]:
        return lines

    return headers


class SecretKey:
    """The key that the secret store keeps under `name`. While the store is away, the last one that it told."""

    def __init__(self, secrets: Secrets, name: str, now: Callable[[], float] = time.monotonic) -> None:
        self._secrets, self._name, self._now = secrets, name, now
        self._kept: str | None = None
        self._until = 0.0
        self._asking = asyncio.Lock()
        self._answers = 0
        self._failure: Unavailable | None = None

    async def __call__(self) -> Sequence[tuple[str, str]]:
        if self._kept is None or self._now() >= self._until:
            await self._ask()
        if self._kept:
            return [("x-api-key", self._kept)]
        if self._failure:
            raise NotSent(self._failure.detail, self._failure.retry_after) from self._failure
        raise NotSent(f"There is no secret {self._name} for this provider of models. Put it into the key vault.")

    async def _ask(self) -> None:
        """Whoever had to wait has the answer that came meanwhile, even if it was none; one by one they would queue."""
        seen = self._answers
        async with self._asking:
            if seen == self._answers:
                await self._answer()
                self._answers += 1

    async def _answer(self) -> None:
        """Other calls use the known key meanwhile."""
        self._until = self._now() + _SECRET_ASKED_AGAIN
        try:
            self._kept, self._failure = await self._secrets.get(self._name), None
        except Unavailable as error:
            self._failure = error
            log.warning("llm.secret_not_renewed", secret=self._name)
        else:
            self._until = self._now() + _SECRET_KEPT


class IdentityToken:
    """An Entra token of the function app's identity, for Azure AI Foundry."""

    def __init__(self, identity: ManagedIdentity, now: Callable[[], float] = time.time) -> None:
        self._identity, self._now = identity, now
        self._line = ("authorization", "")
        self._until = 0.0

    async def __call__(self) -> Sequence[tuple[str, str]]:
        if self._now() >= self._until:
            await self._renew()
        return [self._line]

    async def _renew(self) -> None:
        from azure.core.exceptions import AzureError

        try:
            token = await self._identity.get_token(FOUNDRY_SCOPE)
        except AzureError as error:
            raise NotSent("The function app's identity got no token for Azure AI Foundry. Try again.") from error
        self._line, self._until = ("authorization", f"Bearer {token.token}"), token.expires_on - _TOKEN_MARGIN
