"""Virtual keys: what calls of the gateway are paid with. Only a hash of a key is stored with its record."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from shared.core import ids
from shared.core.boards import board_partition, run_key
from shared.core.clock import Clock, iso, parse
from shared.core.errors import Exists, Forbidden, NotFound, Unauthenticated
from shared.core.partitions import drop
from shared.core.ports import ANY, Delete, Doc, Documents, Json, Put, Secrets, Tokens
from shared.core.resources import RUN_OVER
from shared.core.run_tokens import CLOCK_LEEWAY, RUN_AUDIENCE
from shared.core.teams import team_partition
from shared.llm import allowances
from shared.llm.models import Caller, KeyRecord, Scope, TeamLimits
from shared.llm.upstream import Headers

PREFIX = "kvk_"
KNOWN_SECONDS = 5
"""How long a process goes on letting in whom it has let in: a revocation holds everywhere after that."""

_SHOWN = 10
_MOST_KNOWN = 10_000


def new_key() -> str:
    """`kvk_`, 32 random characters (160 bits), six that a typing error does not fit."""
    text = PREFIX + ids.random_text(32)
    return text + _checksum(text)


def is_key(text: str) -> bool:
    return text.startswith(PREFIX) and text[-6:] == _checksum(text[:-6])


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    since: datetime
    expires: datetime | None


class Keys:
    """Record of key K: partition `portal/llmkey/<sha256 of K>`, document `key`.

    Those of a team: partition `portal/llmkey/<team id>`, documents `made/<sha256 of K>`, and `limits`. One of the
    team's own counts; of two that were made at once, the secret leads to one only.
    """

    def __init__(self, documents: Documents, secret_store: Secrets, tokens: Tokens, clock: Clock) -> None:
        self._documents = documents
        self._secrets = secret_store
        self._tokens = tokens
        self._clock = clock
        self._known: dict[str, _Known] = {}

    # -- records --------------------------------------------------------------------------------

    async def ensure_key(self, team_id: str) -> KeyRecord:
        """The team's own key, made when missing; the key itself is in Secrets under `llm-key-<team>`."""
        name = _secret_name(team_id)
        if await self._secrets.get(name) is None:
            await self._secrets.put(name, new_key())
        key = await self._secrets.get(name)
        if key is None:
            raise NotFound(f"Secret {name} vanished while it was being made. Try again.")
        scope = Scope(kind="team", id=team_id)
        record = self.record(key, team_id, name="Team key", scope=scope, secret_name=name)
        try:
            await self.add(record)
        except Exists:
            return await self._by_hash(record.key_hash)
        return record

    def record(self, key: str, team_id: str, **fields: Any) -> KeyRecord:
        """For a key, which is not stored."""
        key_hash = ids.digest(key)
        return KeyRecord(
            key_id=ids.scoped("key", team_id, key_hash[:16]),
            key_hash=key_hash,
            team_id=team_id,
            shown=key[:_SHOWN],
            created_at=iso(self._clock.now()),
            **fields,
        )

    async def add(self, record: KeyRecord) -> None:
        """Raises Exists."""
        await self._documents.commit(_partition(record.team_id), [Put(f"made/{record.key_hash}", {}, ANY)])
        await self._documents.commit(_partition(record.key_hash), [Put("key", record.json_body())])

    async def all_of(self, team_id: str) -> list[KeyRecord]:
        """Oldest first."""
        made = await self._documents.query(_partition(team_id), "made/")
        hashes = [doc.id.removeprefix("made/") for doc in made]
        docs = await asyncio.gather(*(self._documents.get(_partition(key_hash), "key") for key_hash in hashes))
        return sorted((_read(doc) for doc in docs if doc), key=_by_age)

    async def find(self, team_id: str, key_id: str) -> KeyRecord:
        """Raises NotFound."""
        start = key_id.rpartition("_")[2]
        made = await self._documents.query(_partition(team_id), f"made/{start}", limit=1) if ids.is_plain(start) else []
        for doc in made:
            kept = await self._documents.get(_partition(doc.id.removeprefix("made/")), "key")
            if kept and kept.body["key_id"] == key_id:
                return _read(kept)
        raise NotFound("There is no such key.")

    async def change(self, key_hash: str, change: Callable[[KeyRecord], Json]) -> KeyRecord:
        """Replace the fields that `change` names. Raises NotFound, or Stale when it was changed at the same time."""
        doc = await self._documents.get(_partition(key_hash), "key")
        if doc is None:
            raise NotFound("There is no such key.")
        before = _read(doc)
        record = KeyRecord.model_validate(before.model_dump() | change(before))
        await self._documents.commit(_partition(key_hash), [Put("key", record.json_body(), doc.etag)])
        self._known.clear()
        return record

    async def remove(self, record: KeyRecord) -> None:
        """What leads to the record goes last. Safe to repeat."""
        await self._documents.commit(_partition(record.key_hash), [Delete("key")])
        await self._documents.commit(_partition(record.team_id), [Delete(f"made/{record.key_hash}")])
        self._known.clear()

    async def revoke_all(self, team_id: str) -> None:
        """No key of the team is known to anybody any more. What leads to the records goes last."""
        name = _secret_name(team_id)
        made = await self._documents.query(_partition(team_id), "made/")
        key = await self._secrets.get(name)
        hashes = {doc.id.removeprefix("made/") for doc in made}
        for key_hash in hashes | ({ids.digest(key)} if key else set()):
            await self._documents.commit(_partition(key_hash), [Delete("key")])
        await drop(self._documents, _partition(team_id))
        await self._secrets.delete(name)
        self._known.clear()

    async def limits(self, team_id: str) -> TeamLimits:
        doc = await self._documents.get(_partition(team_id), "limits")
        return TeamLimits.model_validate(doc.body) if doc else TeamLimits()

    async def set_limits(self, team_id: str, limits: TeamLimits) -> None:
        await self._documents.commit(_partition(team_id), [Put("limits", limits.model_dump(), ANY)])
        self._known.clear()

    # -- callers --------------------------------------------------------------------------------

    async def authenticate(self, headers: Headers) -> Caller:
        """Who pays for a call: a key itself, or a run through its token. Raises Unauthenticated or Forbidden."""
        offered = _offered(headers)
        known = self._known.get(ids.digest(offered[0])) if offered else None
        if known and self._still_counts(known):
            return known.caller
        credential = _credential(offered)
        digest = ids.digest(credential)
        found = await self._by_key(digest) if credential.startswith(PREFIX) else await self._by_token(credential)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[digest] = found
        return found.caller

    def _still_counts(self, known: _Known) -> bool:
        """Not when the clock was set back since."""
        now = self._clock.now()
        fresh = timedelta() <= now - known.since < timedelta(seconds=KNOWN_SECONDS)
        return fresh and (known.expires is None or now < known.expires)

    async def _by_key(self, key_hash: str) -> _Known:
        record = await self._usable(key_hash)
        if record.scope.kind == "person":
            await self._refuse_strangers(record.scope.id, record.team_id)
        sandbox_id = record.scope.id if record.scope.kind == "sandbox" else None
        caller = Caller(record.team_id, record.account, sandbox_id=sandbox_id)
        return await self._known_as(caller, record)

    async def _by_token(self, token: str) -> _Known:
        run = _run_claims(await self._tokens.verify(token, RUN_AUDIENCE, CLOCK_LEEWAY))
        record = await self._usable(run["key_hash"])
        if record.team_id != run["team_id"]:
            raise Unauthenticated("This run token names a key of another team. Start the run again.")
        await self._refuse_ended(run["sub"])
        cap = allowances.of_run(run["sub"], run["cap"])
        caller = Caller(record.team_id, record.account, run["sub"], run["card_id"], allowances=(cap,))
        return await self._known_as(caller, record)

    async def _known_as(self, caller: Caller, record: KeyRecord) -> _Known:
        limits = await self.limits(record.team_id)
        more = allowances.of_team(record.team_id, limits, caller.run_id, caller.card_id, caller.sandbox_id)
        whole = replace(
            caller,
            models=None if record.models is None else frozenset(record.models),
            allowances=(*caller.allowances, *allowances.of_key(record), *more),
        )
        return _Known(whole, self._clock.now(), parse(record.expires_at) if record.expires_at else None)

    async def _refuse_ended(self, run_id: str) -> None:
        """A run's token is good while the run lasts, and no longer, whoever has kept it."""
        doc = await self._documents.get(board_partition(ids.scope_of(run_id, "run")), run_key(run_id))
        if doc is None or doc.body["status"] in RUN_OVER:
            raise Unauthenticated("This run is over. Its token asks no model any more; retry the run for a new one.")

    async def _refuse_strangers(self, user_id: str, team_id: str) -> None:
        member = await self._documents.get(team_partition(team_id), f"member/{user_id}")
        user = await self._documents.get(f"portal/user/{user_id}", "user")
        if member is None or user is None or user.body.get("disabled"):
            raise Unauthenticated("Whoever this key was made for is no longer there. Ask for a key of your own.")

    async def _usable(self, key_hash: str) -> KeyRecord:
        record = await self._by_hash(key_hash)
        if record.expires_at is not None and parse(record.expires_at) <= self._clock.now():
            raise Unauthenticated("This key has expired. Ask an administrator of the team for another.")
        if record.disabled:
            raise Forbidden("This key is disabled. Ask an administrator of the team to enable it.")
        return record

    async def _by_hash(self, key_hash: str) -> KeyRecord:
        doc = await self._documents.get(_partition(key_hash), "key") if ids.is_plain(key_hash) else None
        if doc is None:
            raise Unauthenticated("This key is not known. Use a key of your team or a run's token.")
        return _read(doc)


