"""The emulated GitHub as somebody uses it who reviews and merges."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self

import httpx

from local.cloud import LocalCloud
from shared.bootstrap import adapters
from shared.core.ports import Repositories
from shared.core.settings import Settings
from tests.flows.world import Json


class GitHub:
    """Its REST API, with all that the App may do in one repository."""

    def __init__(self, repositories: Repositories, http: httpx.AsyncClient) -> None:
        self._repositories, self._http = repositories, http

    @classmethod
    @asynccontextmanager
    async def of(cls, cloud: LocalCloud) -> AsyncGenerator[Self]:
        ports = adapters(Settings.from_env(cloud.settings))
        async with httpx.AsyncClient(base_url=cloud.github_url, timeout=30) as http:
            yield cls(ports.repositories, http)
        for close in ports.closers:
            await close()

    async def call(self, method: str, full_name: str, path: str) -> Json:
        token = await self._repositories.platform_token(full_name)
        headers = {"authorization": f"Bearer {token.token}"}
        answer = await self._http.request(method, f"/repos/{full_name}/{path}", headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    async def pull_request(self, full_name: str, number: int) -> Json:
        return await self.call("GET", full_name, f"pulls/{number}")

    async def merge(self, full_name: str, number: int) -> None:
        await self.call("PUT", full_name, f"pulls/{number}/merge")
