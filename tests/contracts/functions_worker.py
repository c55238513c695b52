"""Drives Microsoft's Python worker library on a function app folder and prints what happened as JSON.

    python tests/contracts/functions_worker.py FOLDER index|drive

A process of its own, because a FunctionApp can be indexed once in one. The library takes its messages as objects
with protobuf's attributes, so plain namespaces stand in for them and no host is needed.
"""

import asyncio
import json
import resource
import sys
import time
import uuid
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import azure_functions_runtime as worker
import httpx
from azure_functions_runtime.http_v2 import http_coordinator


class Message(SimpleNamespace):
    """Any protobuf message: an attribute that was not set reads as empty."""

    def __getattr__(self, name: str) -> Any:
        return None if name.startswith("__") else ""


class StatusResult(Message):
    Failure, Success = 0, 1


BindingInfo = type("BindingInfo", (Message,), {"in": 0, "out": 1, "inout": 2, "undefined": 0})


class Protos:
    StatusResult, BindingInfo = StatusResult, BindingInfo

    def __getattr__(self, name: str) -> type[Message]:
        return Message


def one_of(**field: Any) -> SimpleNamespace:
    """A message with a `oneof`, of which `field` is set."""
    ((name, value),) = field.items()
    return SimpleNamespace(WhichOneof=lambda _: name, **{name: value})


def request(**body: Any) -> SimpleNamespace:
    return SimpleNamespace(request=SimpleNamespace(**body), properties={"protos": Protos(), "host": "127.0.0.1"})


class Worker:
    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.functions: dict[str, Any] = {}
        self.http_uri = ""

    async def index(self) -> dict[str, list[dict[str, Any]]]:
        init = SimpleNamespace(capabilities={}, function_app_directory=self.folder)
        started = await worker.worker_init_request(request(worker_init_request=init))
        if started.result.status != StatusResult.Success:
            raise RuntimeError(str(started.result.exception))
        self.http_uri = started.capabilities.get("HttpUri", "")
        indexed = await worker.functions_metadata_request(request())
        if indexed.result.status != StatusResult.Success:
            raise RuntimeError(str(indexed.result.exception.message))
        self.functions = {each.name: each for each in indexed.function_metadata_results}
        return {name: [json.loads(raw) for raw in each.raw_bindings] for name, each in self.functions.items()}

    async def invoke(self, name: str, argument: str, data: Any, metadata: Any = None, invocation: str = "") -> Any:
        invocation = invocation or str(uuid.uuid4())
        call = SimpleNamespace(
            invocation_id=invocation,
            function_id=self.functions[name].function_id,
            input_data=[SimpleNamespace(name=argument, WhichOneof=lambda _: "data", data=data)],
            trigger_metadata=metadata or {},
            trace_context=SimpleNamespace(trace_parent="", trace_state="", attributes={}),
            retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
        )
        return await worker.invocation_request(request(invocation_request=call))

    async def until_serving(self) -> None:
        port = httpx.URL(self.http_uri).port
        for _ in range(500):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
        raise RuntimeError("The worker's HTTP server did not start.")


async def stream(
    app: Worker, method: str, path: str, content: AsyncGenerator[bytes] | None = None, chunks: int = 0
) -> dict[str, Any]:
    """One request through the worker's own server, paired with its invocation by the header, as the host does.

    Leaves after `chunks` chunks, when given.
    """
    invocation, begun, got = str(uuid.uuid4()), time.monotonic(), list[tuple[float, str]]()
    rpc = SimpleNamespace(method="", url="", headers={}, body=one_of(bytes=b""), params={"path": path}, query={})
    invoked = asyncio.create_task(app.invoke("events", "req", one_of(http=rpc), invocation=invocation))
    async with (
        httpx.AsyncClient(base_url=app.http_uri, timeout=20) as client,
        client.stream(
            method, f"/api/events/{path}", content=content, headers={"x-ms-invocation-id": invocation}
        ) as answer,
    ):
        async for chunk in answer.aiter_raw():
            got.append((round(time.monotonic() - begun, 2), chunk.decode()))
            if len(got) == chunks:
                break
    return {"http": answer.status_code, "chunks": got, "status": (await invoked).result.status}


async def upload(app: Worker) -> dict[str, Any]:
    """30 MiB in pieces, and by how many bytes this process, client and worker, has been larger meanwhile."""

    async def pieces() -> AsyncGenerator[bytes]:
        for _ in range(480):
            yield b"x" * 65_536

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = await stream(app, "POST", "upload", pieces())
    return {**answer, "grown": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024}


async def drive(app: Worker) -> dict[str, Any]:
    bindings = await app.index()
    await app.until_serving()
    metadata = {
        "Id": one_of(string="m1"),
        "DequeueCount": one_of(json="2"),
        "InsertionTime": one_of(json='"2026-11-01T10:00:00+00:00"'),
    }
    queued = await app.invoke("work", "message", one_of(string="hello"), metadata)
    failed = await app.invoke("work", "message", one_of(string="fail"), metadata)
    timer = await app.invoke("sweep", "timer", one_of(json='{"IsPastDue": true}'))
    return {
        "bindings": bindings,
        "stream": await stream(app, "GET", "stream"),
        "upload": await upload(app),
        "left": await stream(app, "GET", "endless", chunks=1),
        "seen": await stream(app, "GET", "seen"),
        "queue": queued.result.status,
        "queue_failure": {"status": failed.result.status, "message": failed.result.exception.message},
        "timer": timer.result.status,
        "kept": len(http_coordinator._context_references),
    }


async def main(folder: str, mode: str) -> None:
    sys.path.insert(0, folder)
    worker.start_threadpool_executor()
    app = Worker(folder)
    print("RESULT " + json.dumps(await (app.index() if mode == "index" else drive(app))), flush=True)
    worker.stop_threadpool_executor()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
