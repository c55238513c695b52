"""Routers that step aside at once for what is not theirs."""

from fastapi import APIRouter
from starlette.routing import Match
from starlette.types import Scope


class AreaRouter(APIRouter):
    """Looks at the prefix first: FastAPI tries every route of every router before the one that fits."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if scope["path"].startswith(self.prefix) else (Match.NONE, {})
