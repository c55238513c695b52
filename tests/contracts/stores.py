"""The stores that the contract suites run on."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from shared.adapters.azure_blobs import AzureBlobs
from shared.adapters.file_blobs import FileBlobs
from shared.adapters.jsonl_events import JsonlEvents
from shared.adapters.table_documents import TableDocuments
from shared.adapters.table_events import TableEvents
from shared.adapters.tinydb_documents import TinyDbDocuments
from shared.core.ports import Blobs, Documents, EventLog
from tests.fakes import FakeBlobs, FakeDocuments, FakeEventLog

STORES = ("fake", "files", "azure")


@asynccontextmanager
async def documents_of(kind: str, folder: Path, storage: str) -> AsyncGenerator[Documents]:
    async with _opened(kind, FakeDocuments, lambda: TinyDbDocuments(folder), TableDocuments, storage) as store:
        yield store


@asynccontextmanager
async def events_of(kind: str, folder: Path, storage: str) -> AsyncGenerator[EventLog]:
    async with _opened(kind, FakeEventLog, lambda: JsonlEvents(folder), TableEvents, storage) as store:
        yield store


@asynccontextmanager
async def blobs_of(kind: str, folder: Path, storage: str) -> AsyncGenerator[Blobs]:
    async with _opened(kind, FakeBlobs, lambda: FileBlobs(folder), AzureBlobs, storage) as store:
        yield store


@asynccontextmanager
async def _opened(
    kind: str, fake: Callable[[], Any], files: Callable[[], Any], azure: Callable[[str, str], Any], storage: str
) -> AsyncGenerator[Any]:
    """On Azure in a table or container of its own."""
    store = {"fake": fake, "files": files, "azure": lambda: azure(storage, f"s{uuid4().hex}")}[kind]()
    yield store
    if hasattr(store, "close"):
        await store.close()
