"""The REST data plane: send, groups, connections, client tokens."""

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.pubsub.access import Refused, client_token, verify
from local.pubsub.store import Json, Store

type Handler = Callable[[Request], Awaitable[Response]]

_HUB = "/api/hubs/{hub}"
_MOST_BODY = 1024 * 1024


class DataPlane:
    """`store` is asked for at each request: it exists once the application has started."""

    def __init__(self, store: Callable[[], Store], access_key: str) -> None:
        self._store = store
        self._access_key = access_key

    def routes(self) -> list[Route]:
        table: list[tuple[str, str, Handler]] = [
            ("POST", "/:generateToken", self.generate_token),
            ("POST", "/:send", self.send),
            ("POST", "/groups/{group}/:send", self.send),
            ("POST", "/users/{user}/:send", self.send),
            ("POST", "/connections/{connection}/:send", self.send),
            ("POST", "/:closeConnections", self.close_connections),
            ("POST", "/groups/{group}/:closeConnections", self.close_connections),
            ("POST", "/users/{user}/:closeConnections", self.close_connections),
            ("PUT", "/groups/{group}/connections/{connection}", self.join_connection),
            ("DELETE", "/groups/{group}/connections/{connection}", self.leave_connection),
            ("PUT", "/users/{user}/groups/{group}", self.join_user),
            ("DELETE", "/users/{user}/groups/{group}", self.leave_user),
            ("DELETE", "/users/{user}/groups", self.leave_all),
            ("DELETE", "/connections/{connection}/groups", self.leave_all),
            ("DELETE", "/connections/{connection}", self.close_connection),
            ("HEAD", "/connections/{connection}", self.exists),
            ("HEAD", "/groups/{group}", self.exists),
            ("HEAD", "/users/{user}", self.exists),
        ]
        return [Route(_HUB + path, self._guarded(handler), methods=[method]) for method, path, handler in table]

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            try:
                verify(token, self._access_key, request.scope["path"])
                return await handler(request)
            except Refused as refusal:
                return _error(401, "Unauthorized", str(refusal))
            except RedisError:
                return _error(503, "ServiceUnavailable", "Redis does not answer.")

        return guarded

    async def send(self, request: Request) -> Response:
        if "filter" in request.query_params:
            return _error(400, "BadRequest", "The emulator does not support 'filter'.")
        body = await request.body()
        if len(body) > _MOST_BODY:
            return _error(413, "PayloadTooLarge", "A message is at most 1 MiB.")
        try:
            payload = _payload(request.headers.get("content-type", ""), body)
        except (ValueError, RecursionError) as error:
            return _error(400, "BadRequest", f"The body does not fit its content type: {error}.")
        await self._deliver(request, payload)
        return Response(status_code=202)

    async def _deliver(self, request: Request, payload: Json) -> None:
        store, hub, path = self._store(), request.path_params["hub"], request.path_params
        excluded = request.query_params.getlist("excluded")
        from_server: Json = {"type": "message", "from": "server", **payload}
        if "group" in path:
            from_group: Json = {"type": "message", "from": "group", "group": path["group"], **payload}
            await store.send_to_group(hub, path["group"], from_group, excluded)
        elif "user" in path:
            await store.send_to_user(hub, path["user"], from_server)
        elif "connection" in path:
            await store.send_to_connection(hub, path["connection"], from_server)
        else:
            await store.send_to_all(hub, from_server, excluded)

    async def join_connection(self, request: Request) -> Response:
        path = request.path_params
        if await self._store().join(path["hub"], path["connection"], path["group"]):
            return Response(status_code=200)
        return _error(404, "NotFound", "There is no such connection.")

    async def leave_connection(self, request: Request) -> Response:
        path = request.path_params
        await self._store().leave(path["hub"], path["connection"], path["group"])
        return Response(status_code=204)

    async def join_user(self, request: Request) -> Response:
        hub, group = request.path_params["hub"], request.path_params["group"]
        for connection in await self._targets(request):
            await self._store().join(hub, connection, group)
        return Response(status_code=200)

    async def leave_user(self, request: Request) -> Response:
        hub, group = request.path_params["hub"], request.path_params["group"]
        for connection in await self._targets(request):
            await self._store().leave(hub, connection, group)
        return Response(status_code=204)

    async def leave_all(self, request: Request) -> Response:
        for connection in await self._targets(request):
            await self._store().leave_all(request.path_params["hub"], connection)
        return Response(status_code=204)

    async def close_connections(self, request: Request) -> Response:
        excluded, path = request.query_params.getlist("excluded"), request.path_params
        for connection in await self._store().connections(path["hub"], group=path.get("group"), user=path.get("user")):
            if connection not in excluded:
                await self._close(request, connection)
        return Response(status_code=204)

    async def close_connection(self, request: Request) -> Response:
        await self._close(request, request.path_params["connection"])
        return Response(status_code=204)

    async def exists(self, request: Request) -> Response:
        path = request.path_params
        if "connection" in path:
            found = await self._store().exists(path["hub"], path["connection"])
        else:
            found = await self._store().connections(path["hub"], group=path.get("group"), user=path.get("user"))
        return Response(status_code=200 if found else 404)

    async def generate_token(self, request: Request) -> Response:
        query = request.query_params
        minutes = query.get("minutesToExpire", "60")
        if not minutes.isdecimal() or int(minutes) == 0:
            return _error(400, "BadRequest", "minutesToExpire is a number of minutes from 1.")
        token = client_token(
            self._access_key,
            str(request.base_url) + f"client/hubs/{request.path_params['hub']}",
            user=query.get("userId"),
            roles=query.getlist("role"),
            groups=query.getlist("group"),
            minutes=int(minutes),
        )
        return JSONResponse({"token": token})

    async def _targets(self, request: Request) -> list[str]:
        path = request.path_params
        if "connection" in path:
            return [path["connection"]]
        return await self._store().connections(path["hub"], user=path["user"])

    async def _close(self, request: Request, connection: str) -> None:
        reason = request.query_params.get("reason", "")
        await self._store().close(request.path_params["hub"], connection, reason)


def _payload(content_type: str, body: bytes) -> Json:
    """Raises ValueError when the body is not what its content type says."""
    if content_type.startswith("application/json"):
        return {"dataType": "json", "data": json.loads(body)}
    if content_type.startswith("text/plain"):
        return {"dataType": "text", "data": body.decode()}
    return {"dataType": "binary", "data": base64.b64encode(body).decode()}


def _error(status: int, code: str, message: str) -> Response:
    body: dict[str, Any] = {"code": code, "message": message}
    return JSONResponse(body, status)
