"""/api/agents: the webhook that starts runs."""

from fastapi import Request

from functions.context import Here
from functions.json_route import JsonRoute
from functions.routing import AreaRouter
from shared.agents.models import WebhookAnswer

router = AreaRouter(prefix="/api/agents", tags=["agents"], route_class=JsonRoute)


_EVENT = {"schema": {"$ref": "#/components/schemas/CardEvent"}}
_SIGNED = {
    "requestBody": {"required": True, "content": {"application/json": _EVENT}},
    "parameters": [
        {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
        for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
    ],
}


@router.post("/{agent_id}/webhook", status_code=202, openapi_extra=_SIGNED)
async def receive_webhook(here: Here, agent_id: str, request: Request) -> WebhookAnswer:
    """A Standard Webhooks delivery of a `card.moved` event."""
    return await here.intake.receive(agent_id, request.headers, await request.body())
