"""One Docker engine at a unix socket, behind TLS or over ssh: a client made when first used, and its errors as ours."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.core.errors import Conflict, Invalid, Unavailable
from shared.core.threads import to_its_end

if TYPE_CHECKING:  # the SDK takes 0.2 s to import: only when first used
    from docker import APIClient

    from shared.adapters.docker_client import EngineClient

_SCHEMES = ("unix", "tcp", "ssh")
_CERTIFICATES = ("ca.pem", "cert.pem", "key.pem")
_THREADS = 16
_CALL_SECONDS = 60
_SESSIONS = "The engine's ssh server allows no more sessions: raise MaxSessions in its sshd_config to 100."


class DockerEngine:
    """Calls block, so they run in threads. One whose connection broke is repeated once: all calls are ensure-style."""

    def __init__(self, endpoint: str, certificates: str = "", patience: int = _CALL_SECONDS) -> None:
        """`certificates` is a folder with ca.pem, cert.pem and key.pem. ssh uses ~/.ssh/config and known_hosts.

        `patience` is how many seconds the engine may take to connect, and to say anything in an answer.
        """
        self.endpoint = endpoint
        self._certificates = _checked(endpoint, certificates)
        self._patience = patience
        self._client: EngineClient | None = None
        self._connecting = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, "docker")

    async def call[T](self, act: Callable[[APIClient], T]) -> T:
        """docker.errors.NotFound passes; everything else is Unavailable, Conflict or Invalid."""
        loop = asyncio.get_running_loop()
        return await to_its_end(loop.run_in_executor(self._threads, self.blocking, act))

    def blocking[T](self, act: Callable[[APIClient], T]) -> T:
        from docker import errors
        from paramiko import ChannelException, SSHException
        from urllib3.exceptions import HTTPError

        for attempt in (1, 2):
            client: EngineClient | None = None
            try:
                client = self._connected()
                return act(client)
            except errors.NotFound:
                raise
            except errors.APIError as error:
                raise _refusal(error) from error
            except ChannelException as error:  # the connection is sound: others go on using it
                raise Unavailable(_SESSIONS) from error
            except (OSError, EOFError, SSHException, HTTPError) as error:
                self._forget(client)
                if attempt == 2:
                    raise self._silent(error) from error
            except errors.DockerException as error:
                raise self._silent(error) from error
        raise AssertionError

    async def close(self) -> None:
        await asyncio.to_thread(self._forget, self._client)
        self._threads.shutdown(wait=False)

    def _connected(self) -> EngineClient:
        from shared.adapters.docker_client import connect

        with self._connecting:
            if self._client is None:
                self._client = connect(self.endpoint, self._certificates, self._patience)
            return self._client

    def _forget(self, client: EngineClient | None) -> None:
        """Unless another thread has replaced it already."""
        with self._connecting:
            if client is None or self._client is not client:
                return
            self._client = None
        client.close()

    def _silent(self, error: Exception) -> Unavailable:
        return Unavailable(f"The container engine at {self.endpoint} does not answer: {_innermost(error)}")


def _checked(endpoint: str, certificates: str) -> tuple[str, ...]:
    """The certificate files that this endpoint needs. Raises Invalid."""
    scheme = urlsplit(endpoint).scheme
    if scheme not in _SCHEMES:
        raise Invalid(f"DOCKER_HOST={endpoint!r} is not an engine. Use unix://, tcp:// (with TLS) or ssh://.")
    if scheme != "tcp":
        return ()
    missing = [name for name in _CERTIFICATES if not (Path(certificates) / name).is_file()]
    if not certificates or missing:
        raise Invalid(
            "An engine at tcp:// is reached with client certificates only: DOCKER_CERT_PATH must name a folder with "
            f"{', '.join(_CERTIFICATES)}" + (f" (missing: {', '.join(missing)})." if certificates else ".")
        )
    return tuple(str(Path(certificates) / name) for name in _CERTIFICATES)


def _refusal(error: Exception) -> Conflict | Invalid | Unavailable:
    status: int | None = getattr(error, "status_code", None)
    said = str(getattr(error, "explanation", "") or error)
    if status is None or status >= 500:
        return Unavailable(f"The container engine failed: {said}")
    return (Conflict if status == 409 else Invalid)(f"The container engine refused: {said}")


def _innermost(error: BaseException) -> str:
    """SDK and HTTP library wrap the reason several times."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return (str(error) or type(error).__name__).rstrip(".") + "."
