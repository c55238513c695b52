"""/api/github: what GitHub tells by its App's webhook."""

from fastapi import Request, Response

from functions.context import Here
from functions.json_route import JsonRoute
from functions.routing import AreaRouter

router = AreaRouter(prefix="/api/github", tags=["github"], route_class=JsonRoute)

_SIGNED = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
    "parameters": [
        {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
        for name in ("x-github-event", "x-github-delivery", "x-hub-signature-256")
    ],
}


@router.post("/webhook", status_code=204, openapi_extra=_SIGNED)
async def receive_github_webhook(here: Here, request: Request) -> Response:
    """A delivery of GitHub's. What concerns no pull request of a run is ignored, with the same answer."""
    await here.pull_requests.receive(request.headers, await request.body())
    return Response(status_code=204)
