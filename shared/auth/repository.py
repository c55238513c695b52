"""Typed access to `portal/user/<id>`, `portal/login/<00..15>`, `portal/session/<family>` and what goes with them."""

from shared.auth.models import ApiTokenRecord, RefreshFamily, UserRecord
from shared.core import ids
from shared.core.errors import Exists
from shared.core.ports import Delete, Documents, Json, Put

_FORGOTTEN_AT_ONCE = 50


class AuthRepository:
    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def user(self, user_id: str) -> tuple[UserRecord, str] | None:
        if not ids.is_plain(user_id):
            return None
        doc = await self._documents.get(f"portal/user/{user_id}", "user")
        return (UserRecord.model_validate(doc.body), doc.etag) if doc else None

    async def save_user(self, user: UserRecord, etag: str | None) -> None:
        await self._documents.commit(f"portal/user/{user.id}", [Put("user", user.json_body(), etag)])

    async def team_ids(self, user_id: str) -> list[str]:
        docs = await self._documents.query(f"portal/user/{user_id}", "team/")
        return [doc.body["team_id"] for doc in docs]

    async def keep_login(self, state: str, flow: Json, oldest: str) -> None:
        """Keeps a flow, and forgets abandoned ones from before `oldest`: anybody may begin a sign-in."""
        partition, key = _login(state)
        others = await self._documents.query(partition, "flow/")
        forgotten = [Delete(doc.id) for doc in others if doc.body["at"] < oldest][:_FORGOTTEN_AT_ONCE]
        await self._documents.commit(partition, [Put(key, flow), *forgotten])

    async def take_login(self, state: str) -> Json | None:
        """The kept flow, at most once, even when two callers ask together. Raises Stale to the slower."""
        partition, key = _login(state)
        doc = await self._documents.get(partition, key)
        if doc is None:
            return None
        await self._documents.commit(partition, [Delete(key, doc.etag)])
        return doc.body

    async def family(self, family_id: str) -> tuple[RefreshFamily, str] | None:
        if not ids.is_plain(family_id):
            return None
        doc = await self._documents.get(f"portal/session/{family_id}", "session")
        return (RefreshFamily.model_validate(doc.body), doc.etag) if doc else None

    async def save_family(self, family_id: str, family: RefreshFamily, etag: str | None) -> None:
        await self._documents.commit(f"portal/session/{family_id}", [Put("session", family.json_body(), etag)])

    async def keep_new_family(self, family_id: str, family: RefreshFamily, now: str) -> None:
        """Keeps a session, and forgets a few expired ones, whoever's they were: rows sort by when they expire."""
        shard = f"portal/sessions/{ids.shard(family_id)}"
        oldest = await self._documents.query(shard, "until/", limit=_FORGOTTEN_AT_ONCE)
        expired = [doc for doc in oldest if doc.body["expires_at"] < now]
        for doc in expired:
            await self._documents.commit(f"portal/session/{doc.body['family']}", [Delete("session")])
        row = Put(f"until/{family.expires_at}~{family_id}", {"family": family_id, "expires_at": family.expires_at})
        await self._documents.commit(shard, [row, *(Delete(doc.id) for doc in expired)])
        await self.save_family(family_id, family, None)

    async def become_first_admin(self, user_id: str) -> bool:
        """Whether this is the one person who ever becomes platform admin by the setting. Safe to repeat."""
        partition = "portal/admin/first"
        try:
            await self._documents.commit(partition, [Put("admin", {"user_id": user_id})])
        except Exists:
            doc = await self._documents.get(partition, "admin")
            return doc is not None and doc.body["user_id"] == user_id
        return True

    async def api_tokens(self, user_id: str) -> list[ApiTokenRecord]:
        docs = await self._documents.query(f"portal/user/{user_id}", "token/")
        return [ApiTokenRecord.model_validate(doc.body) for doc in docs]

    async def api_token(self, user_id: str, token_id: str) -> tuple[ApiTokenRecord, str] | None:
        if not (ids.is_plain(user_id) and ids.is_plain(token_id)):
            return None
        doc = await self._documents.get(f"portal/user/{user_id}", f"token/{token_id}")
        return (ApiTokenRecord.model_validate(doc.body), doc.etag) if doc else None

    async def save_api_token(self, user_id: str, token: ApiTokenRecord, etag: str | None) -> None:
        await self._documents.commit(f"portal/user/{user_id}", [Put(f"token/{token.id}", token.json_body(), etag)])

    async def delete_api_token(self, user_id: str, token_id: str) -> None:
        await self._documents.commit(f"portal/user/{user_id}", [Delete(f"token/{token_id}")])


def _login(state: str) -> tuple[str, str]:
    """Sign-ins under way are spread over sixteen partitions, small enough to be looked through."""
    digest = ids.digest(state)
    return f"portal/login/{ids.shard(digest)}", f"flow/{digest}"
