"""What is measured, each in a process that imports nothing else: `python -m bench.llm_served WHAT PORT [OPTION...]`."""

import sys
from typing import Any


def upstream(port: int) -> None:
    import asyncio

    from bench import llm_wire

    asyncio.run(llm_wire.serve_upstream(port))


def ours(port: int) -> None:
    """The API as the function app serves it, without triggers: what Azure scales for HTTP alone."""
    import uvicorn

    from functions.app import create_app
    from functions.platform import platform

    uvicorn.run(create_app(platform()), port=port, log_level="warning", access_log=False)


def bare(port: int, upstream: str, redis_url: str) -> None:
    """As little as a gateway in Python can do: count a request in Redis, pass it on and back."""
    import aiohttp
    import redis.asyncio
    import uvicorn

    made: list[tuple[aiohttp.ClientSession, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if not made:
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
            made.append((session, redis.asyncio.from_url(redis_url, max_connections=1000)))
        session, counters = made[0]
        content, more = b"", True
        while more:
            part = await receive()
            content, more = content + part.get("body", b""), part.get("more_body", False)
        await counters.incr("bench")
        headers = {name.decode(): value.decode() for name, value in scope["headers"] if name != b"host"}
        async with session.post(upstream + scope["path"], data=content, headers=headers) as answer:
            kind = answer.headers["content-type"].encode()
            await send({"type": "http.response.start", "status": answer.status, "headers": [(b"content-type", kind)]})
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    uvicorn.run(app, port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    what, port, *arguments = sys.argv[1:]
    {"upstream": upstream, "ours": ours, "bare": bare}[what](int(port), *arguments)
