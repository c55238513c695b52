import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest

from shared.auth.models import NewApiToken, Session
from shared.auth.service import ACCESS_SECONDS, GRACE_SECONDS
from shared.core.access import Principal
from shared.core.errors import Forbidden, Invalid, NotFound, PlatformError, Unauthenticated, Unavailable
from tests.unit.world import World


async def after[T](ticks: int, act: Awaitable[T]) -> T:
    """Begins a little later than what it races with."""
    for _ in range(ticks):
        await asyncio.sleep(0)
    return await act


CALLBACK = "https://web.example/auth/callback"


@pytest.fixture
def world() -> World:
    return World()


async def sign_in(world: World, name: str = "Ada", **who: str) -> Session:
    state = (await world.platform.auth.begin(None)).state
    return await world.platform.auth.finish(world.identity.consent(name, **who), state)


async def caller(world: World, session: Session) -> Principal:
    return await world.platform.auth.principal(f"Bearer {session.access_token}")


class TestSignIn:
    async def test_somebody_new_becomes_a_user(self, world: World) -> None:
        session = await sign_in(world, "Ada")
        assert (session.user.name, session.user.email) == ("Ada", "ada@contoso.test")
        assert (session.token_type, session.expires_in) == ("Bearer", 900)
        assert await world.platform.auth.me(await caller(world, session)) == session.user

    async def test_abandoned_sign_ins_are_forgotten(self, world: World) -> None:
        for _ in range(40):
            await world.platform.auth.begin(None)
        world.clock.advance(601)
        for _ in range(200):
            await world.platform.auth.begin(None)
        kept = [doc for name, docs in world.documents.partitions.items() if "portal/login/" in name for doc in docs]
        assert len(kept) == 200

    async def test_the_same_person_is_the_same_user_under_a_new_name(self, world: World) -> None:
        first = await sign_in(world, "Ada")
        again = await sign_in(world, "ada", email="countess@contoso.test")
        assert again.user.id == first.user.id
        assert (again.user.name, again.user.email) == ("ada", "countess@contoso.test")

    async def test_the_same_object_id_of_another_tenant_is_somebody_else(self, world: World) -> None:
        first = await sign_in(world, "Ada")
        assert (await sign_in(world, "Ada", tenant="22222222-2222-4222-8222-222222222222")).user.id != first.user.id

    async def test_the_browser_is_sent_to_the_provider_and_back_to_the_web_app_only(self, world: World) -> None:
        start = await world.platform.auth.begin(CALLBACK)
        assert start.auth_url.startswith("https://login.example/")
        assert start.state in start.auth_url
        for elsewhere in ("https://evil.example/auth/callback", CALLBACK + "/..", "", "https://web.example"):
            with pytest.raises(Invalid, match="redirect_uri"):
                await world.platform.auth.begin(elsewhere)

    async def test_the_flow_stays_on_the_server(self, world: World) -> None:
        start = await world.platform.auth.begin(None)
        assert "verifier" not in start.model_dump_json()

    async def test_a_state_is_used_once(self, world: World) -> None:
        state = (await world.platform.auth.begin(None)).state
        await world.platform.auth.finish(world.identity.consent("Ada"), state)
        with pytest.raises(Unauthenticated, match="used already"):
            await world.platform.auth.finish(world.identity.consent("Ada"), state)

    async def test_a_state_is_used_once_by_simultaneous_callers_too(self, world: World) -> None:
        state = (await world.platform.auth.begin(None)).state
        attempts = (
            world.another_platform().auth.finish(world.identity.consent(name), state) for name in ("Ada", "Bob", "Eve")
        )
        results = await asyncio.gather(*attempts, return_exceptions=True)
        assert sum(isinstance(result, Session) for result in results) == 1
        assert sum(isinstance(result, Unauthenticated) for result in results) == 2

    @pytest.mark.parametrize("state", ["", "made up", "../..", "x" * 512, "\x00"])
    async def test_an_unknown_state_is_refused(self, world: World, state: str) -> None:
        with pytest.raises(Unauthenticated):
            await world.platform.auth.finish(world.identity.consent("Ada"), state)

    async def test_ten_minutes_are_enough(self, world: World) -> None:
        state = (await world.platform.auth.begin(None)).state
        world.clock.advance(600)
        await world.platform.auth.finish(world.identity.consent("Ada"), state)

    async def test_more_than_ten_minutes_are_too_long(self, world: World) -> None:
        state = (await world.platform.auth.begin(None)).state
        world.clock.advance(601)
        with pytest.raises(Unauthenticated, match="10 minutes"):
            await world.platform.auth.finish(world.identity.consent("Ada"), state)

    async def test_whom_the_provider_refuses_does_not_get_in(self, world: World) -> None:
        state = (await world.platform.auth.begin(None)).state
        with pytest.raises(Unauthenticated):
            await world.platform.auth.finish("made up", state)
        assert not [key for key in world.documents.partitions if key.startswith("portal/user/")]

    async def test_when_the_provider_is_away_it_says_so(self, world: World) -> None:
        world.identity.failure = Unavailable("Entra ID does not answer.")
        with pytest.raises(Unavailable):
            await sign_in(world)

    async def test_a_first_sign_in_from_two_tabs_succeeds_in_both(self, world: World) -> None:
        sessions = await asyncio.gather(*(sign_in(world, "Ada") for _ in range(3)))
        assert len({session.user.id for session in sessions}) == 1


