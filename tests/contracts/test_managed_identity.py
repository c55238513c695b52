"""The stores in Azure, opened by an identity instead of a key: Azurite with OAuth over TLS, the vault's emulator."""

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from local import certs
from local.azurite import Azurite
from local.azurite import missing as azurite_missing
from local.certs import Certificates
from local.keyvault import KeyVault, create_app
from shared.adapters.storage_account import identity_endpoint
from tests.requires import require
from tests.serving import base_url, listening_socket, serve

ROOT = Path(__file__).parents[2]


class SecureAzurite(Azurite):
    """Over TLS, where it takes the tokens of identities."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates
        super().__init__()

    def argv(self, folder: Path) -> list[str]:
        pem = str(self._certificates.server)
        return [*super().argv(folder), "--oauth", "basic", "--cert", pem, "--key", pem]

    async def answers(self) -> bool:
        trust = ssl.create_default_context(cafile=str(self._certificates.ca))
        for port in (self.ports.blob, self.ports.table):
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
                writer.close()
                continue
            return False
        return True

    @property
    def keyless(self) -> str:
        base = "https://127.0.0.1"
        return (
            f"TableEndpoint={base}:{self.ports.table}/devstoreaccount1;"
            f"BlobEndpoint={base}:{self.ports.blob}/devstoreaccount1"
        )


@pytest.fixture(scope="module")
async def environment(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Mapping[str, str]]:
    """What a function app with an identity finds in its environment."""
    require(not azurite_missing(), azurite_missing())
    certificates = certs.ensure(tmp_path_factory.mktemp("identity-certificates"))
    sock = listening_socket()
    vault = KeyVault(base_url(sock, tls=True))
    app = create_app(vault)
    async with (
        SecureAzurite(certificates) as azurite,
        serve(app, sock, certfile=certificates.server),
        serve(app) as identity_url,
    ):
        yield {
            "PATH": os.environ["PATH"],
            "STORE": "tables",
            "STORAGE_CONNECTION": azurite.keyless,
            "KEY_VAULT_URL": vault.url,
            "AZURE_CLIENT_ID": "platform",
            "IDENTITY_ENDPOINT": f"{identity_url}/msi/token",
            "IDENTITY_HEADER": vault.identity_header,
            "SSL_CERT_FILE": str(certificates.bundle),
        }


async def child(environment: Mapping[str, str]) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.contracts.identity_child",
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, output.decode()


async def test_an_identity_opens_tables_blobs_and_the_vault(environment):
    code, output = await child(environment)
    assert (code, output) == (0, "{'n': 1} {'id': 'a', 'sequence': 1} b'diff' value\n")


async def test_an_identity_that_is_refused_finds_the_storage_unavailable(environment):
    code, output = await child({**environment, "IDENTITY_HEADER": "another"})
    assert code == 1
    assert output.splitlines()[-1].startswith("unavailable: ")


@pytest.mark.parametrize(
    ("connection", "endpoint"),
    [
        ("AccountName=kanban", "https://kanban.table.core.windows.net"),
        ("AccountName=kanban;EndpointSuffix=core.chinacloudapi.cn", "https://kanban.table.core.chinacloudapi.cn"),
        ("TableEndpoint=https://t.example/a;BlobEndpoint=https://b.example", "https://t.example/a"),
        ("AccountName=kanban;AccountKey=a2V5", None),
        ("AccountName=kanban;SharedAccessSignature=sv=1", None),
        ("TableEndpoint=http://127.0.0.1:1/a;AccountName=a;AccountKey=a2V5", None),
        ("UseDevelopmentStorage=true", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_only_a_connection_string_without_a_key_needs_an_identity(connection, endpoint):
    assert identity_endpoint(connection, "Table") == endpoint
