"""Serves one ASGI application from streaming HTTP functions."""

import sys

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

# The worker's own router leaves `app`, `router`, `path_params` and more in the scope; they would break `url_for`.
_CONNECTION_KEYS = frozenset(
    (
        *("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string"),
        *("root_path", "headers", "client", "server", "extensions"),
    )
)
# The host pairs a request with its invocation by this header; an application must not see one a client chose.
_INVOCATION_HEADER = b"x-ms-invocation-id"


class AsgiResponse(Response):
    """A response that, when sent, runs `app` on the raw connection: bodies stream both ways, disconnects arrive.

    The function that returns it must not have read the request's body.
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(_connection(scope), receive, send)
        finally:
            _forget(scope)


def _connection(scope: Scope) -> Scope:
    kept = {key: value for key, value in scope.items() if key in _CONNECTION_KEYS}
    kept["headers"] = [pair for pair in scope["headers"] if pair[0].lower() != _INVOCATION_HEADER]
    return kept


def _forget(scope: Scope) -> None:
    """Releases what Microsoft's worker keeps of this invocation, two events, which it needs no more.

    azure-functions-runtime 1.3.0 takes nothing out of that dictionary itself: a process grew by 2 KB with each request.
    """
    worker = sys.modules.get("azure_functions_runtime.http_v2")
    kept = getattr(getattr(worker, "http_coordinator", None), "_context_references", None)
    if isinstance(kept, dict):
        invocation = next((value for name, value in scope["headers"] if name.lower() == _INVOCATION_HEADER), b"")
        kept.pop(invocation.decode("latin-1"), None)
