"""Every Secrets store keeps the same promises: Key Vault's with the real SDK, against the emulator over TLS."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from local import certs
from local.certs import Certificates
from local.keyvault import KeyVault, create_app
from shared.adapters.file_secrets import FileSecrets
from shared.adapters.key_vault_secrets import LARGEST, KeyVaultSecrets
from shared.adapters.managed_identity import ManagedIdentity
from shared.core.errors import TooLarge, Unavailable
from shared.core.ports import Secrets
from tests.fakes import FakeSecrets
from tests.serving import base_url, listening_socket, serve


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certs.ensure(tmp_path_factory.mktemp("vault-certificates"))


@asynccontextmanager
async def vault_on(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, settling: float = 0
) -> AsyncGenerator[tuple[KeyVault, KeyVaultSecrets]]:
    """An empty vault and a client with the identity that a function app's environment gives it."""
    sock, identity_sock = listening_socket(), listening_socket()
    vault = KeyVault(base_url(sock, tls=True), settling=settling)
    app = create_app(vault)
    async with (
        serve(app, sock, certfile=certificates.server),
        serve(app, identity_sock) as identity_url,
        ManagedIdentity() as identity,
    ):
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{identity_url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", vault.identity_header)
        secrets = KeyVaultSecrets(vault.url, identity, certificates.ca)
        yield vault, secrets
        await secrets.close()


@pytest.fixture(params=["fake", "files", "vault"])
async def secrets(
    request: pytest.FixtureRequest, tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Secrets]:
    match request.param:
        case "fake":
            yield FakeSecrets()
        case "files":
            yield FileSecrets(tmp_path)
        case _:
            async with vault_on(certificates, monkeypatch) as (_, vaulted):
                yield vaulted


async def test_a_value_comes_back_as_it_was(secrets):
    await secrets.put("webhook-t1", "whsec_ü \r\n line two\n")
    assert await secrets.get("webhook-t1") == "whsec_ü \r\n line two\n"


async def test_what_was_never_put_is_none(secrets):
    assert await secrets.get("webhook-t1") is None


async def test_put_replaces(secrets):
    await secrets.put("key", "a longer first value")
    await secrets.put("key", "second")
    assert await secrets.get("key") == "second"


async def test_delete_may_be_repeated(secrets):
    await secrets.put("key", "x")
    await secrets.delete("key")
    await secrets.delete("key")
    assert await secrets.get("key") is None


async def test_what_was_deleted_can_be_put_again(secrets):
    for value in ("first", "second"):
        await secrets.put("key", value)
        assert await secrets.get("key") == value
        await secrets.delete("key")
        assert await secrets.get("key") is None
    await secrets.put("key", "third")
    assert await secrets.get("key") == "third"


async def test_several_puts_at_once_leave_one_of_the_values(secrets):
    await secrets.put("key", "before")
    await secrets.delete("key")
    values = [f"value {n}" for n in range(4)]
    await asyncio.gather(*(secrets.put("key", value) for value in values))
    assert await secrets.get("key") in values


async def test_the_longest_name_is_kept(secrets):
    await secrets.put("x" * 127, "y")
    assert await secrets.get("x" * 127) == "y"


@pytest.mark.parametrize("name", ["", "..", "a/b", "a_b", "a.b", "a b", "ä", "a\n", "x" * 128])
async def test_only_letters_digits_and_dashes_make_a_name(secrets, name):
    for call in (secrets.put(name, "x"), secrets.get(name), secrets.delete(name)):
        with pytest.raises(ValueError, match="letters, digits and dashes"):
            await call


class TestFileSecrets:
    async def test_nobody_else_can_read_them(self, tmp_path):
        before = os.umask(0)
        try:
            await FileSecrets(tmp_path).put("key", "x")
            await FileSecrets(tmp_path).put("key", "y")
        finally:
            os.umask(before)
        assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "secrets" / "key").stat().st_mode & 0o777 == 0o600
        assert os.listdir(tmp_path / "secrets") == ["key"]

    async def test_a_folder_that_is_open_to_others_is_closed(self, tmp_path):
        (tmp_path / "secrets").mkdir(mode=0o755)
        await FileSecrets(tmp_path).put("key", "x")
        assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700

    async def test_a_folder_that_cannot_be_used_is_unavailable(self, tmp_path):
        (tmp_path / "secrets").write_text("a file where a folder must be")
        with pytest.raises(Unavailable, match="data folder"):
            await FileSecrets(tmp_path).put("key", "x")

    async def test_whoever_is_cancelled_while_putting_can_delete_it_for_good(self, tmp_path):
        secrets = FileSecrets(tmp_path)
        put = asyncio.create_task(secrets.put("key", "x" * 50_000_000))
        while not list(tmp_path.rglob("*.tmp")):
            await asyncio.sleep(0)
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        await secrets.delete("key")
        assert os.listdir(tmp_path / "secrets") == []


