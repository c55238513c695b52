"""A Functions host around Microsoft's Python worker library: our host's triggers, their worker running the functions.

    python -m tests.contracts.worker_host FOLDER PORT

Each HTTP request goes through the worker's own server, paired with its invocation by a header. Prints a line of JSON
for each invocation of another trigger.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import azure_functions_runtime as worker
from azure.functions.queue import QueueMessage
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from yarl import URL

from local import host, host_config
from local.host_app import Call, Function, HttpFunction, QueueFunction, TimerFunction
from shared.core.log import to_stderr
from tests.contracts.functions_worker import Worker, one_of

_HOP = frozenset((b"connection", b"keep-alive", b"transfer-encoding"))
_METADATA = {
    "Id": "id",
    "DequeueCount": "dequeue_count",
    "InsertionTime": "insertion_time",
    "ExpirationTime": "expiration_time",
    "NextVisibleTime": "time_next_visible",
    "PopReceipt": "pop_receipt",
}


class Triggers:
    """What the worker indexed, as functions that our host calls."""

    def __init__(self, app: Worker, session: aiohttp.ClientSession) -> None:
        self._app, self._session = app, session

    def function(self, name: str, bindings: list[dict[str, Any]]) -> Function:
        trigger = next(each for each in bindings if each["type"].endswith("Trigger"))
        argument = trigger["name"]
        match trigger["type"]:
            case "httpTrigger":
                methods = frozenset(trigger["methods"])
                return HttpFunction(name, argument, trigger["route"], methods, self._http(name, argument))
            case "queueTrigger":
                call = self._queue(name, argument)
                return QueueFunction(name, argument, trigger["queueName"].lower(), trigger["connection"], call)
            case "timerTrigger":
                call = self._timer(name, argument)
                return TimerFunction(name, argument, trigger["schedule"], trigger["runOnStartup"], call)
            case unknown:
                raise ValueError(f"{name} has a {unknown}")

    def _http(self, name: str, argument: str) -> Call:
        async def call(**given: Request) -> Response:
            return _ThroughWorker(self._app, self._session, name, argument, given[argument].path_params)

        return call

    def _queue(self, name: str, argument: str) -> Call:
        async def call(**given: QueueMessage) -> None:
            message = given[argument]
            metadata = {there: getattr(message, here) for there, here in _METADATA.items()}
            text = message.get_body().decode()
            await self._invoked(name, argument, one_of(string=text), {k: _metadata(v) for k, v in metadata.items()})

        return call

    def _timer(self, name: str, argument: str) -> Call:
        async def call(**_: object) -> None:
            await self._invoked(name, argument, one_of(json='{"IsPastDue": false}'))

        return call

    async def _invoked(self, name: str, argument: str, data: Any, metadata: Any = None) -> None:
        answer = await self._app.invoke(name, argument, data, metadata)
        print(json.dumps({"invoked": name, "status": answer.result.status}), flush=True)
        if answer.result.status != 1:
            raise RuntimeError(answer.result.exception.message)


def _metadata(value: Any) -> SimpleNamespace:
    if isinstance(value, str):
        return one_of(string=value)
    return one_of(json=json.dumps(value.isoformat() if isinstance(value, datetime) else value))


class _ThroughWorker(Response):
    """Passes a request on to the worker's server, streaming both ways; when the client leaves, so does this."""

    def __init__(
        self, app: Worker, session: aiohttp.ClientSession, name: str, argument: str, params: dict[str, str]
    ) -> None:
        super().__init__()
        self._app, self._session, self._name, self._argument, self._params = app, session, name, argument, params

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        invocation = headers[b"x-ms-invocation-id"].decode()
        rpc = SimpleNamespace(method="", url="", headers={}, body=one_of(bytes=b""), params=self._params, query={})
        invoked = asyncio.create_task(
            self._app.invoke(self._name, self._argument, one_of(http=rpc), invocation=invocation)
        )
        read = asyncio.Event()
        passing = asyncio.create_task(self._pass(scope, _body(receive, read), send))
        leaving = asyncio.create_task(_left(receive, read))
        await asyncio.wait((passing, leaving), return_when=asyncio.FIRST_COMPLETED)
        done = passing.done()
        for task in (passing, leaving):
            task.cancel()
        await asyncio.wait((passing, leaving))
        await invoked
        if done:
            passing.result()

    async def _pass(self, scope: Scope, body: AsyncGenerator[bytes], send: Send) -> None:
        query = scope["query_string"].decode()
        url = f"{self._app.http_uri}{scope['raw_path'].decode()}" + (f"?{query}" if query else "")
        headers = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"] if name not in _HOP]
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
        if not has_body:
            async for _ in body:
                pass
        async with self._session.request(
            *(scope["method"], URL(url, encoded=True)),
            headers=headers,
            data=body if has_body else None,
            allow_redirects=False,
            skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
        ) as answer:
            lines = [(name.lower(), value) for name, value in answer.raw_headers if name.lower() not in _HOP]
            await send({"type": "http.response.start", "status": answer.status, "headers": lines})
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _body(receive: Receive, read: asyncio.Event) -> AsyncGenerator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        more = message.get("more_body", False)
        if message.get("body"):
            yield message["body"]
    read.set()


async def _left(receive: Receive, read: asyncio.Event) -> None:
    await read.wait()
    while (await receive())["type"] != "http.disconnect":
        pass


async def main(folder: Path, port: int) -> None:
    sys.path.insert(0, str(folder))
    worker.start_threadpool_executor()
    app = Worker(str(folder))
    bindings = await app.index()
    await app.until_serving()
    limitless = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(auto_decompress=False, timeout=limitless, connector=connector) as session:
        triggers = Triggers(app, session)
        functions = [triggers.function(name, each) for name, each in bindings.items()]
        await host.run(functions, host_config.read(folder, os.environ), os.environ, port)


if __name__ == "__main__":
    to_stderr(os.environ.get("LOG_LEVEL", "INFO"))
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
    sys.stdout.flush()
    os._exit(0)
