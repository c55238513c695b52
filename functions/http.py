"""One streaming HTTP trigger per area, each handing the raw connection to the API."""

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response
from starlette.types import ASGIApp

from functions.app import create_app
from functions.asgi import AsgiResponse
from functions.platform import platform

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
AREAS = {
    "auth": "auth/{*path}",
    "teams": "teams/{*path}",
    "invitations": "invitations/{*path}",
    "workspaces": "workspaces/{*path}",
    "boards": "boards/{*path}",
    "cards": "cards/{*path}",
    "tasks": "tasks/{*path}",
    "runs": "runs/{*path}",
    "agents": "agents/{*path}",
    "github": "github/{*path}",
    "llm": "v1/{*path}",
    "usage_report": "usage",
    "incidents": "incidents/{*path}",
    "realtime": "realtime/{*path}",
    "health": "health",
    "openapi": "openapi.json",
    "docs": "docs",
}


def register(app: func.FunctionApp) -> None:
    served: list[ASGIApp] = []

    async def serve(req: Request) -> Response:
        if not served:
            served.append(create_app(platform()))
        return AsgiResponse(served[0])

    for name, route in AREAS.items():
        _route(app, name, route, serve)


def _route(app: func.FunctionApp, name: str, route: str, serve: object) -> None:
    trigger = app.route(route=route, methods=METHODS, auth_level=func.AuthLevel.ANONYMOUS)
    app.function_name(name)(trigger(serve))
