"""Sign-in, sessions and API tokens: every way of becoming a Principal."""

import contextlib
import hmac
from dataclasses import dataclass
from datetime import timedelta

from shared.auth.models import (
    ApiToken,
    ApiTokenRecord,
    CreatedApiToken,
    NewApiToken,
    RefreshFamily,
    Session,
    SignInStart,
    User,
    UserRecord,
)
from shared.auth.repository import AuthRepository
from shared.core import ids
from shared.core.access import Principal
from shared.core.clock import Clock, iso, parse
from shared.core.errors import Exists, Forbidden, Invalid, NotFound, Stale, Unauthenticated
from shared.core.live import LiveConnections
from shared.core.log import Log
from shared.core.ports import Identity, IdentityProvider, Json, Realtime, Tokens
from shared.core.store import retry_stale
from shared.core.teams import team_group, user_group

log = Log(__name__)

AUDIENCE = "api"
API_TOKEN_PREFIX = "kbp"  # noqa: S105 - a prefix that makes leaked tokens findable, not a secret
ACCESS_SECONDS = 900
REFRESH_DAYS = 30
LOGIN_MINUTES = 10
GRACE_SECONDS = 10
"""Two tabs may present the same refresh token this far apart."""
_KEPT_USED = 20


@dataclass(frozen=True, slots=True)
class AuthRules:
    """Where sign-in may return to, and who becomes the first platform admin.

    `first_admin` is an object id, or an e-mail address, which counts for people of `home_tenant` only: another
    organisation names its people as it likes.
    """

    callback_url: str
    first_admin: str
    home_tenant: str


