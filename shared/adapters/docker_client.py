"""The Docker SDK's client, told what it gets wrong. Imported when first used: the SDK takes 0.2 s."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from docker import APIClient
from docker.tls import TLSConfig
from paramiko import SSHConfig

_CALL_SECONDS = 60
_KEEPALIVE_SECONDS = 30


class EngineClient(APIClient):
    """Answers of a Docker engine, or of one behind TLS or ssh."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Otherwise REQUESTS_CA_BUNDLE would take the place of the engine's own authority."""
        return super().merge_environment_settings(url, proxies, stream, self.verify if verify is None else verify, cert)


def connect(endpoint: str, certificates: tuple[str, ...]) -> EngineClient:
    """`certificates` are the files of authority, certificate and key for an endpoint at tcp://."""
    tls: TLSConfig | bool = False
    if certificates:
        ca, cert, key = certificates
        tls = TLSConfig(client_cert=(cert, key), ca_cert=ca, verify=True)
    address = _with_port(endpoint) if endpoint.startswith("ssh://") else endpoint
    client = EngineClient(address, version="auto", timeout=_CALL_SECONDS, tls=tls)
    if endpoint.startswith("ssh://"):
        _bound(client)
    return client


def _with_port(endpoint: str) -> str:
    """The SDK takes user, host and identity from ~/.ssh/config, but for an address without a port it takes 22."""
    address, config = urlsplit(endpoint), Path("~/.ssh/config").expanduser()
    if address.port or not config.is_file():
        return endpoint
    port = SSHConfig.from_path(str(config)).lookup(address.hostname or "").get("port")
    return f"{endpoint.rstrip('/')}:{port}" if port else endpoint


def _bound(client: EngineClient) -> None:
    """A host that vanished is noticed in a minute; paramiko would wait for an hour."""
    adapter: Any = client.get_adapter("http+docker://ssh")
    transport = adapter.ssh_client.get_transport()
    transport.channel_timeout = _CALL_SECONDS
    transport.set_keepalive(_KEEPALIVE_SECONDS)
