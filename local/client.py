"""An HTTP client of the local cloud that signs in as a person would, through the Entra emulator's account page."""

import asyncio
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import httpx


class ApiError(RuntimeError):
    """The API's own words on what went wrong."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status, self.detail = status, detail


class Client:
    """`async with Client(api_url) as client: await client.sign_in("ada@contoso.test")`. Its session is renewed."""

    def __init__(self, api_url: str) -> None:
        self.base_url = api_url
        self._http = httpx.AsyncClient(base_url=api_url, timeout=30, trust_env=False)
        self.user: dict[str, Any] = {}
        self.session: dict[str, Any] = {}
        self._renew_at = float("inf")
        self._renewing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def sign_in(self, username: str) -> dict[str, Any]:
        """The whole code flow; returns the session."""
        start = await self.get("/api/auth/login")
        async with httpx.AsyncClient(timeout=30, trust_env=False) as browser:
            answer = await browser.post(start["auth_url"], data={"account": username})
        returned = parse_qs(urlsplit(answer.headers.get("location", "")).query)
        if "code" not in returned:
            raise ApiError(answer.status_code, f"Entra did not sign {username} in: {answer.text[:300]}")
        session = await self.post("/api/auth/callback", {"code": returned["code"][0], "state": returned["state"][0]})
        self._use(session)
        return session

    def _use(self, session: dict[str, Any]) -> None:
        self.session, self.user = session, session["user"]
        self._http.headers["authorization"] = f"Bearer {session['access_token']}"
        self._renew_at = time.monotonic() + session["expires_in"] * 2 / 3

    async def renew(self, refused: str = "") -> None:
        """Renews the session when most of its time is over, or when this authorization of its was refused."""
        async with self._renewing:
            was_refused = bool(refused) and refused == self.authorization
            if time.monotonic() < self._renew_at and not was_refused:
                return
            body = {"refresh_token": self.session["refresh_token"]}
            self._use(_accepted(await self._http.post("/api/auth/refresh", json=body)))

    @property
    def authorization(self) -> str:
        return self._http.headers.get("authorization", "")

    async def finished(self, task_id: str, every: float = 0.1) -> dict[str, Any]:
        """The task once it has succeeded. Raises ApiError with its error when it ends otherwise."""
        while True:
            task = await self.get(f"/api/tasks/{task_id}")
            if task["status"] == "succeeded":
                return task
            if task["status"] not in ("pending", "running"):
                raise ApiError(409, task["error"] or f"the task ended {task['status']}")
            await asyncio.sleep(every)

    async def get(self, path: str, **params: Any) -> Any:
        return await self.call("GET", path, params=params)

    async def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return await self.call("POST", path, json={} if body is None else body, headers=headers)

    async def patch(self, path: str, body: Any, **headers: str) -> Any:
        return await self.call("PATCH", path, json=body, headers=headers)

    async def delete(self, path: str) -> Any:
        return await self.call("DELETE", path)

    async def call(self, method: str, path: str, **request: Any) -> Any:
        """The answer's JSON, None when it has none. Raises ApiError for 4xx and 5xx."""
        await self.renew()
        return _accepted(await self._http.request(method, path, **request))


def _accepted(answer: httpx.Response) -> Any:
    if answer.status_code >= 400:
        problem = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        raise ApiError(answer.status_code, problem.get("detail") or answer.text[:300])
    return answer.json() if answer.content else None
