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

CERTIFICATES = ("ca.pem", "cert.pem", "key.pem")
_SCHEMES = ("unix", "tcp", "ssh")
_TIMEOUT = 60
_THREADS = 16


class DockerEngine:
    """Calls block, so they run in threads. One whose connection broke is repeated once: all calls are ensure-style."""

    def __init__(self, endpoint: str, certificates: str = "") -> None:
        """`certificates` is a folder with ca.pem, cert.pem and key.pem. ssh uses ~/.ssh/config and known_hosts."""
        self.endpoint = endpoint
        self._certificates = _checked(endpoint, certificates)
        self._client: APIClient | None = None
        self._connecting = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, "docker")

    async def call[T](self, act: Callable[[APIClient], T]) -> T:
        """docker.errors.NotFound passes; everything else is Unavailable, Conflict or Invalid."""
        loop = asyncio.get_running_loop()
        return await to_its_end(loop.run_in_executor(self._threads, self.blocking, act))

    def blocking[T](self, act: Callable[[APIClient], T]) -> T:
        from docker import errors
        from paramiko import SSHException
        from urllib3.exceptions import HTTPError

        for attempt in (1, 2):
            try:
                return act(self._connected())
            except errors.NotFound:
                raise
            except errors.APIError as error:
                raise _refusal(error) from error
            except (OSError, EOFError, SSHException, HTTPError) as error:
                self._forget()
                if attempt == 2:
                    raise self._silent(error) from error
            except errors.DockerException as error:
                raise self._silent(error) from error
        raise AssertionError

    async def close(self) -> None:
        await asyncio.to_thread(self._forget)
        self._threads.shutdown(wait=False)

    def _connected(self) -> APIClient:
        from docker import APIClient
        from docker.tls import TLSConfig

        with self._connecting:
            if self._client is None:
                tls: TLSConfig | None = None
                if self._certificates:
                    ca, cert, key = (str(self._certificates / name) for name in CERTIFICATES)
                    tls = TLSConfig(client_cert=(cert, key), ca_cert=ca, verify=True)
                self._client = APIClient(self.endpoint, version="auto", timeout=_TIMEOUT, tls=tls or False)
            return self._client

    def _forget(self) -> None:
        with self._connecting:
            client, self._client = self._client, None
        if client:
            client.close()

    def _silent(self, error: Exception) -> Unavailable:
        return Unavailable(f"The container engine at {self.endpoint} does not answer: {_innermost(error)}")


def _checked(endpoint: str, certificates: str) -> Path | None:
    """The folder of certificates that this endpoint needs. Raises Invalid."""
    scheme = urlsplit(endpoint).scheme
    if scheme not in _SCHEMES:
        raise Invalid(f"DOCKER_HOST={endpoint!r} is not an engine. Use unix://, tcp:// (with TLS) or ssh://.")
    if scheme != "tcp":
        return None
    missing = [name for name in CERTIFICATES if not (Path(certificates) / name).is_file()]
    if not certificates or missing:
        raise Invalid(
            "An engine at tcp:// is reached with client certificates only: DOCKER_CERT_PATH must name a folder with "
            f"{', '.join(CERTIFICATES)}" + (f" (missing: {', '.join(missing)})." if certificates else ".")
        )
    return Path(certificates)


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
