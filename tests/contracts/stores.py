"""The stores that the contract suites run on."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
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
    match kind:
        case "fake":
            yield FakeDocuments()
        case "files":
            files = TinyDbDocuments(folder)
            yield files
            await files.close()
        case _:
            tables = TableDocuments(storage, f"d{uuid4().hex}")
            yield tables
            await tables.close()


@asynccontextmanager
async def events_of(kind: str, folder: Path, storage: str) -> AsyncGenerator[EventLog]:
    match kind:
        case "fake":
            yield FakeEventLog()
        case "files":
            yield JsonlEvents(folder)
        case _:
            tables = TableEvents(storage, f"e{uuid4().hex}")
            yield tables
            await tables.close()


@asynccontextmanager
async def blobs_of(kind: str, folder: Path, storage: str) -> AsyncGenerator[Blobs]:
    match kind:
        case "fake":
            yield FakeBlobs()
        case "files":
            yield FileBlobs(folder)
        case _:
            blobs = AzureBlobs(storage, f"b{uuid4().hex}")
            yield blobs
            await blobs.close()
