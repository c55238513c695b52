"""Blobs in memory."""

from pathlib import Path

from shared.adapters import layout


class FakeBlobs:
    """`blobs` shows what is stored: name -> bytes."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    async def put(self, name: str, data: bytes) -> None:
        layout.blob_file(Path("/"), name)
        if any(other.startswith(name + "/") or name.startswith(other + "/") for other in self.blobs):
            raise ValueError(f"{name!r} cannot be both a blob and a folder of blobs")
        self.blobs[name] = bytes(data)

    async def get(self, name: str) -> bytes | None:
        layout.blob_file(Path("/"), name)
        return self.blobs.get(name)

    async def delete(self, name: str) -> None:
        layout.blob_file(Path("/"), name)
        self.blobs.pop(name, None)
