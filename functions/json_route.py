"""Routes that read JSON as RFC 8259 has it: no NaN, no half characters, not nested without end. All else is 400."""

from collections.abc import Callable, Coroutine
from typing import Any, Self

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute


class JsonRequest(Request):
    @classmethod
    def of(cls, request: Request) -> Self:
        """The request itself when it is one already: its body can be received only once."""
        return request if isinstance(request, cls) else cls(request.scope, request.receive)

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = orjson.loads(await self.body())
        return self._json


class JsonRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        act = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await act(JsonRequest.of(request))

        return handle
