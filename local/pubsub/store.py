"""Connections, groups and mailboxes in Redis, shared by any number of emulator processes."""

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from local.pubsub import scripts
from shared.core.groups import Groups
from shared.core.log import Log

_log = Log(__name__)

type Json = dict[str, Any]

KEEP_SECONDS = 60
"""How long a connection can be recovered after its socket is gone."""
_SET_SECONDS = 3600
_MOST_MESSAGES = 1000
_MOST_BYTES = 16 * 1024 * 1024
_MOST_ACKS = 1000
_ACKNOWLEDGED_WITHIN = 0.1
"""Clients acknowledge once a second, hundreds in the same moment: a call of Redis for each would hold up messages."""
BATCH = 100


@dataclass(frozen=True, slots=True)
class Session:
    """One socket's hold on a connection: of several only the latest `owner` counts."""

    id: str
    hub: str
    user: str
    roles: frozenset[str]
    token: str = field(repr=False)
    owner: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Drained:
    """`state`: open, gone, taken, closing (with the reason) or overflow. Messages as (sequence, JSON text)."""

    state: str
    reason: str
    messages: list[tuple[int, str]]


class Store:
    """`node` names this process: doorbells of its connections are rung on that channel."""

    def __init__(self, client: "redis.asyncio.Redis", node: str) -> None:
        self._redis: Any = client
        self._node = node
        self._acknowledged: dict[tuple[str, str], int] = {}
        """The highest sequence by connection and owner, of those that are still to be told."""
        self._acknowledging = Groups[tuple[str, str], None](self._acknowledge, _ACKNOWLEDGED_WITHIN)
        names = ("PUBLISH", "SEND_TO_CONNECTION", "DRAIN", "ACKNOWLEDGE", "OPEN", "TAKE", "RENEW", "RELEASE")
        self._scripts: dict[str, Any] = {
            name: client.register_script(getattr(scripts, name)) for name in (*names, "CLOSE", "JOIN", "LEAVE", "ONCE")
        }

    async def open(self, hub: str, user: str, roles: Iterable[str], groups: Iterable[str]) -> Session:
        session = Session(
            id=secrets.token_urlsafe(16),
            hub=hub,
            user=user,
            roles=frozenset(roles),
            token=secrets.token_urlsafe(24),
            owner=secrets.token_hex(8),
        )
        kept = (session.token, json.dumps(sorted(session.roles)), session.owner, self._node)
        await self._run("OPEN", session.id, hub, user, *kept, KEEP_SECONDS, _SET_SECONDS, *groups)
        return session

    async def recover(self, hub: str, connection: str, token: str) -> Session | None:
        """None when it is unknown, expired, closed, full, or the token is another's."""
        owner = secrets.token_hex(8)
        found = await self._run("TAKE", connection, hub, token, owner, self._node, KEEP_SECONDS, _SET_SECONDS)
        if found is None:
            return None
        user, roles = found
        return Session(connection, hub, user.decode(), frozenset(json.loads(roles)), token, owner)

    async def renew(self, session: Session) -> None:
        await self._run("RENEW", session.id, session.owner, KEEP_SECONDS, _SET_SECONDS)

    async def release(self, session: Session, *, keep: bool) -> None:
        """The socket is gone. Nothing happens when another one has taken over."""
        flag = "1" if keep else "0"
        await self._run("RELEASE", session.id, session.owner, flag, KEEP_SECONDS, _SET_SECONDS)

    async def drain(self, session: Session, sent: int, *, remove: bool) -> Drained:
        """The next messages after sequence `sent`, at most `BATCH`."""
        args = (session.id, session.owner, sent, BATCH, "1" if remove else "0")
        state, reason, *entries = [part.decode() for part in await self._run("DRAIN", *args)]
        split = (entry.split(":", 1) for entry in entries)
        return Drained(state, reason, [(int(sequence), text) for sequence, text in split])

    def acknowledge(self, session: Session, sequence: int) -> None:
        """All up to this one; in a moment, with others. One that is lost is made up for by the next."""
        connection = session.id, session.owner
        if connection not in self._acknowledged:
            self._acknowledging.tell("", connection)
        self._acknowledged[connection] = max(sequence, self._acknowledged.get(connection, 0))

    async def first_time(self, session: Session, ack_id: int) -> bool:
        return bool(await self._run("ONCE", session.id, ack_id, _MOST_ACKS, KEEP_SECONDS))

    async def send_to_all(self, hub: str, message: Json, excluded: Sequence[str] = ()) -> None:
        await self._publish(_everyone(hub), message, excluded)

    async def send_to_group(self, hub: str, group: str, message: Json, excluded: Sequence[str] = ()) -> None:
        await self._publish(_group(hub, group), message, excluded)

    async def send_to_user(self, hub: str, user: str, message: Json) -> None:
        await self._publish(_user(hub, user), message, ())

    async def send_to_connection(self, hub: str, connection: str, message: Json) -> None:
        limits = (_MOST_MESSAGES, _MOST_BYTES, KEEP_SECONDS)
        await self._run("SEND_TO_CONNECTION", _text(message), *limits, connection, hub)

    async def join(self, hub: str, connection: str, group: str) -> bool:
        return bool(await self._run("JOIN", connection, hub, group, KEEP_SECONDS, _SET_SECONDS))

    async def leave(self, hub: str, connection: str, group: str) -> None:
        await self._run("LEAVE", connection, hub, group)

    async def leave_all(self, hub: str, connection: str) -> None:
        for group in await self._members(f"wps:g:{connection}"):
            await self.leave(hub, connection, group)

    async def close(self, hub: str, connection: str, reason: str) -> None:
        await self._run("CLOSE", connection, hub, reason)

    async def exists(self, hub: str, connection: str) -> bool:
        owner = await self._redis.hget(f"wps:c:{connection}", "hub")
        return owner is not None and owner.decode() == hub

    async def connections(self, hub: str, *, group: str | None = None, user: str | None = None) -> list[str]:
        """Live ones: of a group, of a user, or all of the hub."""
        key = _group(hub, group) if group is not None else _user(hub, user) if user is not None else _everyone(hub)
        return [connection for connection in await self._members(key) if await self.exists(hub, connection)]

    async def ping(self) -> None:
        await self._redis.ping()

    async def idle(self) -> None:
        """Waits until what was acknowledged is removed."""
        await self._acknowledging.idle()

    async def _acknowledge(self, _: str, connections: list[tuple[str, str]]) -> list[None]:
        args = [arg for connection in connections for arg in (*connection, self._acknowledged.pop(connection))]
        try:
            await self._run("ACKNOWLEDGE", *args)
        except RedisError as error:
            _log.warning("acknowledgements.lost", count=len(connections), reason=type(error).__name__)
        return [None] * len(connections)

    async def _publish(self, members: str, message: Json, excluded: Sequence[str]) -> None:
        args = [_text(message), _MOST_MESSAGES, _MOST_BYTES, KEEP_SECONDS, *excluded]
        await self._scripts["PUBLISH"](keys=[members], args=args)

    async def _members(self, key: str) -> list[str]:
        return [member.decode() for member in await self._redis.smembers(key)]

    async def _run(self, name: str, *args: str | int) -> Any:
        return await self._scripts[name](args=args)


def _everyone(hub: str) -> str:
    return f"wps:h:{hub}:all"


def _group(hub: str, group: str) -> str:
    return f"wps:h:{hub}:g:{group}"


def _user(hub: str, user: str) -> str:
    return f"wps:h:{hub}:u:{user}"


def _text(message: Json) -> str:
    return json.dumps(message, separators=(",", ":"))
