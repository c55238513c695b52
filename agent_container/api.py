"""The platform's HTTP API as a run sees it: five calls, retried while that can help."""

import asyncio
import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

type Json = dict[str, Any]

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


class ApiError(Exception):
    """The platform said no. `detail` is its own sentence."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{detail} (HTTP {status})")
        self.status = status
        self.detail = detail


class Unreachable(Exception):
    """The platform did not answer in time."""


@dataclass(frozen=True)
class Comment:
    author: str
    body: str


@dataclass(frozen=True)
class Card:
    """The task, as people wrote it."""

    title: str
    body: str
    labels: tuple[str, ...]
    checklist: tuple[tuple[str, bool], ...]
    comments: tuple[Comment, ...]


@dataclass(frozen=True)
class Limits:
    turns: int
    seconds: int
    tokens: int


@dataclass(frozen=True)
class RunContext:
    """All a run needs to know; `previous` is why the attempt before this one failed."""

    card: Card
    repository: str
    clone_url: str
    default_branch: str
    branch: str
    model: str
    limits: Limits
    previous: str | None

    @classmethod
    def parse(cls, body: Json) -> "RunContext":
        card, repository, limits = body["card"], body["repository"], body["limits"]
        return cls(
            card=Card(
                title=card["title"],
                body=card.get("body") or "",
                labels=tuple(card.get("labels") or ()),
                checklist=tuple((item["text"], bool(item["done"])) for item in card.get("checklist") or ()),
                comments=parse_comments(card.get("comments") or ()),
            ),
            repository=repository["full_name"],
            clone_url=repository["clone_url"],
            default_branch=repository["default_branch"],
            branch=body["branch"],
            model=body["model"],
            limits=Limits(int(limits["turns"]), int(limits["seconds"]), int(limits["tokens"])),
            previous=(body.get("previous") or {}).get("reason"),
        )


def parse_comments(items: Sequence[Json]) -> tuple[Comment, ...]:
    return tuple(Comment(item["author"], item["body"]) for item in items)


class Platform:
    """Every call raises ApiError when refused and Unreachable after `patience` seconds without an answer."""

    def __init__(self, api_url: str, run_id: str, token: str, patience: float = 120) -> None:
        self._patience = patience
        self._path = f"/api/runs/{run_id}"
        self._client = httpx.AsyncClient(
            base_url=api_url, headers={"Authorization": f"Bearer {token}"}, timeout=httpx.Timeout(30, connect=10)
        )
        self._instance = uuid.uuid4().hex

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def start(self) -> RunContext:
        return RunContext.parse(await self._post("start", {}))

    async def events(self, events: Sequence[Json]) -> tuple[bool, tuple[Comment, ...]]:
        """Whether a person stopped the run, and the comments written since the last call."""
        body = await self._post("events", {"events": list(events)})
        return bool(body.get("stop")), parse_comments(body.get("comments") or ())

    async def git_credentials(self) -> tuple[str, str]:
        body = await self._post("git-credentials", {}, patience=30)
        return body["username"], body["password"]

    async def comment(self, text: str) -> None:
        await self._post("comments", {"body": text})

    async def complete(self, body: Json, patience: float | None = None) -> None:
        await self._post("complete", body, patience)

    async def _post(self, action: str, body: Json, patience: float | None = None) -> Json:
        deadline = time.monotonic() + (self._patience if patience is None else patience)
        key = f"{self._instance}-{action}" if action == "start" else uuid.uuid4().hex
        for attempt in range(1_000_000):
            delay = min(0.25 * 2 ** min(attempt, 6), 10) * random.uniform(0.7, 1.3)
            try:
                answer = await self._client.post(f"{self._path}/{action}", json=body, headers={"Idempotency-Key": key})
            except httpx.TransportError as error:
                trouble = f"no answer: {type(error).__name__}"
            else:
                if answer.status_code not in _RETRIED:
                    return _body(answer)
                trouble = f"HTTP {answer.status_code}"
                delay = max(delay, _retry_after(answer))
            if time.monotonic() + delay > deadline:
                raise Unreachable(f"The platform's API could not be reached ({trouble}).")
            await asyncio.sleep(delay)
        raise AssertionError("unreachable")


def _body(answer: httpx.Response) -> Json:
    if answer.is_success:
        return answer.json() if answer.content else {}
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = f"The platform answered {answer.reason_phrase or 'with an error'}."
    raise ApiError(answer.status_code, str(detail))


def _retry_after(answer: httpx.Response) -> float:
    try:
        return min(float(answer.headers.get("retry-after", "0")), 30)
    except ValueError:
        return 0
