"""Blobs in Azure Blob Storage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.adapters import layout
from shared.adapters.storage_account import identity_endpoint
from shared.core.errors import Unavailable

if TYPE_CHECKING:  # only when first used: the SDK takes long to import
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.storage.blob.aio import ContainerClient


class AzureBlobs:
    """Blobs in the container `blobs` of the account that `connection_string` names."""

    def __init__(
        self, connection_string: str, container: str = "blobs", identity: AsyncTokenCredential | None = None
    ) -> None:
        """`identity` opens the account of a connection string without a key."""
        self._connection_string, self._container, self._identity = connection_string, container, identity
        self._connected: ContainerClient | None = None

    async def put(self, name: str, data: bytes) -> None:
        """As on disk, a name is not also a folder of other names: ValueError."""

        async def write(container: ContainerClient) -> None:
            await self._refuse_folders(container, name)
            await container.upload_blob(name, data, overwrite=True)

        await self._answered(name, write)

    async def get(self, name: str) -> bytes | None:
        async def read(container: ContainerClient) -> bytes:
            return await (await container.download_blob(name)).readall()

        return await self._answered(name, read)

    async def delete(self, name: str) -> None:
        await self._answered(name, lambda container: container.delete_blob(name))

    async def close(self) -> None:
        if self._connected is not None:
            await self._connected.close()
            self._connected = None

    async def _refuse_folders(self, container: ContainerClient, name: str) -> None:
        parts = name.split("/")
        folders = ["/".join(parts[:n]) for n in range(1, len(parts))]
        taken = [folder for folder in folders if await container.get_blob_client(folder).exists()]
        async for _ in container.list_blob_names(name_starts_with=f"{name}/", results_per_page=1):
            taken.append(name)
            break
        if taken:
            raise ValueError(f"{name!r} cannot be both a blob and a folder of blobs")

    async def _answered[T](self, name: str, call: Callable[[ContainerClient], Awaitable[T]]) -> T | None:
        """None for a blob that is not there; makes the container when it is missing."""
        from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError

        layout.blob_file(Path("/"), name)  # the same names as on disk, and no others
        container = self._client()
        try:
            try:
                return await call(container)
            except ResourceNotFoundError as error:
                if getattr(error, "error_code", None) != "ContainerNotFound":
                    return None
            with suppress(ResourceExistsError):  # somebody else was faster
                await container.create_container()
            return await call(container)
        except ResourceNotFoundError:
            return None
        except (TimeoutError, AzureError) as error:
            raise Unavailable("The blob storage does not answer. Try again in a moment.") from error

    def _client(self) -> ContainerClient:
        from azure.storage.blob.aio import ContainerClient

        if self._connected is None:
            try:
                options: dict[str, Any] = {"retry_total": 2, "connection_timeout": 3, "read_timeout": 20}
                options |= {"initial_backoff": 0.2, "increment_base": 1, "random_jitter_range": 0}  # its own: 15 s
                endpoint = identity_endpoint(self._connection_string, "Blob")
                if endpoint and self._identity:
                    self._connected = ContainerClient(endpoint, self._container, self._identity, **options)
                else:
                    self._connected = ContainerClient.from_connection_string(
                        self._connection_string, self._container, **options
                    )
            except ValueError as error:
                raise Unavailable("The blob storage is not configured: check STORAGE_CONNECTION.") from error
        return self._connected
