"""A container's output as it comes, from any earlier place on.

The engine gives each piece a time in nanoseconds. A cursor is that time and which of the pieces of this time it was, so
reading on needs no memory of ours.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shared.core.errors import NotFound, PlatformError, Unavailable
from shared.core.ports import LogChunk

if TYPE_CHECKING:
    from docker import APIClient

    from shared.adapters.docker_engine import DockerEngine


async def follow(engine: DockerEngine, container: str, name: str, after: str) -> AsyncGenerator[LogChunk]:
    """Raises NotFound, or Unavailable when the stream ended before the container did, or the engine is gone."""
    state = "running"
    while state == "running":
        reader = _Reader(engine, container, name, after, wait=True)
        async for chunk in reader.chunks():
            after = chunk.cursor
            yield chunk
        state = await engine.call(lambda api: _state(api, container))
        if state == "running" and not reader.heard_nothing:
            raise Unavailable(f"The output of {name} was cut off. Read on after the last cursor.")
    if state == "ended":  # what was printed while nobody listened
        async for chunk in _Reader(engine, container, name, after, wait=False).chunks():
            yield chunk


class _Reader:
    """Pieces that a thread reads from the engine."""

    def __init__(self, engine: DockerEngine, container: str, name: str, after: str, *, wait: bool) -> None:
        self._engine, self._container, self._name, self._after = engine, container, name, after
        self._wait, self._loop = wait, asyncio.get_running_loop()
        self._queue: asyncio.Queue[LogChunk | BaseException | None] = asyncio.Queue()
        self._stream: Any = None
        self.heard_nothing = False
        """It gave up because nothing came for long: the container is quiet, or the engine is gone."""
        self._closed = threading.Event()

    async def chunks(self) -> AsyncGenerator[LogChunk]:
        threading.Thread(target=self._pump, name=f"logs-{self._name}", daemon=True).start()
        try:
            while (item := await self._queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self._closed.set()
            await asyncio.to_thread(self._close)

    def _pump(self) -> None:
        from docker.errors import NotFound as Gone

        try:
            self._engine.blocking(self._read)
        except Gone:
            self._put(NotFound(f"{self._name} is not on this host."))
        except PlatformError as error:
            self._put(error)
        finally:
            self._put(None)

    def _read(self, api: APIClient) -> None:
        """A broken connection is repeated by the engine: what was passed on already is not passed on again."""
        from paramiko import SSHException
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        since = _seconds(self._after)
        options: dict[str, Any] = {"since": since} if since else {}
        self._stream = api.logs(self._container, stream=True, follow=self._wait, timestamps=True, **options)
        if self._closed.is_set():
            self._close()
        try:
            for chunk in _numbered(self._stream, self._after):
                self._after = chunk.cursor
                self._put(chunk)
        except (TimeoutError, ReadTimeoutError):
            self.heard_nothing = True
        except (OSError, EOFError, HTTPError, SSHException, AttributeError, ValueError):
            if not self._closed.is_set():  # else it was closed in the middle of a read
                raise

    def _put(self, item: LogChunk | BaseException | None) -> None:
        if not self._closed.is_set() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    def _close(self) -> None:
        from docker.errors import DockerException

        stream = self._stream
        if stream is None:
            return
        try:
            stream.close()
        except (DockerException, OSError, AttributeError, ValueError):  # over ssh, or closed at the other end
            stream._response.close()


def _numbered(frames: Iterable[bytes], after: str) -> Iterator[LogChunk]:
    """Pieces behind the cursor. The engine drops the oldest first: if its first is younger, the cursor's is gone."""
    moment, count, skipping = "", 0, bool(after)
    for frame in frames:
        time, _, text = frame.partition(b" ")
        stamp = time.decode()
        count = count + 1 if stamp == moment else 1
        if skipping and not moment and stamp > after.partition("/")[0]:
            skipping = False
        moment, cursor = stamp, f"{stamp}/{count}"
        if not skipping:
            yield LogChunk(cursor, text.decode(errors="replace"))
        elif cursor == after:
            skipping = False


def _seconds(cursor: str) -> int:
    """A whole second before the cursor's moment, which the engine counts from; 0 for the start."""
    if not cursor:
        return 0
    return int(datetime.fromisoformat(cursor[:19] + "+00:00").timestamp()) - 1


def _state(api: APIClient, container: str) -> str:
    from docker.errors import NotFound as Gone

    try:
        status = api.inspect_container(container)["State"]["Status"]
    except Gone:
        return "gone"
    return "ended" if status in ("exited", "dead", "created") else "running"
