"""Secrets in Azure Key Vault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.adapters import layout
from shared.core.errors import TooLarge, Unavailable

if TYPE_CHECKING:  # only when first used: the SDK takes long to import
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.keyvault.secrets.aio import SecretClient

LARGEST = 25_600
"""Bytes of a value: learn.microsoft.com/azure/key-vault/secrets/about-secrets."""
_WAITS = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each try of a put: a deletion or recovery under way takes some."""


class KeyVaultSecrets:
    """Secrets of the vault at `vault_url`; its names do not tell upper from lower case.

    A vault keeps what was deleted for its retention time, and its name with it: putting such a name again recovers
    it first, so that its former value may be read until the new one is there. Vaults may forbid to purge.
    """

    def __init__(
        self,
        vault_url: str,
        credential: AsyncTokenCredential,
        ca_file: Path | None = None,
        waits: Sequence[float] = _WAITS,
    ) -> None:
        """`ca_file`: certificates to trust instead of the system's."""
        self._vault_url, self._credential = vault_url, credential
        self._ca_file, self._waits = ca_file, waits
        self._connected: SecretClient | None = None

    async def put(self, name: str, value: str) -> None:
        if len(value.encode()) > LARGEST:
            raise TooLarge(f"A secret of {len(value.encode())} bytes: at most {LARGEST} can be kept.")
        for wait in self._waits:
            await asyncio.sleep(wait)
            if await self._answered(name, lambda vault: _set(vault, name, value)):
                return
        raise Unavailable(f"The key vault is still deleting or recovering {name}. Try again in a moment.")

    async def get(self, name: str) -> str | None:
        from azure.core.exceptions import ResourceNotFoundError

        async def read(vault: SecretClient) -> str | None:
            try:
                return (await vault.get_secret(name)).value
            except ResourceNotFoundError:
                return None

        return await self._answered(name, read)

    async def delete(self, name: str) -> None:
        from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

        async def remove(vault: SecretClient) -> None:
            try:
                await vault.delete_secret(name)
            except ResourceNotFoundError:
                return
            except HttpResponseError as error:
                if _conflict(error) not in ("ObjectIsBeingDeleted", "ObjectIsDeletedButRecoverable"):
                    raise

        await self._answered(name, remove)

    async def close(self) -> None:
        if self._connected is not None:
            await self._connected.close()
            self._connected = None

    async def _answered[T](self, name: str, call: Callable[[SecretClient], Awaitable[T]]) -> T:
        from azure.core.exceptions import AzureError, HttpResponseError

        layout.secret_file(Path("/"), name)  # the same names as on disk, and no others
        try:
            return await call(self._client())
        except HttpResponseError as error:
            if error.status_code in (401, 403):
                raise Unavailable(
                    "The key vault refuses the platform's identity. Give it the role Key Vault Secrets Officer."
                ) from error
            raise Unavailable(f"The key vault does not do this ({_code(error)}). Try again in a moment.") from error
        except (TimeoutError, AzureError) as error:
            raise Unavailable("The key vault does not answer. Check KEY_VAULT_URL, or try again.") from error

    def _client(self) -> SecretClient:
        from azure.keyvault.secrets.aio import SecretClient

        if self._connected is None:
            options: dict[str, Any] = {"retry_total": 3, "retry_backoff_factor": 0.2}
            options |= {"connection_timeout": 3, "read_timeout": 20}
            if self._ca_file:
                options["connection_verify"] = str(self._ca_file)
            try:
                self._connected = SecretClient(self._vault_url, self._credential, **options)
            except ValueError as error:
                raise Unavailable("The key vault is not configured: check KEY_VAULT_URL.") from error
        return self._connected


async def _set(vault: SecretClient, name: str, value: str) -> bool:
    """False when it has to be tried again, for the name is not free yet."""
    from azure.core.exceptions import HttpResponseError

    try:
        await vault.set_secret(name, value)
    except HttpResponseError as error:
        match _conflict(error):
            case "":
                raise
            case "ObjectIsDeletedButRecoverable":
                return await _recover(vault, name)
            case _:
                return False
    return True


async def _recover(vault: SecretClient, name: str) -> bool:
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    try:
        await vault.recover_deleted_secret(name)
    except ResourceNotFoundError:
        return False  # somebody else was faster
    except HttpResponseError as error:
        if not _conflict(error):
            raise
    return False


def _conflict(error: Any) -> str:
    """What stands in the way, empty when it is nothing of that kind: `{"error": {.., "innererror": {"code": ..}}}`."""
    if error.status_code != 409:
        return ""
    return str((getattr(error.error, "innererror", None) or {}).get("code") or "Conflict")


def _code(error: Any) -> str:
    return str(getattr(error.error, "code", None) or error.status_code or "no answer")