class TestFirstAdmin:
    async def test_the_person_named_by_the_setting_becomes_platform_admin(self, world: World) -> None:
        assert (await sign_in(world, "Grace", email="GRACE@contoso.test")).user.platform_admin
        assert not (await sign_in(world, "Ada")).user.platform_admin

    async def test_taking_on_that_address_later_gives_nothing(self, world: World) -> None:
        await sign_in(world, "Eve", email="eve@contoso.test")
        assert not (await sign_in(world, "Eve", email="grace@contoso.test")).user.platform_admin

    async def test_of_two_with_that_address_the_first_does(self, world: World) -> None:
        assert (await sign_in(world, "Grace", email="grace@contoso.test")).user.platform_admin
        assert not (await sign_in(world, "Mallory", email="grace@contoso.test")).user.platform_admin
        assert (await sign_in(world, "Grace", email="grace@contoso.test")).user.platform_admin

    async def test_another_organisation_may_use_that_address_in_vain(self, world: World) -> None:
        other = "22222222-2222-4222-8222-222222222222"
        assert not (await sign_in(world, "Grace", email="grace@contoso.test", tenant=other)).user.platform_admin

    async def test_an_object_id_names_one_too(self) -> None:
        world = World(replace(World().settings, first_admin="oid-grace"))
        assert (await sign_in(world, "Grace", email="other@contoso.test")).user.platform_admin

    async def test_without_the_setting_nobody_does(self) -> None:
        world = World(World().settings.__class__())
        assert not (await sign_in(world, "Nobody", email="")).user.platform_admin


