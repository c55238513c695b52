"""Typed access to `portal/user/<id>`, `portal/login/<state>` and `portal/session/<family>`."""

from shared.auth.models import ApiTokenRecord, RefreshFamily, UserRecord
from shared.core import ids
from shared.core.ports import Delete, Documents, Json, Put


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

    async def keep_login(self, state: str, flow: Json) -> None:
        await self._documents.commit(f"portal/login/{ids.digest(state)}", [Put("flow", flow)])

    async def take_login(self, state: str) -> Json | None:
        """The kept flow, at most once, even when two callers ask together. Raises Stale to the slower."""
        partition = f"portal/login/{ids.digest(state)}"
        doc = await self._documents.get(partition, "flow")
        if doc is None:
            return None
        await self._documents.commit(partition, [Delete("flow", doc.etag)])
        return doc.body

    async def family(self, family_id: str) -> tuple[RefreshFamily, str] | None:
        if not ids.is_plain(family_id):
            return None
        doc = await self._documents.get(f"portal/session/{family_id}", "session")
        return (RefreshFamily.model_validate(doc.body), doc.etag) if doc else None

    async def save_family(self, family_id: str, family: RefreshFamily, etag: str | None) -> None:
        await self._documents.commit(f"portal/session/{family_id}", [Put("session", family.json_body(), etag)])

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
