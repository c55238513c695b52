"""The LLM gateway beside a bare pass-through and the upstream itself: added latency and requests per second."""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.report import OURS, Row, report
from local.client import Client
from local.cloud import LocalCloud
from local.ports import CloudPorts
from local.serving import serve

SECONDS = 5.0
CONCURRENT = 16
BODY: dict[str, Any] = {
    "model": "demo-1",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Say what you are."}],
}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="kanban-bench-") as folder:
        report("llm", asyncio.run(_run(Path(folder))))


async def _run(folder: Path) -> list[Row]:
    cloud = LocalCloud(folder / "data", CloudPorts.free(), model_delay=0)
    async with cloud, Client(cloud.api_url) as client, aiohttp.ClientSession() as session:
        await client.sign_in("ada@contoso.test")
        key = await _team_key(client, cloud.data)
        upstream = f"http://127.0.0.1:{cloud.ports.model}/v1/messages"
        async with serve(_pass_through(session, upstream)) as bare:
            subjects = {
                OURS: f"{cloud.api_url}/api/v1/messages",
                "limit: bare Starlette + aiohttp": f"{bare}/v1/messages",
                "limit: the demo model itself": upstream,
            }
            return [row for subject, url in subjects.items() for row in await _measure(session, subject, url, key)]


async def _team_key(client: Client, data: Path) -> str:
    started = await client.post("/api/teams", {"name": "Benchmark"})
    await client.finished(started["task_id"])
    return (data / "secrets" / f"llm-key-{started['team']['id']}").read_text()


def _pass_through(session: aiohttp.ClientSession, upstream: str) -> Starlette:
    async def forward(request: Request) -> Response:
        async with session.post(upstream, data=await request.body(), headers=_headers("x")) as answer:
            return Response(await answer.read(), answer.status, media_type="application/json")

    return Starlette(routes=[Route("/v1/messages", forward, methods=["POST"])])


async def _measure(session: aiohttp.ClientSession, subject: str, url: str, key: str) -> list[Row]:
    alone = await _load(session, url, key, 1)
    many = await _load(session, url, key, CONCURRENT)
    return [
        Row("JSON, one at a time", subject, "p50", statistics.median(alone) * 1000, "ms"),
        Row(f"JSON, {CONCURRENT} concurrent", subject, "rate", len(many) / SECONDS, "req/s"),
    ]


async def _load(session: aiohttp.ClientSession, url: str, key: str, workers: int) -> list[float]:
    """Seconds of every answer within the time; raises for any answer but 200."""
    times: list[float] = []
    end = time.perf_counter() + SECONDS

    async def work() -> None:
        while time.perf_counter() < end:
            began = time.perf_counter()
            async with session.post(url, json=BODY, headers=_headers(key)) as answer:
                answer.raise_for_status()
                await answer.read()
            times.append(time.perf_counter() - began)

    await asyncio.gather(*(work() for _ in range(workers)))
    return times


def _headers(key: str) -> dict[str, str]:
    return {"x-api-key": key, "anthropic-version": "2023-06-01", "content-type": "application/json"}


if __name__ == "__main__":
    main()
