"""The Docker SDK's client, told what it gets wrong. Imported when first used: the SDK takes 0.2 s.

No wait is without end: an engine's machine may vanish, and its end of a connection never says so.
"""

from typing import Any

from docker import APIClient
from docker.constants import DEFAULT_DOCKER_API_VERSION, DEFAULT_NUM_POOLS_SSH
from docker.tls import TLSConfig
from docker.transport import SSHHTTPAdapter

_SSH_PORT = 22
_KEEPALIVE_SECONDS = 30


class EngineClient(APIClient):
    """Answers of a Docker engine, or of one behind TLS."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Otherwise REQUESTS_CA_BUNDLE would take the place of the engine's own authority."""
        return super().merge_environment_settings(url, proxies, stream, self.verify if verify is None else verify, cert)

    def _disable_socket_timeout(self, socket: Any) -> None:
        """Streams keep the timeout of calls: who reads one asks whether the container is quiet or the engine gone."""


class SshClient(EngineClient):
    """Answers of an engine behind ssh. The SDK would make its adapter, and connect, before anything can be limited."""

    def __init__(self, endpoint: str, seconds: int) -> None:
        super().__init__("tcp://ssh:22", version=DEFAULT_DOCKER_API_VERSION, timeout=seconds)
        self._custom_adapter = _SshAdapter(endpoint, seconds)
        self.adapters.clear()
        self.base_url = "http+docker://ssh"
        self.mount(self.base_url, self._custom_adapter)
        self._version = self.version(api_version=False)["ApiVersion"]


class _SshAdapter(SSHHTTPAdapter):
    """User, host, port and identity come from ~/.ssh/config where the address does not tell them."""

    def __init__(self, endpoint: str, seconds: int) -> None:
        self._seconds = seconds
        super().__init__(endpoint, timeout=seconds, pool_connections=DEFAULT_NUM_POOLS_SSH)

    def _connect(self) -> None:
        """Paramiko would wait for minutes to connect and for an hour to open a channel."""
        made: Any = self
        where = made.ssh_params | {"port": made.ssh_params["port"] or _SSH_PORT}
        limits = ("timeout", "banner_timeout", "auth_timeout", "channel_timeout")
        made.ssh_client.connect(**where, **dict.fromkeys(limits, self._seconds))
        made.ssh_client.get_transport().set_keepalive(_KEEPALIVE_SECONDS)


def connect(endpoint: str, certificates: tuple[str, ...], seconds: int) -> EngineClient:
    """`certificates` are the files of authority, certificate and key for an endpoint at tcp://."""
    if endpoint.startswith("ssh://"):
        return SshClient(endpoint, seconds)
    tls: TLSConfig | bool = False
    if certificates:
        ca, cert, key = certificates
        tls = TLSConfig(client_cert=(cert, key), ca_cert=ca, verify=True)
    return EngineClient(endpoint, version="auto", timeout=seconds, tls=tls)
