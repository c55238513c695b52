"""The function app's own identity, as the credential that Azure's SDKs ask for tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:  # azure-identity takes 0.3 s to import: only when a token is needed
    from types import TracebackType

    from azure.core.credentials import AccessToken
    from azure.identity.aio import ManagedIdentityCredential


class ManagedIdentity:
    """`client_id` names a user-assigned identity; empty: the one that the system assigned. Tokens are kept."""

    def __init__(self, client_id: str = "") -> None:
        self._client_id = client_id
        self._credential: ManagedIdentityCredential | None = None

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        from azure.identity.aio import ManagedIdentityCredential

        if self._credential is None:
            self._credential = ManagedIdentityCredential(client_id=self._client_id or None)
        return await self._credential.get_token(*scopes, **options)

    async def close(self) -> None:
        if self._credential is not None:
            await self._credential.close()
            self._credential = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()