class TestRefresh:
    async def test_a_token_is_exchanged_for_a_new_pair(self, world: World) -> None:
        first = await sign_in(world)
        world.clock.advance(60)
        second = await world.platform.auth.refresh(first.refresh_token)
        assert second.refresh_token != first.refresh_token
        assert second.user == first.user
        await caller(world, second)

    async def test_two_tabs_may_use_the_same_token_within_the_grace(self, world: World) -> None:
        first = await sign_in(world)
        tabs = [await world.platform.auth.refresh(first.refresh_token)]
        world.clock.advance(GRACE_SECONDS)
        tabs.append(await world.platform.auth.refresh(first.refresh_token))
        for tab in tabs:
            await world.platform.auth.refresh(tab.refresh_token)

    async def test_simultaneous_tabs_both_get_a_session(self, world: World) -> None:
        first = await sign_in(world)
        tabs = await asyncio.gather(
            *(world.another_platform().auth.refresh(first.refresh_token) for _ in range(4)),
        )
        assert len({tab.refresh_token for tab in tabs}) == 4

    async def test_a_token_used_again_later_ends_every_session_that_came_from_it(self, world: World) -> None:
        first = await sign_in(world)
        second = await world.platform.auth.refresh(first.refresh_token)
        world.clock.advance(GRACE_SECONDS + 1)
        with pytest.raises(Unauthenticated, match="used before"):
            await world.platform.auth.refresh(first.refresh_token)
        with pytest.raises(Unauthenticated, match="ended"):
            await world.platform.auth.refresh(second.refresh_token)
        for session in (first, second):
            with pytest.raises(Unauthenticated, match="ended"):
                await caller(world, session)

    async def test_expired_sessions_are_forgotten(self, world: World) -> None:
        for _ in range(20):
            await sign_in(world)
        world.clock.advance(31 * 86_400)
        for _ in range(300):  # one in sixteen looks where a given one lies
            await sign_in(world)
        kept = [name for name in world.documents.partitions if "portal/session/" in name]
        kept = [name for name in kept if world.documents.partitions[name]]
        assert len(kept) == 300

    async def test_other_sign_ins_of_the_person_go_on(self, world: World) -> None:
        stolen, other = await sign_in(world), await sign_in(world)
        await world.platform.auth.refresh(stolen.refresh_token)
        world.clock.advance(GRACE_SECONDS + 1)
        with pytest.raises(Unauthenticated):
            await world.platform.auth.refresh(stolen.refresh_token)
        await caller(world, other)
        await world.platform.auth.refresh(other.refresh_token)

    async def test_a_session_lasts_thirty_days(self, world: World) -> None:
        token = (await sign_in(world)).refresh_token
        for _ in range(29):
            world.clock.advance(86_400)
            token = (await world.platform.auth.refresh(token)).refresh_token
        world.clock.advance(86_400)
        with pytest.raises(Unauthenticated, match="ended"):
            await world.platform.auth.refresh(token)

    @pytest.mark.parametrize(
        "change", [lambda t: t[:-1], lambda t: t + "x", lambda t: t.partition(".")[0], lambda _: ""]
    )
    async def test_a_changed_token_is_refused_and_harms_nothing(self, world: World, change: Any) -> None:
        session = await sign_in(world)
        with pytest.raises(Unauthenticated):
            await world.platform.auth.refresh(change(session.refresh_token))
        await world.platform.auth.refresh(session.refresh_token)

    @pytest.mark.parametrize("token", [".", "../x.y", "a" * 600, "é.x", "a\x00.b"])
    async def test_what_cannot_be_a_token_is_refused(self, world: World, token: str) -> None:
        with pytest.raises(Unauthenticated):
            await world.platform.auth.refresh(token)

    async def test_tokens_are_not_stored(self, world: World) -> None:
        session = await sign_in(world)
        kept = b"".join(body for rows in world.documents.partitions.values() for _, body in rows.values())
        assert session.refresh_token.encode() not in kept
        assert session.refresh_token.partition(".")[2].encode() not in kept


class TestSignOut:
    async def test_the_session_ends(self, world: World) -> None:
        session = await sign_in(world)
        await world.platform.auth.sign_out(session.refresh_token)
        with pytest.raises(Unauthenticated):
            await world.platform.auth.refresh(session.refresh_token)

    async def test_signing_out_again_or_with_nonsense_is_fine(self, world: World) -> None:
        session = await sign_in(world)
        for token in (session.refresh_token, session.refresh_token, "nonsense", "", "../x.y"):
            await world.platform.auth.sign_out(token)

    async def test_it_takes_the_whole_token(self, world: World) -> None:
        session = await sign_in(world)
        await world.platform.auth.sign_out(session.refresh_token.partition(".")[0] + ".guess")
        await world.platform.auth.refresh(session.refresh_token)

    @pytest.mark.parametrize("ticks", range(6))
    async def test_while_another_tab_refreshes_it_ends_the_session(self, world: World, ticks: int) -> None:
        session = await sign_in(world)
        results = await asyncio.gather(
            world.another_platform().auth.refresh(session.refresh_token),
            after(ticks, world.another_platform().auth.sign_out(session.refresh_token)),
            return_exceptions=True,
        )
        assert results[1] is None
        token = results[0].refresh_token if isinstance(results[0], Session) else session.refresh_token
        with pytest.raises(Unauthenticated):
            await world.platform.auth.refresh(token)


