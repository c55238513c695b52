"""One client's websocket: subprotocols json and json.reliable, permissions, recovery."""

import asyncio
import json
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from local.pubsub.access import Claims, Refused, texts, verify
from local.pubsub.delivery import Delivery
from local.pubsub.doorbell import Doorbell
from local.pubsub.store import Json, Session, Store

RELIABLE = "json.reliable.webpubsub.azure.v1"
PLAIN = "json.webpubsub.azure.v1"

_LEFT = (1000, 1001)
_MOST_REASON = 120
_NEEDED_ROLE = {
    "joinGroup": "webpubsub.joinLeaveGroup",
    "leaveGroup": "webpubsub.joinLeaveGroup",
    "sendToGroup": "webpubsub.sendToGroup",
}


@dataclass(frozen=True, slots=True)
class _End:
    """Why a socket ends. `code` is None when the client left. `keep`: the connection may be recovered.

    `notice`: the client is told before the close.
    """

    code: int | None
    reason: str = ""
    keep: bool = False
    notice: bool = False


_ENDS = {
    "gone": _End(1008, "The connection has expired."),
    "taken": _End(1008, "Another socket took this connection over.", keep=True),
    "overflow": _End(1008, "Too many messages were not acknowledged.", notice=True),
}


async def serve_client(socket: WebSocket, store: Store, doorbell: Doorbell, access_key: str) -> None:
    """From handshake to close."""
    query = socket.query_params
    recovered = query.get("awps_connection_id")
    try:
        claims = _admitted(socket, access_key, recovering=recovered is not None)
    except Refused as refusal:
        return await socket.send_denial_response(PlainTextResponse(str(refusal), 401))
    protocol = next((name for name in (RELIABLE, PLAIN) if name in socket.scope["subprotocols"]), None)
    if protocol is None:
        return await socket.send_denial_response(PlainTextResponse(f"Ask for {RELIABLE} or {PLAIN}.", 400))
    hub = socket.path_params["hub"]
    if recovered is None:
        roles, groups = texts(claims, "role"), texts(claims, "webpubsub.group")
        session = await store.open(hub, str(claims.get("sub", "")), roles, groups)
    else:
        session = await store.recover(hub, recovered, query.get("awps_reconnection_token", ""))
    await socket.accept(subprotocol=protocol)
    if session is None:  # Only a close after the handshake tells a client to stop trying.
        return await socket.close(1008, "The connection cannot be recovered.")
    return await _Connection(socket, store, session, reliable=protocol == RELIABLE).run(doorbell)


def _admitted(socket: WebSocket, access_key: str, *, recovering: bool) -> Claims:
    """A recovery may come with the token of the first handshake, which has expired by then."""
    token = socket.query_params.get("access_token") or socket.headers.get("authorization", "").removeprefix("Bearer ")
    return verify(token, access_key, socket.scope["path"], expired_is_fine=recovering)


class _Connection:
    def __init__(self, socket: WebSocket, store: Store, session: Session, *, reliable: bool) -> None:
        self._socket = socket
        self._store = store
        self._session = session
        self._reliable = reliable
        self._delivery = Delivery(store, session, socket.send_text, reliable=reliable)

    async def run(self, doorbell: Doorbell) -> None:
        """Reads and writes until either ends."""
        end = _End(1011, "The emulator failed.", keep=True)
        try:
            with doorbell.listening(self._session.id, self._delivery.ring):
                await self._greet()
                end = await _first(self._write(), self._read())
        except WebSocketDisconnect as gone:
            end = _End(None, keep=gone.code not in _LEFT)
        except RedisError:
            end = _End(1011, "Redis does not answer.", keep=True)
        finally:
            await self._finish(end)

    async def _finish(self, end: _End) -> None:
        with suppress(RedisError):  # everything there expires by itself
            await self._store.release(self._session, keep=end.keep and self._reliable)
        if end.code is None:
            return
        with suppress(WebSocketDisconnect, RuntimeError):  # the client closed first
            if end.notice:
                await self._send({"type": "system", "event": "disconnected", "message": end.reason})
            await self._socket.close(end.code, end.reason.encode()[:_MOST_REASON].decode(errors="ignore"))

    async def _greet(self) -> None:
        greeting: Json = {"type": "system", "event": "connected", "connectionId": self._session.id}
        if self._session.user:
            greeting["userId"] = self._session.user
        if self._reliable:
            greeting["reconnectionToken"] = self._session.token
        await self._send(greeting)

    async def _write(self) -> _End:
        ended = await self._delivery.run()
        return _ENDS.get(ended.state) or _End(1008, ended.reason, notice=True)

    async def _read(self) -> _End:
        while True:
            received = await self._socket.receive()
            if received["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(received.get("code") or 1006)
            try:
                message = json.loads(received.get("text") or "")
            except (ValueError, RecursionError):
                message = None
            if not isinstance(message, dict) or not _well_formed(message):
                return _End(1008, "A message is not valid JSON of this subprotocol.", notice=True)
            await self._handle(message)

    async def _handle(self, message: Json) -> None:
        kind = message.get("type")
        if kind == "ping":
            return await self._send({"type": "pong"})
        if kind == "sequenceAck":
            return self._store.acknowledge(self._session, min(message["sequenceId"], self._delivery.sent))
        refusal = await self._refusal(message)
        if refusal is None:
            await self._act(message)
        return await self._acknowledge(message, refusal)

    async def _refusal(self, message: Json) -> tuple[str, str] | None:
        kind, group = message.get("type", ""), message.get("group", "")
        role = _NEEDED_ROLE.get(kind)
        if role is None:
            return "BadRequest", f"The emulator has no event handler for messages of type '{kind}'."
        if not {role, f"{role}.{group}"} & self._session.roles:
            return "Forbidden", f"The client does not have permission to {kind} '{group}'."
        if "ackId" in message and not await self._store.first_time(self._session, message["ackId"]):
            return "Duplicate", f"Message with ack-id: {message['ackId']} has been processed."
        return None

    async def _act(self, message: Json) -> None:
        session, group = self._session, message["group"]
        if message["type"] == "joinGroup":
            await self._store.join(session.hub, session.id, group)
        elif message["type"] == "leaveGroup":
            await self._store.leave(session.hub, session.id, group)
        else:
            sent: Json = {"type": "message", "from": "group", "fromUserId": session.user or None, "group": group}
            sent |= {"dataType": message.get("dataType", "json"), "data": message.get("data")}
            await self._store.send_to_group(session.hub, group, sent, [session.id] if message.get("noEcho") else [])

    async def _acknowledge(self, message: Json, refusal: tuple[str, str] | None) -> None:
        if "ackId" not in message:
            return
        answer: Json = {"type": "ack", "ackId": message["ackId"], "success": refusal is None}
        if refusal is not None:
            answer["error"] = {"name": refusal[0], "message": refusal[1]}
        await self._send(answer)

    async def _send(self, message: Json) -> None:
        await self._socket.send_text(json.dumps(message))


def _well_formed(message: Json) -> bool:
    kind, group = message.get("type"), message.get("group")
    if not isinstance(kind, str):
        return False
    numbers = ["sequenceId"] if kind == "sequenceAck" else ["ackId"] if "ackId" in message else []
    if not all(type(message.get(name)) is int and 0 <= message[name] < 2**53 for name in numbers):
        return False
    return kind not in _NEEDED_ROLE or (isinstance(group, str) and group != "" and group.isprintable())


async def _first(*work: Coroutine[Any, Any, _End]) -> _End:
    """What the first to finish returns or raises; the others are cancelled."""
    tasks = [asyncio.create_task(item) for item in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return done.pop().result()
