"""Serves the built web app: files, the single page for every other address, and `/config.json`."""

from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

_NOT_BUILT = (
    "<!doctype html><title>Kanban Platform</title><h1>The web app is not built</h1><p>Run <code>make start</code>."
)
_FILES = frozenset((".js", ".css", ".map", ".png", ".svg", ".ico", ".json", ".txt", ".woff2", ".webmanifest"))
_FOREVER = "public, max-age=31536000, immutable"


def create_app(dist: Path, api_url: str, connect: Sequence[str] = ()) -> Starlette:
    """`connect`: further origins that the page may open websockets to, as http(s) URLs."""
    root = dist.resolve()
    headers = _headers([api_url, *connect, *(_websocket(url) for url in connect)])

    async def page(request: Request) -> Response:
        name: str = request.path_params["path"]
        path = (root / name.replace("\0", "/")).resolve()
        if not path.is_relative_to(root):
            return PlainTextResponse("Not found", 404, headers)
        if path.is_file():
            hashed = path.is_relative_to(root / "assets")
            return FileResponse(path, headers=headers | {"cache-control": _FOREVER if hashed else "no-cache"})
        if path.suffix in _FILES or path.is_relative_to(root / "assets"):
            return PlainTextResponse("Not found", 404, headers)
        index = root / "index.html"
        if not index.is_file():
            return HTMLResponse(_NOT_BUILT, 503, headers)
        return FileResponse(index, headers=headers | {"cache-control": "no-cache"})

    async def config(_: Request) -> Response:
        return JSONResponse({"apiUrl": api_url}, headers=headers | {"cache-control": "no-cache"})

    return Starlette(routes=[Route("/config.json", config), Route("/{path:path}", page)])


def _websocket(url: str) -> str:
    return "ws" + url.removeprefix("http")


def _headers(connect: Sequence[str]) -> dict[str, str]:
    policy = (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: https:; "
        f"connect-src 'self' {' '.join(connect)}; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    )
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
    }
