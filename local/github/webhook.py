"""The App's webhook: signed deliveries, as GitHub sends them."""

import asyncio
import hashlib
import hmac
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson

from local.github.config import GitHubConfig
from shared.core.log import Log

_log = Log(__name__)

_PAUSES = (0.5, 1, 2, 4, 8, 0)
"""Seconds before the next try. GitHub tries once, and people send it again from the App's page, which is not here."""


class Webhook:
    def __init__(self, config: GitHubConfig) -> None:
        self._config = config
        self._under_way: set[asyncio.Task[None]] = set()

    def send(self, event: str, payload: dict[str, Any]) -> None:
        """Delivers it in the background."""
        if not self._config.webhook_url:
            return
        task = asyncio.create_task(self._deliver(event, orjson.dumps(payload)))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncGenerator[None]:
        """What is under way ends with the emulator."""
        yield
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _deliver(self, event: str, body: bytes) -> None:
        headers = {
            "content-type": "application/json",
            "user-agent": "GitHub-Hookshot/emulator",
            "x-github-event": event,
            "x-github-delivery": str(uuid.uuid4()),
            "x-hub-signature-256": signature(self._config.webhook_secret, body),
        }
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            for pause in _PAUSES:
                told = await _post(http, self._config.webhook_url, body, headers)
                if told == "":
                    return
                _log.warning("github.webhook_failed", gh_event=event, reason=told)
                await asyncio.sleep(pause)


def signature(secret: str, body: bytes) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def _post(http: httpx.AsyncClient, url: str, body: bytes, headers: dict[str, str]) -> str:
    """Why it did not arrive; empty when it did."""
    try:
        answer = await http.post(url, content=body, headers=headers)
    except httpx.HTTPError as error:
        return type(error).__name__
    return "" if answer.is_success else f"answered {answer.status_code}"
