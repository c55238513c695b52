"""What the API's description says of the LLM gateway, which functions/model_gateway.py serves."""

from typing import Any

from fastapi import Depends, Response
from fastapi.security import HTTPBearer

from functions.routing import AreaRouter

_key = HTTPBearer(auto_error=False, scheme_name="ModelKey", description="A team's model key, or a run's token")
router = AreaRouter(prefix="/api/v1", tags=["llm"], dependencies=[Depends(_key)])

_ASKED = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model"],
                    "properties": {"model": {"type": "string", "minLength": 1}},
                    "description": "As the Anthropic Messages API describes it",
                }
            }
        },
    }
}

_CREATE = "Create a message (Anthropic Messages API)"
_COUNT = "Count the tokens of a message"


# ModelGateway answers before FastAPI is asked for these: they are there to be described.
async def _described() -> None: ...


async def _described_by_id(model_id: str) -> None: ...


_MESSAGES: dict[str, Any] = {"methods": ["POST"], "response_class": Response, "openapi_extra": _ASKED}
_MODELS: dict[str, Any] = {"methods": ["GET"], "response_class": Response}
router.add_api_route("/messages", _described, name="messages", summary=_CREATE, **_MESSAGES)
router.add_api_route("/messages/count_tokens", _described, name="count_tokens", summary=_COUNT, **_MESSAGES)
router.add_api_route("/models", _described, name="models", summary="List models", **_MODELS)
router.add_api_route("/models/{model_id}", _described_by_id, name="model", summary="Get a model", **_MODELS)


@router.head("", include_in_schema=False)
@router.head("/", include_in_schema=False)
async def probe() -> Response:
    """Clients look whether somebody is there before they sign in."""
    return Response()
