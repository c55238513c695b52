"""Every Blobs store keeps the same promises."""

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from shared.adapters.file_blobs import FileBlobs
from shared.core.errors import Unavailable
from shared.core.ports import Blobs
from tests.contracts.stores import STORES, blobs_of


@pytest.fixture(params=STORES)
async def blobs(request: pytest.FixtureRequest, tmp_path: Path, storage: str) -> AsyncGenerator[Blobs]:
    async with blobs_of(request.param, tmp_path, storage) as store:
        yield store


async def test_bytes_come_back_as_they_were(blobs):
    data = bytes(range(256)) * 5000
    await blobs.put("runs/run_1/diff.patch", data)
    await blobs.put("empty", b"")
    assert await blobs.get("runs/run_1/diff.patch") == data
    assert await blobs.get("empty") == b""


async def test_what_was_never_put_is_none(blobs):
    assert await blobs.get("runs/run_1/diff.patch") is None


async def test_put_replaces(blobs):
    await blobs.put("a/b", b"a longer first text")
    await blobs.put("a/b", b"second")
    assert await blobs.get("a/b") == b"second"


async def test_delete_may_be_repeated(blobs):
    await blobs.put("a/b", b"x")
    await blobs.delete("a/b")
    await blobs.delete("a/b")
    assert await blobs.get("a/b") is None


async def test_a_reader_never_sees_a_half_written_blob(blobs):
    versions = [bytes([n]) * 200_000 for n in range(8)]
    await blobs.put("a", versions[0])

    async def watch() -> set[bytes]:
        return {await blobs.get("a") for _ in range(100)}

    seen, *_ = await asyncio.gather(watch(), *(blobs.put("a", version) for version in versions))
    assert seen <= set(versions)
    assert await blobs.get("a") in versions


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a"), ("a", "a/b/c")])
async def test_a_name_is_not_also_a_folder(blobs, first, second):
    await blobs.put(first, b"1")
    with pytest.raises(ValueError, match="folder of blobs"):
        await blobs.put(second, b"2")
    assert await blobs.get(first) == b"1"
    assert await blobs.get(second) is None
    await blobs.delete(second)
    assert await blobs.get(first) == b"1"


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/./b", ".hidden", "a\\b", "a\0", "x" * 256]
)
async def test_a_name_that_could_leave_the_folder_is_refused(blobs, name):
    for call in (blobs.put(name, b""), blobs.get(name), blobs.delete(name)):
        with pytest.raises(ValueError, match="not a blob name"):
            await call


class TestFileBlobs:
    async def test_a_blob_is_a_file_below_blobs_and_nothing_else_is_left(self, tmp_path):
        blobs = FileBlobs(tmp_path)
        await blobs.put("runs/r/diff.patch", b"one")
        await blobs.put("runs/r/diff.patch", b"two")
        files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
        assert files == [Path("blobs/runs/r/diff.patch")]

    async def test_a_disk_that_cannot_be_read_is_unavailable(self, tmp_path):
        (tmp_path / "blobs").mkdir()
        os.symlink("loop", tmp_path / "blobs" / "loop")
        with pytest.raises(Unavailable, match="data folder"):
            await FileBlobs(tmp_path).get("loop")

    async def test_whoever_is_cancelled_while_putting_can_delete_it_for_good(self, tmp_path):
        blobs = FileBlobs(tmp_path)
        put = asyncio.create_task(blobs.put("a", b"x" * 50_000_000))
        while not list(tmp_path.rglob("*.tmp")):
            await asyncio.sleep(0)
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        await blobs.delete("a")
        assert os.listdir(tmp_path / "blobs") == []
