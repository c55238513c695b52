"""Runs a Python function app without Azure Functions Core Tools: `python -m local.host --port 7071 --app-dir .`

Settings come from the environment, and with `--settings` from a local.settings.json too; among them connection
strings (AzureWebJobsStorage, or the setting a trigger names). SIGTERM and
SIGINT stop the listeners, let running invocations finish for a few seconds, and end the process with code 0.
"""

import argparse
import asyncio
import contextlib
import math
import os
import signal
import socket
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import uvicorn
import uvloop
from azure.storage.queue.aio import QueueServiceClient

from local import host_app, host_config, local_settings
from local.host_app import AppInvalid, Function, HttpFunction, QueueFunction, TimerFunction
from local.host_config import HostConfig
from local.host_http import HttpFunctions
from local.host_queues import QueueListener, poison_queue
from local.host_timers import TimerListener
from local.serving import IDLE_SECONDS
from shared.core.log import Log, to_stderr

GRACE = 5.0
_BACKLOG = 2048
_POISON_POLL = 10.0
"""Seconds. Whatever this host moves to a poison queue is fetched at once; what functions or others send there waits."""
_SETTLE = 2.0  # to give cancelled messages back
# The SDK's own retries start at 15 s; a poll that fails is repeated by the next poll anyway.
_RETRY: dict[str, Any] = {"retry_total": 2, "initial_backoff": 1, "increment_base": 1}

log = Log("local.host")


class FunctionHost:
    """`async with FunctionHost(functions, config, env, port=0) as host: host.port`; leaving stops it gracefully."""

    def __init__(
        self,
        functions: Sequence[Function],
        config: HostConfig,
        env: Mapping[str, str],
        *,
        port: int = 0,
        address: str = "127.0.0.1",
        grace: float = GRACE,
    ) -> None:
        self._grace = grace
        self._config = config
        self._env = env
        self._functions = [self._nudging(each) for each in functions]
        self._bind = (address, port)
        self._queues: list[QueueListener] = []
        self._timers = [TimerListener(each) for each in self._functions if isinstance(each, TimerFunction)]
        http = [each for each in functions if isinstance(each, HttpFunction)]
        self._server = _Server(HttpFunctions(http, config.route_prefix, self._nudge), grace)
        self._services = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self.port = port

    async def __aenter__(self) -> Self:
        try:
            self._queues = await self._queue_listeners()
            listening = self._listen()
        except BaseException:
            await self._services.aclose()
            raise
        self.port = listening.getsockname()[1]
        runs = [self._server.serve([listening]), *(one.run() for one in (*self._queues, *self._timers))]
        self._tasks = [asyncio.create_task(run) for run in runs]
        await self._server.ready.wait()
        log.info("host.started", port=self.port, functions=[each.name for each in self._functions])
        return self

    async def __aexit__(self, *_: object) -> None:
        """Everything stops taking work at once; what runs has `grace` seconds."""
        self._server.should_exit = True
        for listener in (*self._queues, *self._timers):
            listener.stop()
        await asyncio.wait(self._tasks, timeout=self._grace + _SETTLE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._services.aclose()
        log.info("host.stopped")

    async def failed(self) -> None:
        """Raises when the server or a listener ends by an error, which none should ever do."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    def _nudging(self, function: Function) -> Function:
        if isinstance(function, HttpFunction):  # its work is done when its response has been sent, not when it returns
            return function

        async def call(**arguments: object) -> None:
            try:
                await function.call(**arguments)
            finally:
                self._nudge()

        return replace(function, call=call)

    def _nudge(self) -> None:
        for queue in self._queues:
            if queue.fed_by_functions:
                queue.nudge()

    def _poisoned(self, name: str) -> None:
        for queue in self._queues:
            if queue.queue == name:
                queue.nudge()

    def _listen(self) -> socket.socket:
        # With the protocol named, asyncio turns Nagle's algorithm off; it costs 40 ms an answer otherwise.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(self._bind)
            listening.listen(_BACKLOG)
            return listening
        except OSError as error:
            listening.close()
            raise AppInvalid(f"Cannot listen on port {self._bind[1]} ({error.strerror}): choose another one.") from None

    async def _queue_listeners(self) -> list[QueueListener]:
        services: dict[str, QueueServiceClient] = {}
        listeners: list[QueueListener] = []
        functions = [each for each in self._functions if isinstance(each, QueueFunction)]
        fed_here = {poison_queue(each.queue) for each in functions}
        for function in functions:
            if function.connection not in services:
                services[function.connection] = await self._connect(function)
            service, options = services[function.connection], self._config.queues
            if function.queue in fed_here:
                options = replace(options, max_polling_interval=max(_POISON_POLL, options.max_polling_interval))
            listeners.append(QueueListener(service, function, options, self._grace, self._poisoned))
        return listeners

    async def _connect(self, function: QueueFunction) -> QueueServiceClient:
        """One client, hence one HTTP session, for all queues of a connection."""
        name = function.connection
        text = self._env.get(name) or self._env.get(f"AzureWebJobs{name}")
        if not text:
            raise AppInvalid(f"Function {function.name} needs a connection string in the setting {name}.")
        try:
            service = QueueServiceClient.from_connection_string(text, **_RETRY)
        except ValueError as error:
            raise AppInvalid(f"The setting {name} is not a connection string: {error}") from None
        return await self._services.enter_async_context(service)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the host decides when to stop."""

    def __init__(self, app: HttpFunctions, grace: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                access_log=False,
                log_config=None,
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=math.ceil(grace),
                timeout_keep_alive=IDLE_SECONDS,
            )
        )
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def run(functions: Sequence[Function], config: HostConfig, env: Mapping[str, str], port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with FunctionHost(functions, config, env, port=port) as host:
        waiting = [asyncio.create_task(stopped.wait()), asyncio.create_task(host.failed())]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        for task in done:
            task.result()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.host", description="Runs a function app on this machine.")
    parser.add_argument("--port", type=int, default=7071)
    parser.add_argument("--app-dir", type=Path, default=Path())
    parser.add_argument("--settings", type=Path, help="a local.settings.json; what the environment sets wins")
    options = parser.parse_args()
    folder = options.app_dir.resolve()
    try:
        if options.settings:
            os.environ.update(local_settings.over(local_settings.read(options.settings), os.environ))
        to_stderr(os.environ.get("LOG_LEVEL", "INFO"))
        config = host_config.read(folder, os.environ)
        functions = host_app.read(host_app.load(folder), os.environ)
        # Not asyncio.run: it would wait for the threads of synchronous functions that outlast the grace.
        asyncio.Runner(loop_factory=uvloop.new_event_loop).run(run(functions, config, os.environ, options.port))
    except AppInvalid as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # nor must the interpreter wait for them
