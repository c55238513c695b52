"""How the clients of our own connect."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import cache

from aiohappyeyeballs import start_connection

_HEAD_START = 0.25
"""Seconds until the next address is tried beside one that does not answer (RFC 8305)."""


async def connected[P: asyncio.Protocol](protocol: Callable[[], P], host: str, port: int, *, tls: bool) -> P:
    """Over the quickest of the host's addresses, on every event loop: uvloop cannot choose by itself.

    Raises OSError, and UnicodeError for what is no name of a host.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    sock = await start_connection(found, happy_eyeballs_delay=_HEAD_START, interleave=1)
    _, made = await loop.create_connection(
        protocol, sock=sock, ssl=verified() if tls else None, server_hostname=host if tls else None
    )
    return made


@cache
def verified() -> ssl.SSLContext:
    """Whose certificates count: those the system trusts."""
    return ssl.create_default_context()
