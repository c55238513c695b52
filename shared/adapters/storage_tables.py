"""One table of a storage account: connected when first used, made when missing, errors in the platform's terms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared.adapters.storage_account import identity_endpoint
from shared.core.errors import Unavailable

if TYPE_CHECKING:  # the SDK takes 0.2 s to import: only when first used
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.data.tables.aio import TableClient

CHUNK = 64 * 1024
"""Bytes of one property."""

type Entity = dict[str, Any]
type Operation = tuple[Any, ...]
"""As TableClient.submit_transaction takes it."""


class Lost(Unavailable):
    """No answer came: whether it happened has to be looked up."""


class Refused(Exception):
    """A batch was refused because of the operation at `index`, by the service's error `code`."""

    def __init__(self, index: int, code: str) -> None:
        super().__init__(f"{code} (operation {index})")
        self.index, self.code = index, code


class StorageTable:
    def __init__(self, connection_string: str, name: str, identity: AsyncTokenCredential | None = None) -> None:
        """`identity` opens the account of a connection string without a key."""
        self._connection_string, self._name, self._identity = connection_string, name, identity
        self._connected: TableClient | None = None

    async def submit(self, operations: Sequence[Operation]) -> list[Mapping[str, Any]]:
        """All or nothing. Raises Refused, Lost or Unavailable."""
        return await self._answered(lambda table: table.submit_transaction(list(operations)))

    async def get(self, partition: str, row: str) -> Entity | None:
        from azure.core.exceptions import ResourceNotFoundError

        async def read(table: TableClient) -> Entity | None:
            try:
                return await table.get_entity(partition, row)
            except ResourceNotFoundError as error:
                if _code(error) == "TableNotFound":
                    raise
                return None

        return await self._answered(read)

    async def query(
        self, partition: str, start: str, end: str, limit: int | None = None, select: list[str] | None = None
    ) -> list[Entity]:
        """Rows from `start` up to but without `end`, in order."""
        found: list[Entity] = []

        async def read(table: TableClient) -> list[Entity]:
            found.clear()
            pages = table.query_entities(
                "PartitionKey eq @partition and RowKey ge @start and RowKey lt @end",
                parameters={"partition": partition, "start": start, "end": end},
                select=select,
                results_per_page=None if limit is None else min(limit, 1000),
            )
            async for entity in pages:
                found.append(entity)
                if len(found) == limit:
                    break
            return found

        return [] if limit == 0 else await self._answered(read)

    async def close(self) -> None:
        if self._connected is not None:
            await self._connected.close()
            self._connected = None

    async def _answered[T](self, call: Callable[[TableClient], Awaitable[T]]) -> T:
        """Makes the table when it is missing."""
        from azure.core.exceptions import AzureError, HttpResponseError
        from azure.data.tables import TableTransactionError

        try:
            for made in (False, True):
                try:
                    return await call(self._client())
                except HttpResponseError as error:
                    if made or _code(error) != "TableNotFound":
                        raise
                    await _create(self._client())
            raise AssertionError("a table that was made answers or raises")
        except TableTransactionError as error:
            if _is_transient(error):
                raise Lost(_AWAY) from error
            raise Refused(error.index, _code(error)) from error
        except HttpResponseError as error:
            if _is_transient(error):
                raise Lost(_AWAY) from error
            raise Unavailable(f"The table storage refuses this ({_code(error) or error.status_code}).") from error
        except (TimeoutError, AzureError) as error:
            raise Lost(_AWAY) from error

    def _client(self) -> TableClient:
        from azure.data.tables.aio import TableClient

        if self._connected is None:
            try:
                # A write that the SDK repeats after a lost answer would meet itself; who writes here looks it up.
                options: dict[str, Any] = {"retry_total": 0, "connection_timeout": 3, "read_timeout": 20}
                endpoint = identity_endpoint(self._connection_string, "Table")
                if endpoint and self._identity:
                    self._connected = TableClient(endpoint, self._name, credential=self._identity, **options)
                else:
                    self._connected = TableClient.from_connection_string(self._connection_string, self._name, **options)
            except ValueError as error:
                raise Unavailable("The table storage is not configured: check STORAGE_CONNECTION.") from error
        return self._connected


_AWAY = "The table storage does not answer. Try again in a moment."


def chunks(raw: bytes) -> Entity:
    """The properties that hold `raw`."""
    return {f"b{n:02d}": raw[start : start + CHUNK] for n, start in enumerate(range(0, len(raw), CHUNK))}


def joined(entity: Mapping[str, Any]) -> bytes:
    return b"".join(entity[name] for name in sorted(name for name in entity if name[0] == "b" and name[1:].isdigit()))


async def _create(table: TableClient) -> None:
    from azure.core.exceptions import ResourceExistsError

    try:
        await table.create_table()
    except ResourceExistsError:
        return  # somebody else was faster


def _is_transient(error: Any) -> bool:
    return error.status_code in (408, 429) or (error.status_code or 500) >= 500


def _code(error: Any) -> str:
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")
