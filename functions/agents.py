"""/api/agents: the webhook that starts runs."""

from fastapi import APIRouter, Request

from functions.context import Here
from shared.agents.models import WebhookAnswer

router = APIRouter(prefix="/api/agents", tags=["agents"])


@router.post("/{agent_id}/webhook", status_code=202)
async def receive_webhook(here: Here, agent_id: str, request: Request) -> WebhookAnswer:
    """A Standard Webhooks delivery of a `card.moved` event."""
    return await here.intake.receive(agent_id, request.headers, await request.body())
