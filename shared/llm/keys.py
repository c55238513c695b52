"""Virtual keys: what a team's calls are paid with. Only a hash of a key is stored with its record."""

import secrets
from typing import Any

from shared.core import ids
from shared.core.boards import board_partition, run_key
from shared.core.clock import Clock, iso
from shared.core.errors import Exists, Forbidden, NotFound, Unauthenticated
from shared.core.ports import ANY, Delete, Documents, Json, Put, Secrets, Tokens
from shared.core.resources import RUN_OVER
from shared.core.run_tokens import CLOCK_LEEWAY, RUN_AUDIENCE
from shared.llm.models import Caller, Cap, KeyRecord
from shared.llm.upstream import Headers

PREFIX = "kvk_"


class Keys:
    """Record of key K: partition `portal/llmkey/<sha256 of K>`, document `key`.

    Those of a team: partition `portal/llmkey/<team id>`, documents `made/<sha256 of K>`. One counts; of two that were
    made at once, the secret leads to one only.
    """

    def __init__(self, documents: Documents, secret_store: Secrets, tokens: Tokens, clock: Clock) -> None:
        self._documents = documents
        self._secrets = secret_store
        self._tokens = tokens
        self._clock = clock

    async def ensure_key(self, team_id: str) -> KeyRecord:
        """The team's own key, made when missing; the key itself is in Secrets under `llm-key-<team>`."""
        name = _secret_name(team_id)
        if await self._secrets.get(name) is None:
            await self._secrets.put(name, PREFIX + secrets.token_hex(24))
        key = await self._secrets.get(name)
        if key is None:
            raise NotFound(f"Secret {name} vanished while it was being made. Try again.")
        record = self._record(team_id, name, ids.digest(key))
        await self._documents.commit(_partition(team_id), [Put(f"made/{record.key_hash}", {}, ANY)])
        try:
            await self._documents.commit(_partition(record.key_hash), [Put("key", record.model_dump())])
        except Exists:
            return await self._by_hash(record.key_hash)
        return record

    async def revoke_key(self, team_id: str) -> None:
        """No key of the team is known to anybody any more. What leads to the records goes last."""
        name = _secret_name(team_id)
        made = await self._documents.query(_partition(team_id), "made/")
        key = await self._secrets.get(name)
        for key_hash in {doc.id.removeprefix("made/") for doc in made} | ({ids.digest(key)} if key else set()):
            await self._documents.commit(_partition(key_hash), [Delete("key")])
        await self._documents.commit(_partition(team_id), [Delete(doc.id) for doc in made])
        await self._secrets.delete(name)

    async def set_disabled(self, key_hash: str, disabled: bool) -> KeyRecord:
        """A disabled key refuses its runs too, from their next call on."""
        doc = await self._documents.get(_partition(key_hash), "key")
        if doc is None:
            raise NotFound("There is no such key.")
        record = KeyRecord.model_validate(doc.body | {"disabled": disabled})
        await self._documents.commit(_partition(key_hash), [Put("key", record.model_dump(), doc.etag)])
        return record

    async def authenticate(self, headers: Headers) -> Caller:
        """Who pays for a call: a key itself, or a run through its token. Raises Unauthenticated or Forbidden."""
        credential = _credential(headers)
        if credential.startswith(PREFIX):
            return _key_caller(await self._usable(ids.digest(credential)))
        claims = await self._tokens.verify(credential, RUN_AUDIENCE, CLOCK_LEEWAY)
        run = _run_claims(claims)
        record = await self._usable(run["key_hash"])
        if record.team_id != run["team_id"]:
            raise Unauthenticated("This run token names a key of another team. Start the run again.")
        await self._refuse_ended(run["sub"])
        return _run_caller(record, run)

    async def _refuse_ended(self, run_id: str) -> None:
        """A run's token is good while the run lasts, and no longer, whoever has kept it."""
        doc = await self._documents.get(board_partition(ids.scope_of(run_id, "run")), run_key(run_id))
        if doc is None or doc.body["status"] in RUN_OVER:
            raise Unauthenticated("This run is over. Its token asks no model any more; retry the run for a new one.")

    async def _usable(self, key_hash: str) -> KeyRecord:
        record = await self._by_hash(key_hash)
        if record.disabled:
            raise Forbidden("This key is disabled. Ask an administrator of the team to enable it.")
        return record

    async def _by_hash(self, key_hash: str) -> KeyRecord:
        doc = await self._documents.get(_partition(key_hash), "key") if ids.is_plain(key_hash) else None
        if doc is None:
            raise Unauthenticated("This key is not known. Use the team's key or a run's token.")
        return KeyRecord.model_validate(doc.body)

    def _record(self, team_id: str, secret_name: str, key_hash: str) -> KeyRecord:
        return KeyRecord(
            key_id=ids.scoped("key", team_id, key_hash[:16]),
            key_hash=key_hash,
            team_id=team_id,
            name="Team key",
            secret_name=secret_name,
            created_at=iso(self._clock.now()),
        )


def _secret_name(team_id: str) -> str:
    return f"llm-key-{team_id}"


def _partition(of: str) -> str:
    """Of a key, by its hash, or of a team."""
    return f"portal/llmkey/{of}"


def _credential(headers: Headers) -> str:
    """Clients may send both headers: the first that can be ours counts."""
    offered = [value.strip() for name, value in headers if name == "x-api-key"]
    for name, value in headers:
        scheme, _, token = value.partition(" ")
        if name == "authorization" and scheme.lower() == "bearer":
            offered.append(token.strip())
    for credential in offered:
        if credential.startswith(PREFIX) or credential.count(".") == 2:
            return credential
    raise Unauthenticated("Send the team's key or a run's token, as x-api-key or as Authorization: Bearer.")


def _run_claims(claims: Json) -> dict[str, Any]:
    shape = {"sub": str, "team_id": str, "card_id": str, "key_hash": str, "cap": int}
    if any(not isinstance(claims.get(name), kind) for name, kind in shape.items()):
        raise Unauthenticated("This run token lacks a claim. Start the run again.")
    return claims


def _key_caller(record: KeyRecord) -> Caller:
    return Caller(record.team_id, record.key_id, None, None, _key_caps(record))


def _run_caller(record: KeyRecord, run: dict[str, Any]) -> Caller:
    cap = Cap(
        counter=f"spend:run:{run['sub']}",
        limit=run["cap"],
        name="run's spend cap",
        remedy="Raise RUN_SPEND_CAP_USD, then retry the run.",
    )
    return Caller(record.team_id, record.key_id, run["sub"], run["card_id"], (cap, *_key_caps(record)))


def _key_caps(record: KeyRecord) -> tuple[Cap, ...]:
    if record.budget_micro_usd is None:
        return ()
    remedy = "Raise the key's budget, or wait until its 30 days are over."
    return (Cap(f"spend:key:{record.key_id}", record.budget_micro_usd, "key's budget", remedy),)