def _read(doc: Doc) -> KeyRecord:
    return KeyRecord.model_validate_json(doc.raw)


def _by_age(record: KeyRecord) -> tuple[str, bool, str]:
    """The team's own first among those of the same moment."""
    return record.created_at, record.secret_name is None, record.key_id


def _secret_name(team_id: str) -> str:
    return f"llm-key-{team_id}"


def _partition(of: str) -> str:
    """Of a key, by its hash, or of a team."""
    return f"portal/llmkey/{of}"


def _checksum(text: str) -> str:
    return ids.digest(text)[:6]


def _offered(headers: Headers) -> list[str]:
    """Clients may send both headers."""
    offered = [value.strip() for name, value in headers if name == "x-api-key"]
    for name, value in headers:
        if name == "authorization":
            scheme, _, token = value.partition(" ")
            if scheme.lower() == "bearer":
                offered.append(token.strip())
    return offered


def _credential(offered: Sequence[str]) -> str:
    """The first that can be ours counts."""
    for credential in offered:
        if is_key(credential) or credential.count(".") == 2:
            return credential
    if any(credential.startswith(PREFIX) for credential in offered):
        raise Unauthenticated("This key is mistyped or cut off: its last characters do not fit the others.")
    raise Unauthenticated("Send a key of your team or a run's token, as x-api-key or as Authorization: Bearer.")


def _run_claims(claims: Json) -> dict[str, Any]:
    shape = {"sub": str, "team_id": str, "card_id": str, "key_hash": str, "cap": int}
    if any(not isinstance(claims.get(name), kind) for name, kind in shape.items()):
        raise Unauthenticated("This run token lacks a claim. Start the run again.")
    return claims