class TestKeyVaultSecrets:
    @pytest.fixture
    async def vaulted(
        self, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncGenerator[tuple[KeyVault, KeyVaultSecrets]]:
        async with vault_on(certificates, monkeypatch) as pair:
            yield pair

    async def test_a_challenge_is_answered_once_and_the_token_kept(self, vaulted):
        vault, secrets = vaulted
        await secrets.put("key", "x")
        for _ in range(3):
            assert await secrets.get("key") == "x"
        assert vault.tokens_given == 1

    async def test_a_token_that_has_run_out_is_replaced(self, vaulted):
        vault, secrets = vaulted
        vault.lifetime = 2
        await secrets.put("key", "x")
        vault.lifetime = 3_600
        await asyncio.sleep(2.1)
        assert await secrets.get("key") == "x"
        assert await secrets.get("key") == "x"
        assert vault.tokens_given == 2

    async def test_a_name_that_is_just_being_deleted_is_waited_for(self, certificates, monkeypatch):
        async with vault_on(certificates, monkeypatch, settling=0.4) as (vault, secrets):
            await secrets.put("key", "before")
            vault.vault.delete("key")
            await secrets.delete("key")
            await secrets.put("key", "after")
            assert await secrets.get("key") == "after"

    async def test_a_deletion_that_never_ends_is_unavailable(self, vaulted, certificates):
        vault, secrets = vaulted
        await secrets.put("key", "before")
        vault.vault.delete("key")[0].settled = float("inf")
        async with ManagedIdentity() as identity:
            hasty = KeyVaultSecrets(vault.url, identity, certificates.ca, waits=(0.0, 0.01))
            with pytest.raises(Unavailable, match="still deleting"):
                await hasty.put("key", "after")
            await hasty.close()

    async def test_a_busy_vault_is_asked_again(self, vaulted):
        vault, secrets = vaulted
        await secrets.put("key", "x")
        vault.refusing = 2
        assert await secrets.get("key") == "x"

    async def test_an_identity_without_the_role_is_told_which_one(self, vaulted):
        vault, secrets = vaulted
        vault.allowed = False
        for call in (lambda: secrets.put("key", "x"), lambda: secrets.get("key"), lambda: secrets.delete("key")):
            with pytest.raises(Unavailable, match="Key Vault Secrets Officer"):
                await call()

    async def test_too_long_a_value_is_refused(self, vaulted):
        _, secrets = vaulted
        await secrets.put("key", "x" * LARGEST)
        with pytest.raises(TooLarge, match="at most 25600"):
            await secrets.put("key", "x" * (LARGEST + 1))
        assert await secrets.get("key") == "x" * LARGEST

    async def test_no_identity_here_is_unavailable(self, vaulted, certificates, monkeypatch):
        vault, _ = vaulted
        monkeypatch.setenv("IDENTITY_HEADER", "wrong")
        async with ManagedIdentity() as stranger:
            secrets = KeyVaultSecrets(vault.url, stranger, certificates.ca)
            with pytest.raises(Unavailable):
                await secrets.get("key")
            await secrets.close()

    @pytest.mark.parametrize("url", ["", "nonsense", "http://127.0.0.1:9", "https://127.0.0.1:9"])
    async def test_a_wrong_address_is_unavailable(self, url):
        async with ManagedIdentity() as identity:
            secrets = KeyVaultSecrets(url, identity)
            with pytest.raises(Unavailable, match="KEY_VAULT_URL"):
                await secrets.get("key")
            await secrets.close()
