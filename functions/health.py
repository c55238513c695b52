"""/api/health."""

from typing import Literal

from fastapi import Request
from pydantic import BaseModel

from functions.routing import AreaRouter

router = AreaRouter(prefix="/api/health", tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"
    version: str


@router.get("")
async def health(request: Request) -> Health:
    return Health(version=request.app.version)
