"""Git's credential helper, and the channel through which it asks the run for a fresh credential.

Git inherits one end of a socket pair; no token is in a file, a URL, an argument or an environment.
The helper half of this file runs as a program of its own (`python -I credentials.py get`): standard library only.
"""

import asyncio
import contextlib
import json
import os
import shlex
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

FD_VARIABLE = "KANBAN_CREDENTIALS_FD"

type Provider = Callable[[], Awaitable[tuple[str, str]]]


class Refusal(Exception):
    """No credential can be given; the text says why."""


def origin(url: str) -> str:
    """`scheme://host[:port]` of a URL, as git names it to a helper."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}".lower()


class CredentialChannel:
    """Answers git's questions for the origins it knows, and for no other."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = dict(providers)
        self._ours, self._theirs = socket.socketpair()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        reader, writer = await asyncio.open_connection(sock=self._ours)
        self._task = asyncio.create_task(self._serve(reader, writer))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._theirs.close()
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})

    @property
    def fd(self) -> int:
        """The descriptor that git must inherit."""
        return self._theirs.fileno()

    def env(self) -> dict[str, str]:
        return {FD_VARIABLE: str(self.fd)}

    @staticmethod
    def git_options() -> list[str]:
        """Options of `git` that make this file its only credential helper."""
        helper = f"!{shlex.quote(sys.executable)} -I {shlex.quote(str(Path(__file__).resolve()))}"
        return ["-c", "credential.helper=", "-c", f"credential.helper={helper}", "-c", "core.askPass="]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer = await self._answer(json.loads(line))
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        finally:
            writer.close()

    async def _answer(self, request: dict[str, str]) -> dict[str, str]:
        asked = f"{request.get('protocol')}://{request.get('host')}".lower()
        provider = self._providers.get(asked)
        if provider is None:
            return {"error": f"there is no credential for {asked}"}
        try:
            username, password = await provider()
        except Refusal as refusal:
            return {"error": str(refusal)}
        return {"username": username, "password": password}


def main() -> int:
    """`get`: prints what git reads; anything else (`store`, `erase`) is not kept here."""
    if sys.argv[1:] != ["get"]:
        return 0
    fields: dict[str, str] = {}
    for line in sys.stdin:
        name, _, value = line.rstrip("\n").partition("=")
        fields[name] = value
    answer = _ask({"protocol": fields.get("protocol", ""), "host": fields.get("host", "")})
    if "error" in answer:
        sys.stderr.write(f"credentials: {answer['error']}\n")
        sys.stdout.write("quit=1\n")
        return 0
    sys.stdout.write(f"username={answer['username']}\npassword={answer['password']}\n")
    return 0


def _ask(request: dict[str, str]) -> dict[str, Any]:
    with contextlib.closing(socket.socket(fileno=int(os.environ[FD_VARIABLE]))) as channel:
        channel.sendall(json.dumps(request).encode() + b"\n")
        with channel.makefile("r", encoding="utf-8") as lines:
            return json.loads(lines.readline() or '{"error": "the run has ended"}')


if __name__ == "__main__":
    sys.exit(main())