class TestWhoIsCalling:
    @pytest.mark.parametrize(
        "header", [None, "", "Bearer", "Bearer ", "Basic YWRh", "Bearer x", "Bearer a.b.c", "Bearer kbp_", "kbp_x"]
    )
    async def test_without_valid_credentials_nobody(self, world: World, header: str | None) -> None:
        with pytest.raises(Unauthenticated):
            await world.platform.auth.principal(header)

    async def test_the_scheme_is_not_case_sensitive(self, world: World) -> None:
        session = await sign_in(world)
        assert (await world.platform.auth.principal(f"bearer {session.access_token}")).user_id == session.user.id

    async def test_an_access_token_lasts_a_quarter_of_an_hour(self, world: World) -> None:
        session = await sign_in(world)
        world.clock.advance(ACCESS_SECONDS - 1)
        await caller(world, session)
        world.clock.advance(2)
        with pytest.raises(Unauthenticated, match="expired"):
            await caller(world, session)

    async def test_a_token_for_another_purpose_is_refused(self, world: World) -> None:
        session = await sign_in(world)
        token = await world.platform.tokens.sign("run", session.user.id, {}, 60)
        with pytest.raises(Unauthenticated):
            await world.platform.auth.principal(f"Bearer {token}")

    async def test_a_refresh_token_is_no_access_token(self, world: World) -> None:
        session = await sign_in(world)
        with pytest.raises(Unauthenticated):
            await world.platform.auth.principal(f"Bearer {session.refresh_token}")


class TestDisabled:
    @pytest.fixture
    async def grace(self, world: World) -> Principal:
        return await caller(world, await sign_in(world, "Grace"))

    async def test_every_way_in_closes_at_once(self, world: World, grace: Principal) -> None:
        session = await sign_in(world)
        token = await world.platform.auth.create_api_token(await caller(world, session), _request())
        assert (await world.platform.auth.set_disabled(grace, session.user.id, True)).id == session.user.id
        for attempt in (
            world.platform.auth.principal(f"Bearer {session.access_token}"),
            world.platform.auth.principal(f"Bearer {token.token}"),
            world.platform.auth.refresh(session.refresh_token),
        ):
            with pytest.raises(Unauthenticated):
                await attempt
        with pytest.raises(Forbidden, match="disabled"):
            await sign_in(world)

    async def test_enabled_again_they_may_come_back(self, world: World, grace: Principal) -> None:
        session = await sign_in(world)
        for disabled in (True, False):
            await world.platform.auth.set_disabled(grace, session.user.id, disabled)
        await sign_in(world)

    async def test_only_platform_admins_may_and_not_themselves(self, world: World, grace: Principal) -> None:
        ada = await caller(world, await sign_in(world))
        with pytest.raises(NotFound):
            await world.platform.auth.set_disabled(ada, grace.user_id, True)
        with pytest.raises(Invalid):
            await world.platform.auth.set_disabled(grace, grace.user_id, True)
        with pytest.raises(NotFound):
            await world.platform.auth.set_disabled(grace, "unknown", True)

    async def test_to_enable_oneself_changes_nothing(self, world: World, grace: Principal) -> None:
        assert (await world.platform.auth.set_disabled(grace, grace.user_id, False)).id == grace.user_id
        assert (await world.platform.auth.me(grace)).id == grace.user_id

    async def test_signing_in_does_not_enable_anybody(self, world: World, grace: Principal) -> None:
        session = await sign_in(world)
        await world.platform.auth.set_disabled(grace, session.user.id, True)
        for _ in range(2):
            with pytest.raises(PlatformError):
                await sign_in(world)


def _request(days: int | None = None) -> NewApiToken:
    return NewApiToken(name="CI", expires_in_days=days)


