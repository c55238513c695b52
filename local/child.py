"""A server run as a child process: ready when entered, gone when left, and never outliving its parent."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

_EXEC = Path(__file__).with_name("child_exec.py")
_POLL = 0.02
_LOG_LINES = 20
_SHORT_LIFE = 10.0

Ready = Callable[[], Awaitable[bool]]


class ChildFailed(RuntimeError):
    """A child process ended, or was not ready in time. The text ends with its last log lines."""


class Child:
    """`async with Child("azurite", argv, env, log_path, ready):` enters once `ready()` answers True.

    The child leads its own process group: leaving sends the group SIGTERM, and SIGKILL after `grace` seconds.
    On Linux the kernel also ends it when the thread that started it ends, even by kill -9.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        log_path: Path,
        ready: Ready | None = None,
        *,
        cwd: Path | None = None,
        start_timeout: float = 30.0,
        grace: float = 10.0,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._argv = [str(part) for part in argv]
        self._env = dict(env)
        self._ready = ready
        self._cwd = cwd
        self._start_timeout = start_timeout
        self._grace = grace
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        return self._started().pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._started().returncode

    async def wait(self) -> int:
        return await self._started().wait()

    async def start(self) -> None:
        """Raises ChildFailed when it cannot be started, ends, or is not ready within `start_timeout` seconds."""
        try:
            await self._spawn()
        except OSError as error:
            raise ChildFailed(f"{self.name} cannot be started: {error}") from None
        try:
            async with asyncio.timeout(self._start_timeout):
                await self._until_ready()
        except TimeoutError:
            await self.stop()
            raise ChildFailed(self._report(f"was not ready within {self._start_timeout:g} s")) from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends the whole group; stopping twice is harmless."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), self._grace)
        self._signal(signal.SIGKILL)
        await self._process.wait()

    async def kill(self) -> None:
        """Ends the whole group as a power cut would; `start` runs it again."""
        self._signal(signal.SIGKILL)
        await self.wait()

    async def keep(self, tell: Callable[[str], None]) -> None:
        """Starts it again whenever it ended by itself. Raises ChildFailed when that was in vain."""
        started_again = float("-inf")
        while True:
            code = await self.wait()
            ended = self._report(f"ended by itself ({'exit code' if code >= 0 else 'signal'} {abs(code)})")
            if time.monotonic() - started_again < _SHORT_LIFE:
                raise ChildFailed(ended)
            tell(ended)
            await self.stop()  # whoever is left of its group
            await self.start()
            started_again = time.monotonic()
            tell(f"{self.name} runs again.")

    def last_log_lines(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines() if self.log_path.exists() else []
        return "\n".join(lines[-_LOG_LINES:])

    async def _spawn(self) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_EXEC), str(os.getpid()), *self._argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )

    async def _until_ready(self) -> None:
        while True:
            if self.returncode is not None:
                raise ChildFailed(self._report(f"ended with exit code {self.returncode} while starting"))
            if self._ready is None or await self._ready():
                return
            await asyncio.sleep(_POLL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise ChildFailed(f"{self.name} has not been started.")
        return self._process

    def _report(self, what: str) -> str:
        return f"{self.name} {what}. Its log ({self.log_path}) ends with:\n{self.last_log_lines()}"


async def accepts_connections(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something listens there; the usual `ready` of a server."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


def require_free(name: str, *ports: int) -> None:
    """Raises ChildFailed for a port in use: whoever has it would answer in the child's place."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise ChildFailed(f"{name} cannot use port {port} ({error.strerror}): end what uses it.") from None
