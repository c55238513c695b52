"""The way from containers to the local cloud: servers at the gateways of its networks, where only members get in.

A container cannot reach this machine's loopback, and nothing of the local cloud may be open to other machines.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv4Network, ip_address
from typing import Any, Self

from docker import APIClient
from docker.errors import DockerException
from urllib3.exceptions import HTTPError

from shared.adapters.docker_containers import PLATFORM
from shared.core.log import Log

log = Log(__name__)

_CHUNK = 65_536
_PAUSE = 1.0
"""Seconds until what failed is tried again."""
_ENGINE_ERRORS = (OSError, DockerException, HTTPError)


class Gateways:
    """While entered, each gateway passes connections on to the loopback. Networks come and go as the engine says."""

    def __init__(self, endpoint: str, platform: str, ports: Mapping[int, int]) -> None:
        """`ports`: port at the gateways -> port of the loopback."""
        self._endpoint, self._platform, self._ports = endpoint, platform, dict(ports)
        self._open: dict[IPv4Network, list[asyncio.Server]] = {}
        self._changed = asyncio.Event()
        self._news = _News(endpoint, self._changed.set)
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._news.start()
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._news.stop()
        if self._following:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        for network in list(self._open):
            self._close(network)

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._adapt(await asyncio.to_thread(self._gateways))
            except _ENGINE_ERRORS as error:
                log.warning("gateways.postponed", reason=str(error))
                await asyncio.sleep(_PAUSE)
                self._changed.set()

    def _gateways(self) -> dict[IPv4Network, str]:
        """The platform's networks, each with its gateway."""
        with contextlib.closing(APIClient(self._endpoint, version="auto")) as api:
            found = api.networks(filters={"label": f"{PLATFORM}={self._platform}"})
        pools = [pool for each in found for pool in each["IPAM"]["Config"] or ()]
        return {IPv4Network(pool["Subnet"]): pool["Gateway"] for pool in pools}

    async def _adapt(self, gateways: Mapping[IPv4Network, str]) -> None:
        """Raises the last OSError when some gateway could not be listened at; the others are served all the same."""
        failure: OSError | None = None
        for network in self._open.keys() - gateways.keys():
            self._close(network)
        for network in gateways.keys() - self._open.keys():
            try:
                await self._listen(network, gateways[network])
            except OSError as error:
                failure = error
        if failure:
            raise failure

    async def _listen(self, network: IPv4Network, gateway: str) -> None:
        servers = self._open[network] = []
        try:
            for port, inner in self._ports.items():
                servers.append(await asyncio.start_server(_guarded(network, inner), gateway, port))
        except OSError:
            self._close(network)
            raise

    def _close(self, network: IPv4Network) -> None:
        for server in self._open.pop(network):
            server.close()
            server.abort_clients()


class _News:
    """Calls `tell` in the running loop after each change of the networks, and when one may have been missed."""

    def __init__(self, endpoint: str, tell: Callable[[], object]) -> None:
        self._endpoint, self._tell = endpoint, tell
        self._stopped = threading.Event()
        self._stream: Any = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, args=(loop,), name="docker-networks", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        if self._stream is not None:
            with contextlib.suppress(*_ENGINE_ERRORS, AttributeError, ValueError):  # closed at the other end
                self._stream.close()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(*_ENGINE_ERRORS, AttributeError, ValueError):
                self._read(loop)
            self._stopped.wait(_PAUSE)

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.closing(APIClient(self._endpoint, version="auto")) as api:
            self._stream = api.events(filters={"type": "network", "event": ["create", "destroy"]})
            self._call(loop)
            for _ in self._stream:
                self._call(loop)

    def _call(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._stopped.is_set():
            loop.call_soon_threadsafe(self._tell)


type _Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _guarded(network: IPv4Network, port: int) -> _Accept:
    """Other machines may have a route to the gateway: who is not in its network is turned away."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if ip_address(writer.get_extra_info("peername")[0]) in network:
                await _pass_on(reader, writer, port)
        except OSError:  # nobody listens there, or one of both went away
            pass
        finally:
            writer.close()

    return accept


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_pump(reader, inner_writer))
            both.create_task(_pump(inner_reader, writer))
    except* OSError as errors:
        raise errors.exceptions[0] from None
    finally:
        inner_writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(_CHUNK):
        sink.write(chunk)
        await sink.drain()
    sink.write_eof()
