"""Serves an ASGI application inside a test; the local cloud serves its emulators the same way."""

from local.serving import base_url, listening_socket, serve

__all__ = ["base_url", "listening_socket", "serve"]
