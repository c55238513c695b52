"""Secrets in memory."""

from pathlib import Path

from shared.adapters import layout


class FakeSecrets:
    """`secrets` shows what is stored: name -> value."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}

    async def put(self, name: str, value: str) -> None:
        layout.secret_file(Path("/"), name)
        self.secrets[name] = value

    async def get(self, name: str) -> str | None:
        layout.secret_file(Path("/"), name)
        return self.secrets.get(name)

    async def delete(self, name: str) -> None:
        layout.secret_file(Path("/"), name)
        self.secrets.pop(name, None)
