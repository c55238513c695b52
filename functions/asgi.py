"""Serves one ASGI application from streaming HTTP functions."""

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
        await self._app(_connection(scope), receive, send)


def _connection(scope: Scope) -> Scope:
    kept = {key: value for key, value in scope.items() if key in _CONNECTION_KEYS}
    kept["headers"] = [pair for pair in scope["headers"] if pair[0].lower() != _INVOCATION_HEADER]
    return kept
