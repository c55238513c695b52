"""Routes that honour `Idempotency-Key` on POST."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response

from functions.context import platform_of
from functions.json_route import JsonRequest, JsonRoute
from shared.core.errors import Invalid
from shared.core.idempotency import Answer, slot

_KEPT_HEADERS = ("content-type", "location", "etag")
_LONGEST_KEY = 255


class IdempotentRoute(JsonRoute):
    """A POST with a key happens once; repeating it gets the first answer, marked `idempotent-replay: true`.

    Answers that must not be stored are not, and so the request may happen again.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        act = super().get_route_handler()

        async def handle(request: Request) -> Response:
            key = request.headers.get("idempotency-key")
            if request.method != "POST" or key is None:
                return await act(request)
            if not 0 < len(key) <= _LONGEST_KEY:
                raise Invalid(f"An Idempotency-Key has 1 to {_LONGEST_KEY} characters.")
            return await _once(JsonRequest.of(request), key, act)

        return handle


async def _once(request: Request, key: str, act: Callable[[Request], Coroutine[Any, Any, Response]]) -> Response:
    here = platform_of(request)
    caller = await here.auth.principal(request.headers.get("authorization"))
    place, body = slot(caller.user_id, request.url.path, key), await request.body()
    kept = await here.idempotency.begin(place, body)
    if kept is not None:
        return Response(kept.body, kept.status, {**kept.headers, "idempotent-replay": "true"})
    try:
        response = await act(request)
    except Exception:  # a cancelled one may have happened: its key stays taken for a while
        await here.idempotency.abandon(place)
        raise
    if "no-store" in response.headers.get("cache-control", ""):  # it holds a secret
        await here.idempotency.abandon(place)
        return response
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    await here.idempotency.finish(place, body, Answer(response.status_code, bytes(response.body).decode(), headers))
    return response
