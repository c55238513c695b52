"""/api/health."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

router = APIRouter(prefix="/api/health", tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


@router.get("")
async def health() -> Health:
    return Health()
