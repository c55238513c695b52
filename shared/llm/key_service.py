"""Virtual keys and limits of a team, as its administrators manage them."""

from datetime import timedelta
from typing import Any

from shared.core import ids, usage
from shared.core.access import Access, Principal
from shared.core.boards import BoardRepository
from shared.core.clock import Clock, iso
from shared.core.errors import Conflict, Invalid, NotFound
from shared.core.permissions import Action
from shared.core.ports import Documents, Json
from shared.core.store import retry_stale
from shared.core.teams import team_partition
from shared.llm.keys import Keys, new_key
from shared.llm.models import KeyRecord, Scope, TeamLimits
from shared.llm.requests import CreatedKey, Key, KeyChanges, NewKey, Rotation

_MOST_KEYS = 100


class KeyService:
    def __init__(self, keys: Keys, documents: Documents, boards: BoardRepository, access: Access, clock: Clock) -> None:
        self._keys, self._documents, self._boards = keys, documents, boards
        self._access, self._clock = access, clock

    async def list(self, principal: Principal, team_id: str) -> list[Key]:
        await self._access.require(principal, team_id, Action.MANAGE_KEYS)
        return [await self._shown(record) for record in await self._keys.all_of(team_id)]

    async def create(self, principal: Principal, team_id: str, request: NewKey) -> CreatedKey:
        """Raises Invalid for a scope that is not the team's, Conflict when it has very many keys."""
        await self._access.require(principal, team_id, Action.MANAGE_KEYS)
        scope = request.scope or Scope(kind="team", id=team_id)
        await self._check(scope, team_id)
        if len(await self._keys.all_of(team_id)) >= _MOST_KEYS:
            raise Conflict(f"A team has at most {_MOST_KEYS} keys. Revoke one that is not needed.")
        return await self._made(
            team_id,
            name=request.name,
            scope=scope,
            created_by=principal.user_id,
            expires_at=self._in_days(request.expires_in_days),
            models=request.models,
            rates=request.rates,
            budget=request.budget,
        )

    async def change(self, principal: Principal, team_id: str, key_id: str, changes: KeyChanges) -> Key:
        """From its next call on here, and within seconds everywhere."""
        await self._access.require(principal, team_id, Action.MANAGE_KEYS)
        record = await self._keys.find(team_id, key_id)
        given: Json = changes.model_dump(exclude_unset=True)
        if "expires_in_days" in given:
            if record.secret_name:
                raise Conflict("The team's own key does not expire: its agents need it. Disable it instead.")
            given["expires_at"] = self._in_days(given.pop("expires_in_days"))
        for name in ("name", "disabled", "rates", "budget"):
            if name in given and given[name] is None:
                raise Invalid(f"{name}: leave it out to keep it as it is.")
        return await self._shown(await retry_stale(lambda: self._keys.change(record.key_hash, lambda _: given)))

    async def rotate(self, principal: Principal, team_id: str, key_id: str, rotation: Rotation) -> CreatedKey:
        """A key in its place, with all its settings; the old one is good for a while yet. Budgets and usage go on."""
        await self._access.require(principal, team_id, Action.MANAGE_KEYS)
        old = await self._replaceable(team_id, key_id)
        if old.replaced_by:
            raise Conflict("This key was rotated already. Rotate the one that took its place.")
        kept = {"name", "scope", "models", "rates", "budget", "expires_at"}
        made = await self._made(
            team_id, created_by=principal.user_id, counts_as=old.account, **old.model_dump(include=kept)
        )
        ends = iso(self._clock.now() + timedelta(hours=rotation.overlap_hours))
        ending = {"replaced_by": made.id, "expires_at": min(ends, old.expires_at or ends)}
        await retry_stale(lambda: self._keys.change(old.key_hash, lambda _: ending))
        return made

    async def revoke(self, principal: Principal, team_id: str, key_id: str) -> None:
        await self._access.require(principal, team_id, Action.MANAGE_KEYS)
        await self._keys.remove(await self._replaceable(team_id, key_id))

    async def limits(self, principal: Principal, team_id: str) -> TeamLimits:
        await self._access.require(principal, team_id, Action.READ)
        return await self._keys.limits(team_id)

    async def set_limits(self, principal: Principal, team_id: str, limits: TeamLimits) -> TeamLimits:
        await self._access.require(principal, team_id, Action.MANAGE_KEYS)
        await self._keys.set_limits(team_id, limits)
        return limits

    async def _made(self, team_id: str, **fields: Any) -> CreatedKey:
        key = new_key()
        record = self._keys.record(key, team_id, **fields)
        await self._keys.add(record)
        return CreatedKey(**(await self._shown(record)).model_dump(), key=key)

    async def _replaceable(self, team_id: str, key_id: str) -> KeyRecord:
        record = await self._keys.find(team_id, key_id)
        if record.secret_name:
            raise Conflict("The team's own key is used by its agents and shown to nobody. Disable it to stop them.")
        return record

    async def _check(self, scope: Scope, team_id: str) -> None:
        """Raises Invalid for what is not there, or not the team's."""
        if not await self._is_of(scope, team_id):
            raise Invalid(f"scope: this team has no {scope.kind} {scope.id!r}.")

    async def _is_of(self, scope: Scope, team_id: str) -> bool:
        doc = await self._documents.get(team_partition(team_id), "team")
        place = doc.body["scope"] if doc else ""
        match scope.kind:
            case "team":
                return scope.id == team_id
            case "workspace":
                return scope.id == place != team_id
            case "sandbox":
                return _is_scoped(scope.id, place)
            case "agent":
                board, _ = await self._boards.board(place)
                return board.agent is not None and board.agent.agent_id == scope.id
            case "person":
                return await self._access.role(scope.id, team_id) is not None if ids.is_plain(scope.id) else False

    def _in_days(self, days: int | None) -> str | None:
        return iso(self._clock.now() + timedelta(days=days)) if days else None

    async def _shown(self, record: KeyRecord) -> Key:
        doc = await self._documents.get(usage.partition(record.team_id), f"key/{record.account}")
        return Key(
            id=record.key_id,
            begins_with=record.shown,
            own=record.secret_name is not None,
            usage=usage.from_sums(doc.body if doc else {}),
            **record.model_dump(exclude={"key_id", "key_hash", "shown", "secret_name", "counts_as"}),
        )


def _is_scoped(sandbox_id: str, place: str) -> bool:
    """Sandboxes are not kept anywhere yet: their ids say whose they are."""
    try:
        return ids.scope_of(sandbox_id, "sandbox") == place
    except NotFound:
        return False