class TestApiTokens:
    @pytest.fixture
    async def ada(self, world: World) -> Principal:
        return await caller(world, await sign_in(world))

    async def test_it_acts_for_whoever_made_it(self, world: World, ada: Principal) -> None:
        made = await world.platform.auth.create_api_token(ada, _request())
        assert await world.platform.auth.principal(f"Bearer {made.token}") == ada

    async def test_it_is_shown_once_and_never_stored(self, world: World, ada: Principal) -> None:
        made = await world.platform.auth.create_api_token(ada, _request())
        (listed,) = await world.platform.auth.api_tokens(ada)
        assert listed.id == made.id
        assert made.token.startswith("kbp_")
        kept = b"".join(body for rows in world.documents.partitions.values() for _, body in rows.values())
        assert made.token.encode() not in kept
        assert made.token.rpartition("_")[2].encode() not in kept

    async def test_it_expires(self, world: World, ada: Principal) -> None:
        made = await world.platform.auth.create_api_token(ada, _request(days=1))
        world.clock.advance(86_399)
        await world.platform.auth.principal(f"Bearer {made.token}")
        world.clock.advance(1)
        with pytest.raises(Unauthenticated, match="expired"):
            await world.platform.auth.principal(f"Bearer {made.token}")

    async def test_a_deleted_one_does_not_work(self, world: World, ada: Principal) -> None:
        made = await world.platform.auth.create_api_token(ada, _request())
        await world.platform.auth.delete_api_token(ada, made.id)
        with pytest.raises(Unauthenticated):
            await world.platform.auth.principal(f"Bearer {made.token}")
        assert await world.platform.auth.api_tokens(ada) == []

    @pytest.mark.parametrize("ticks", range(4))
    async def test_one_deleted_while_it_is_used_stays_deleted(self, world: World, ada: Principal, ticks: int) -> None:
        made = await world.platform.auth.create_api_token(ada, _request())
        await asyncio.gather(
            world.platform.auth.delete_api_token(ada, made.id),
            after(ticks, world.platform.auth.principal(f"Bearer {made.token}")),
            return_exceptions=True,
        )
        with pytest.raises(Unauthenticated):
            await world.platform.auth.principal(f"Bearer {made.token}")

    async def test_used_by_many_at_once_it_works_for_all(self, world: World, ada: Principal) -> None:
        made = await world.platform.auth.create_api_token(ada, _request())
        await asyncio.gather(*(world.platform.auth.principal(f"Bearer {made.token}") for _ in range(10)))

    async def test_nobody_deletes_another_persons(self, world: World, ada: Principal) -> None:
        made = await world.platform.auth.create_api_token(ada, _request())
        bob = await caller(world, await sign_in(world, "Bob"))
        with pytest.raises(NotFound):
            await world.platform.auth.delete_api_token(bob, made.id)
        await world.platform.auth.principal(f"Bearer {made.token}")

    async def test_the_last_use_shows_within_the_hour(self, world: World, ada: Principal) -> None:
        made = await world.platform.auth.create_api_token(ada, _request())
        assert made.last_used_at is None
        await world.platform.auth.principal(f"Bearer {made.token}")
        first = (await world.platform.auth.api_tokens(ada))[0].last_used_at
        world.clock.advance(3601)
        await world.platform.auth.principal(f"Bearer {made.token}")
        assert first is not None
        assert (await world.platform.auth.api_tokens(ada))[0].last_used_at != first

    @pytest.mark.parametrize("change", [lambda t: t[:-1] + ("0" if t[-1] != "0" else "1"), lambda t: t + "_x"])
    async def test_a_changed_one_is_refused(self, world: World, ada: Principal, change: Any) -> None:
        made = await world.platform.auth.create_api_token(ada, _request())
        with pytest.raises(Unauthenticated):
            await world.platform.auth.principal(f"Bearer {change(made.token)}")

    @pytest.mark.parametrize("token", ["kbp_a_b_c", "kbp___", "kbp_../x_y_z", "kbp_é_b_c"])
    async def test_a_made_up_one_is_refused(self, world: World, token: str) -> None:
        with pytest.raises(Unauthenticated):
            await world.platform.auth.principal(f"Bearer {token}")