class AuthService:
    def __init__(
        self,
        repository: AuthRepository,
        provider: IdentityProvider,
        tokens: Tokens,
        realtime: Realtime,
        clock: Clock,
        rules: AuthRules,
    ) -> None:
        self._repository, self._provider, self._tokens = repository, provider, tokens
        self._live, self._clock, self._rules = LiveConnections(realtime), clock, rules

    # -- sign-in --------------------------------------------------------------------------------

    async def begin(self, redirect_uri: str | None) -> SignInStart:
        if redirect_uri not in (None, self._rules.callback_url):
            raise Invalid(f"redirect_uri must be {self._rules.callback_url}.")
        start = await self._provider.begin(self._rules.callback_url)
        now = self._clock.now()
        oldest = iso(now - timedelta(minutes=LOGIN_MINUTES))
        await self._repository.keep_login(start.state, {"flow": start.flow, "at": iso(now)}, oldest)
        return SignInStart(auth_url=start.url, state=start.state)

    async def finish(self, code: str, state: str) -> Session:
        identity = await self._provider.redeem(await self._take_flow(state), code, state)
        user = await retry_stale(lambda: self._upsert(identity))
        if user.disabled:
            raise Forbidden("This account is disabled. Ask a platform admin to enable it.")
        log.info("auth.signed_in", user_id=user.id)
        return await self._new_session(user)

    async def _take_flow(self, state: str) -> Json:
        try:
            kept = await self._repository.take_login(state)
        except Stale:
            kept = None
        if kept is None:
            raise Unauthenticated("This sign-in is unknown or was used already. Start again from the sign-in page.")
        if self._age(kept["at"]) > LOGIN_MINUTES * 60:
            raise Unauthenticated(f"This sign-in took longer than {LOGIN_MINUTES} minutes. Start again.")
        return kept["flow"]

    async def _upsert(self, identity: Identity) -> UserRecord:
        user_id = ids.new_user(identity.tenant, identity.object_id)
        found = await self._repository.user(user_id)
        now = iso(self._clock.now())
        if found is None:
            user = UserRecord(
                id=user_id,
                tenant=identity.tenant,
                object_id=identity.object_id,
                name=identity.name,
                email=identity.email,
                platform_admin=self._is_first_admin(identity) and await self._repository.become_first_admin(user_id),
                created_at=now,
                last_sign_in=now,
            )
            try:
                await self._repository.save_user(user, None)
            except Exists:
                raise Stale("Another tab signed in first.") from None
            return user
        user, etag = found
        user = user.model_copy(update={"name": identity.name, "email": identity.email, "last_sign_in": now})
        await self._repository.save_user(user, etag)
        return user

    def _is_first_admin(self, identity: Identity) -> bool:
        named = self._rules.first_admin.lower()
        if not named or identity.tenant.lower() != self._rules.home_tenant.lower():
            return False
        return named in (identity.email.lower(), identity.object_id.lower())

    # -- sessions -------------------------------------------------------------------------------

    async def refresh(self, token: str) -> Session:
        """Rotate. A rotated token that comes back later than the grace ends its whole family."""
        return await retry_stale(lambda: self._rotate(token))

    async def _rotate(self, token: str) -> Session:
        family_id, _, _ = token.partition(".")
        found = await self._repository.family(family_id)
        if found is None or found[0].revoked or self._passed(found[0].expires_at):
            raise Unauthenticated("This session has ended. Sign in again.")
        family, etag = found
        presented = ids.digest(token)
        if presented in family.valid:
            family.valid.remove(presented)
            family.used = dict([*family.used.items(), (presented, iso(self._clock.now()))][-_KEPT_USED:])
        elif presented not in family.used:
            raise Unauthenticated("This refresh token is not valid. Sign in again.")
        elif self._age(family.used[presented]) > GRACE_SECONDS:
            family.revoked = True
            await self._repository.save_family(family_id, family, etag)
            log.warning("auth.refresh_reused", user_id=family.user_id)
            raise Unauthenticated(
                "This refresh token was used before; the session was ended to be safe. Sign in again."
            )
        user = await self._active_user(family.user_id)
        following = _new_refresh(family_id)
        family.valid.append(ids.digest(following))
        await self._repository.save_family(family_id, family, etag)
        return await self._session(user, family_id, following)

    async def sign_out(self, token: str) -> None:
        """Ends the session; an unknown one is ended already."""
        await retry_stale(lambda: self._revoke(token))

    async def _revoke(self, token: str) -> None:
        family_id, _, _ = token.partition(".")
        found = await self._repository.family(family_id)
        if found is not None and (ids.digest(token) in found[0].valid or ids.digest(token) in found[0].used):
            family, etag = found
            family.revoked = True
            await self._repository.save_family(family_id, family, etag)

    async def _new_session(self, user: UserRecord) -> Session:
        family_id = ids.random_text(24)
        token = _new_refresh(family_id)
        expires = self._clock.now() + timedelta(days=REFRESH_DAYS)
        family = RefreshFamily(user_id=user.id, valid=[ids.digest(token)], used={}, expires_at=iso(expires))
        await self._repository.keep_new_family(family_id, family, iso(self._clock.now()))
        return await self._session(user, family_id, token)

    async def _session(self, user: UserRecord, family_id: str, refresh_token: str) -> Session:
        access = await self._tokens.sign(AUDIENCE, user.id, {"sid": family_id}, ACCESS_SECONDS)
        return Session(access_token=access, refresh_token=refresh_token, expires_in=ACCESS_SECONDS, user=user.user())

    # -- who is calling -------------------------------------------------------------------------

    async def principal(self, authorization: str | None) -> Principal:
        """From an Authorization header: an access token or a personal API token."""
        scheme, _, credential = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not credential:
            raise Unauthenticated("Send an access token or an API token as 'Authorization: Bearer ...'.")
        if credential.startswith(f"{API_TOKEN_PREFIX}_"):
            user_id = await self._api_token_user(credential)
        else:
            user_id = await self._session_user(credential)
        return (await self._active_user(user_id)).principal()

    async def _session_user(self, credential: str) -> str:
        """An access token ends with its session: by signing out, or because a refresh token was stolen."""
        claims = await self._tokens.verify(credential, AUDIENCE)
        found = await self._repository.family(str(claims.get("sid")))
        if found is None or found[0].revoked:
            raise Unauthenticated("This session has ended. Sign in again.")
        return claims["sub"]

    async def me(self, principal: Principal) -> User:
        return (await self._active_user(principal.user_id)).user()

    async def set_disabled(self, principal: Principal, user_id: str, disabled: bool) -> User:
        """Platform admins only; a disabled person's sessions, tokens and live events stop at once. Safe to repeat."""
        if not principal.platform_admin:
            raise NotFound("There is no such user.")
        if disabled and user_id == principal.user_id:
            raise Invalid("You cannot disable your own account.")
        found = await self._repository.user(user_id)
        if found is None:
            raise NotFound("There is no such user.")
        user, etag = found
        user.disabled = disabled
        await self._repository.save_user(user, etag)
        if disabled:
            await self._end_live_events(user_id)
        return user.user()

    async def _end_live_events(self, user_id: str) -> None:
        groups = [user_group(user_id)] + [team_group(team_id) for team_id in await self._repository.team_ids(user_id)]
        await self._live.cut(user_id, groups, lambda: self._is_disabled(user_id))

    async def _is_disabled(self, user_id: str) -> bool:
        found = await self._repository.user(user_id)
        return found is None or found[0].disabled

    async def _active_user(self, user_id: str) -> UserRecord:
        found = await self._repository.user(user_id)
        if found is None or found[0].disabled:
            raise Unauthenticated("This account is disabled or gone.")
        return found[0]

    # -- personal API tokens --------------------------------------------------------------------

    async def create_api_token(self, principal: Principal, request: NewApiToken) -> CreatedApiToken:
        token_id = ids.random_text(10)
        secret = f"{API_TOKEN_PREFIX}_{principal.user_id}_{token_id}_{ids.random_text(40)}"
        now = self._clock.now()
        expires = now + timedelta(days=request.expires_in_days) if request.expires_in_days else None
        record = ApiTokenRecord(
            id=token_id,
            name=request.name,
            prefix=f"{API_TOKEN_PREFIX}_..._{token_id}",
            hash=ids.digest(secret),
            created_at=iso(now),
            expires_at=iso(expires) if expires else None,
        )
        await self._repository.save_api_token(principal.user_id, record, None)
        return CreatedApiToken(**record.model_dump(exclude={"hash"}), token=secret)

    async def api_tokens(self, principal: Principal) -> list[ApiToken]:
        records = await self._repository.api_tokens(principal.user_id)
        return [ApiToken(**record.model_dump(exclude={"hash"})) for record in records]

    async def delete_api_token(self, principal: Principal, token_id: str) -> None:
        if await self._repository.api_token(principal.user_id, token_id) is None:
            raise NotFound("There is no such token.")
        await self._repository.delete_api_token(principal.user_id, token_id)

    async def _api_token_user(self, credential: str) -> str:
        parts = credential.split("_")
        found = await self._repository.api_token(parts[1], parts[2]) if len(parts) == 4 else None
        if found is None or not hmac.compare_digest(found[0].hash, ids.digest(credential)):
            raise Unauthenticated("This API token is not valid.")
        record, etag = found
        if record.expires_at and self._passed(record.expires_at):
            raise Unauthenticated("This API token has expired.")
        if record.last_used_at is None or self._age(record.last_used_at) > 3600:
            record.last_used_at = iso(self._clock.now())
            with contextlib.suppress(Stale):  # another call has noted it, or the token was deleted and stays so
                await self._repository.save_api_token(parts[1], record, etag)
        return parts[1]

    def _age(self, moment: str) -> float:
        return (self._clock.now() - parse(moment)).total_seconds()

    def _passed(self, moment: str) -> bool:
        return self._age(moment) >= 0


def _new_refresh(family_id: str) -> str:
    return f"{family_id}.{ids.random_text(40)}"
