"""Signing in, staying signed in, signing out; API tokens."""

import asyncio
import time
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import jwt
import pytest

from local.cloud import LocalCloud
from local.entra.config import DEMO_TENANT
from shared.core import ids
from tests.flows.world import Json, Person, join, make_card, make_team, problem, rewrite

GRACE_SECONDS = 10


@pytest.fixture
async def visitor(cloud: LocalCloud):
    """Somebody who has not signed in."""
    async with Person(cloud) as person:
        yield person


@pytest.fixture
async def session(visitor: Person) -> Json:
    return await visitor.sign_in("ada@contoso.test")


@pytest.fixture(scope="module")
async def rotated_early(cloud: LocalCloud) -> tuple[Json, float]:
    """A session whose first refresh token was used when this module began, and when that was."""
    async with Person.signed_in(cloud, "bob@contoso.test") as person:
        await person.post("/api/auth/refresh", {"refresh_token": person.session["refresh_token"]})
        return person.session, time.monotonic()


@pytest.fixture(autouse=True)
def _rotated_in_time(rotated_early: tuple[Json, float]) -> None:
    """Made before the first test, so that the test which waits for its grace to pass waits little."""


async def _at_entra(visitor: Person, username: str) -> tuple[str, str]:
    """Code and state, as Entra hands them to the web app."""
    start = await visitor.get("/api/auth/login")
    async with httpx.AsyncClient(trust_env=False) as browser:
        answer = await browser.post(start["auth_url"], data={"account": username})
    location = urlsplit(answer.headers["location"])
    assert f"{location.scheme}://{location.netloc}{location.path}" == f"{visitor.cloud.web_url}/auth/callback"
    returned = parse_qs(location.query)
    assert returned["state"] == [start["state"]]
    return returned["code"][0], returned["state"][0]


class TestSignIn:
    async def test_returns_a_session_and_who_it_is(self, visitor: Person):
        code, state = await _at_entra(visitor, "ada@contoso.test")
        session = await visitor.post("/api/auth/callback", {"code": code, "state": state})
        assert session["token_type"] == "Bearer"
        assert session["expires_in"] == 900
        assert session["user"]["email"] == "ada@contoso.test"
        assert session["user"]["name"] == "Ada Developer"
        answer = await visitor.request(
            "GET", "/api/auth/me", headers={"authorization": f"Bearer {session['access_token']}"}
        )
        assert answer.json() == session["user"]

    async def test_the_same_person_is_the_same_user_every_time(self, visitor: Person, ada: Person):
        assert (await visitor.sign_in("ada@contoso.test"))["user"]["id"] == ada.id

    async def test_only_the_configured_address_becomes_platform_admin(self, ada: Person, grace: Person):
        assert (await grace.get("/api/auth/me"))["platform_admin"] is True
        assert (await ada.get("/api/auth/me"))["platform_admin"] is False

    async def test_a_state_works_once(self, visitor: Person):
        code, state = await _at_entra(visitor, "ada@contoso.test")
        await visitor.post("/api/auth/callback", {"code": code, "state": state})
        refused = await visitor.refused("POST", "/api/auth/callback", {"code": code, "state": state})
        assert refused["status"] == 401

    async def test_a_state_works_once_even_when_two_come_together(self, visitor: Person):
        code, state = await _at_entra(visitor, "ada@contoso.test")
        body = {"code": code, "state": state}
        answers = await asyncio.gather(*(visitor.request("POST", "/api/auth/callback", json=body) for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]

    async def test_an_unknown_state_is_refused(self, visitor: Person):
        code, _ = await _at_entra(visitor, "ada@contoso.test")
        refused = await visitor.refused("POST", "/api/auth/callback", {"code": code, "state": "made-up"})
        assert refused["status"] == 401
        assert "Start again" in refused["detail"]

    async def test_the_code_of_another_sign_in_is_refused(self, visitor: Person):
        code, _ = await _at_entra(visitor, "ada@contoso.test")
        _, state = await _at_entra(visitor, "bob@contoso.test")
        assert (await visitor.refused("POST", "/api/auth/callback", {"code": code, "state": state}))["status"] == 401

    async def test_a_made_up_code_is_refused(self, visitor: Person):
        _, state = await _at_entra(visitor, "ada@contoso.test")
        assert (await visitor.refused("POST", "/api/auth/callback", {"code": "x", "state": state}))["status"] == 401

    @pytest.mark.parametrize("changed", ["nonce", "code_challenge", "state"])
    async def test_one_that_was_changed_on_its_way_to_entra_is_refused(self, visitor: Person, changed: str):
        """The id_token's nonce, the PKCE verifier and the state belong to one sign-in."""
        start = await visitor.get("/api/auth/login")
        address = urlsplit(start["auth_url"])
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        assert asked.keys() >= {"nonce", "code_challenge", "code_challenge_method", "state"}
        query = urlencode(asked | {changed: "A" * len(asked[changed])})
        changed_address = address._replace(query=query).geturl()
        async with httpx.AsyncClient(trust_env=False) as browser:
            answer = await browser.post(changed_address, data={"account": "ada@contoso.test"})
        returned = parse_qs(urlsplit(answer.headers["location"]).query)
        body = {"code": returned["code"][0], "state": returned["state"][0]}
        assert (await visitor.refused("POST", "/api/auth/callback", body))["status"] == 401

    async def test_another_tenant_signs_nobody_in(self, visitor: Person):
        start = await visitor.get("/api/auth/login")
        elsewhere = start["auth_url"].replace(DEMO_TENANT, "99999999-0000-0000-0000-000000000000")
        assert elsewhere != start["auth_url"]
        async with httpx.AsyncClient(trust_env=False) as browser:
            answer = await browser.post(elsewhere, data={"account": "ada@contoso.test"})
        assert answer.status_code >= 400
        assert "location" not in answer.headers

    async def test_one_that_took_too_long_is_refused(self, visitor: Person, cloud: LocalCloud):
        code, state = await _at_entra(visitor, "ada@contoso.test")
        digest = ids.digest(state)
        await rewrite(cloud, f"portal/login/{ids.shard(digest)}", f"flow/{digest}", at="2020-01-01T00:00:00.000Z")
        refused = await visitor.refused("POST", "/api/auth/callback", {"code": code, "state": state})
        assert refused["status"] == 401
        assert "longer than 10 minutes" in refused["detail"]

    async def test_returning_to_a_foreign_address_is_refused(self, visitor: Person):
        answer = await visitor.request(
            "GET", "/api/auth/login", params={"redirect_uri": "https://evil.example/auth/callback"}
        )
        assert problem(answer)["status"] == 422

    async def test_the_keys_that_check_access_tokens_are_public(self, visitor: Person, session: Json):
        keys = jwt.PyJWKSet.from_dict(await visitor.get("/api/auth/jwks"))
        key = keys[jwt.get_unverified_header(session["access_token"])["kid"]]
        claims = jwt.decode(session["access_token"], key, algorithms=["ES256"], audience="api")
        assert claims["sub"] == session["user"]["id"]


class TestSession:
    async def test_refreshing_rotates_the_refresh_token(self, visitor: Person, session: Json):
        fresh = await visitor.post("/api/auth/refresh", {"refresh_token": session["refresh_token"]})
        assert fresh["refresh_token"] != session["refresh_token"]
        assert fresh["user"] == session["user"]
        again = await visitor.post("/api/auth/refresh", {"refresh_token": fresh["refresh_token"]})
        assert again["refresh_token"] not in (session["refresh_token"], fresh["refresh_token"])

    async def test_two_tabs_may_refresh_together(self, visitor: Person, session: Json):
        body = {"refresh_token": session["refresh_token"]}
        tabs = await asyncio.gather(*(visitor.post("/api/auth/refresh", body) for _ in range(2)))
        for tab in tabs:
            await visitor.post("/api/auth/refresh", {"refresh_token": tab["refresh_token"]})

    async def test_a_made_up_refresh_token_is_refused(self, visitor: Person, session: Json):
        family = session["refresh_token"].partition(".")[0]
        for token in ("nonsense", f"{family}.{'0' * 40}", "../../x.y", "a" * 512):
            refused = await visitor.refused("POST", "/api/auth/refresh", {"refresh_token": token})
            assert refused["status"] == 401, token
        await visitor.post("/api/auth/refresh", {"refresh_token": session["refresh_token"]})

    async def test_signing_out_ends_the_session(self, visitor: Person, session: Json):
        fresh = await visitor.post("/api/auth/refresh", {"refresh_token": session["refresh_token"]})
        answer = await visitor.request("POST", "/api/auth/logout", json={"refresh_token": fresh["refresh_token"]})
        assert answer.status_code == 204
        for token in (session["refresh_token"], fresh["refresh_token"]):
            refused = await visitor.refused("POST", "/api/auth/refresh", {"refresh_token": token})
            assert refused["status"] == 401

    async def test_signing_out_of_an_unknown_session_is_fine(self, visitor: Person):
        answer = await visitor.request("POST", "/api/auth/logout", json={"refresh_token": "long.gone"})
        assert answer.status_code == 204

    async def test_signing_out_leaves_other_sessions_alone(self, visitor: Person, session: Json):
        other = await visitor.sign_in("ada@contoso.test")
        await visitor.post("/api/auth/logout", {"refresh_token": session["refresh_token"]})
        await visitor.post("/api/auth/refresh", {"refresh_token": other["refresh_token"]})

    async def test_ends_after_its_thirty_days(self, visitor: Person, session: Json, cloud: LocalCloud):
        family = session["refresh_token"].partition(".")[0]
        await rewrite(cloud, f"portal/session/{family}", "session", expires_at="2020-01-01T00:00:00.000Z")
        refused = await visitor.refused("POST", "/api/auth/refresh", {"refresh_token": session["refresh_token"]})
        assert refused["status"] == 401

    async def test_an_old_refresh_token_ends_the_session_after_the_grace(
        self, visitor: Person, rotated_early: tuple[Json, float]
    ):
        session, rotated = rotated_early
        child = (
            await visitor.post("/api/auth/refresh", {"refresh_token": session["refresh_token"]})
            if (time.monotonic() - rotated < GRACE_SECONDS - 2)
            else None
        )
        await asyncio.sleep(max(0.0, rotated + GRACE_SECONDS + 0.5 - time.monotonic()))
        stolen = await visitor.refused("POST", "/api/auth/refresh", {"refresh_token": session["refresh_token"]})
        assert stolen["status"] == 401
        assert "used before" in stolen["detail"]
        if child is not None:
            refused = await visitor.refused("POST", "/api/auth/refresh", {"refresh_token": child["refresh_token"]})
            assert refused["status"] == 401


class TestAccessToken:
    async def test_none_is_asked_for(self, visitor: Person):
        answer = await visitor.request("GET", "/api/teams")
        assert problem(answer)["status"] == 401
        assert answer.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("header", ["Bearer", "Bearer x", "Basic eDp5", "Bearer a.b.c", "Bearer kbp_x_y_z", "x"])
    async def test_nonsense_is_refused(self, visitor: Person, header: str):
        answer = await visitor.request("GET", "/api/teams", headers={"authorization": header})
        assert problem(answer)["status"] == 401

    async def test_a_changed_one_is_refused(self, visitor: Person, session: Json):
        head, claims, signature = session["access_token"].split(".")
        forged = f"{head}.{claims}.{'A' * len(signature)}"
        answer = await visitor.request("GET", "/api/teams", headers={"authorization": f"Bearer {forged}"})
        assert problem(answer)["status"] == 401

    async def test_an_unsigned_one_is_refused(self, visitor: Person, session: Json):
        claims = jwt.decode(session["access_token"], options={"verify_signature": False})
        forged = jwt.encode(claims, "", algorithm="none")
        answer = await visitor.request("GET", "/api/teams", headers={"authorization": f"Bearer {forged}"})
        assert problem(answer)["status"] == 401

    async def test_a_refresh_token_is_not_one(self, visitor: Person, session: Json):
        answer = await visitor.request(
            "GET", "/api/teams", headers={"authorization": f"Bearer {session['refresh_token']}"}
        )
        assert problem(answer)["status"] == 401


class TestDisabledUser:
    async def test_is_refused_everywhere_until_enabled_again(self, cloud: LocalCloud, grace: Person):
        async with Person.signed_in(cloud, "bob@contoso.test") as bob:
            token = (await bob.post("/api/auth/tokens", {"name": "script"}))["token"]
            await grace.post(f"/api/auth/users/{bob.id}/disable")
            try:
                assert (await bob.refused("GET", "/api/auth/me"))["status"] == 401
                refresh = {"refresh_token": bob.session["refresh_token"]}
                assert (await bob.refused("POST", "/api/auth/refresh", refresh))["status"] == 401
                script = await bob.request("GET", "/api/auth/me", headers={"authorization": f"Bearer {token}"})
                assert script.status_code == 401
                code, state = await _at_entra(bob, "bob@contoso.test")
                refused = await bob.refused("POST", "/api/auth/callback", {"code": code, "state": state})
                assert refused["status"] == 403
                assert "disabled" in refused["detail"]
            finally:
                await grace.post(f"/api/auth/users/{bob.id}/enable")
            assert (await bob.get("/api/auth/me"))["id"] == bob.id

    async def test_stops_seeing_live_events(self, cloud: LocalCloud, ada: Person, grace: Person):
        team = await make_team(ada, "Watched")
        async with Person.signed_in(cloud, "bob@contoso.test") as bob:
            await join(ada, team["id"], bob, "viewer")
            async with bob.watching() as socket:
                await make_card(ada, team["board_id"], "Seen")
                await socket.received(1)
                await grace.post(f"/api/auth/users/{bob.id}/disable")
                try:
                    seen = len(socket.messages)
                    await asyncio.sleep(0.5)
                    await make_card(ada, team["board_id"], "Not seen")
                    await asyncio.sleep(0.7)
                    assert len(socket.messages) == seen
                finally:
                    await grace.post(f"/api/auth/users/{bob.id}/enable")

    async def test_is_disabled_by_platform_admins_only(self, ada: Person, bob: Person):
        assert (await ada.refused("POST", f"/api/auth/users/{bob.id}/disable"))["status"] == 404

    async def test_admins_cannot_lock_themselves_out(self, grace: Person):
        assert (await grace.refused("POST", f"/api/auth/users/{grace.id}/disable"))["status"] == 422

    @pytest.mark.parametrize("user_id", ["unknown", "..", "u" + "0" * 16])
    async def test_unknown_users_are_not_found(self, grace: Person, user_id: str):
        assert (await grace.refused("POST", f"/api/auth/users/{user_id}/disable"))["status"] == 404


class TestApiToken:
    async def test_is_shown_once_and_works(self, ada: Person, visitor: Person):
        created = await ada.post("/api/auth/tokens", {"name": "CI", "expires_in_days": 30})
        headers = {"authorization": f"Bearer {created['token']}"}
        assert (await visitor.request("GET", "/api/auth/me", headers=headers)).json()["id"] == ada.id
        listed = next(t for t in await ada.get("/api/auth/tokens") if t["id"] == created["id"])
        assert "token" not in listed
        assert listed["name"] == "CI"
        assert listed["last_used_at"] is not None
        assert created["token"] not in str(listed)

    async def test_stops_working_when_revoked(self, ada: Person, visitor: Person):
        created = await ada.post("/api/auth/tokens", {"name": "short-lived"})
        headers = {"authorization": f"Bearer {created['token']}"}
        assert (await visitor.request("GET", "/api/auth/me", headers=headers)).status_code == 200
        assert (await ada.request("DELETE", f"/api/auth/tokens/{created['id']}")).status_code == 204
        assert (await visitor.request("GET", "/api/auth/me", headers=headers)).status_code == 401
        assert all(token["id"] != created["id"] for token in await ada.get("/api/auth/tokens"))

    async def test_stops_working_when_it_expires(self, ada: Person, visitor: Person, cloud: LocalCloud):
        created = await ada.post("/api/auth/tokens", {"name": "old", "expires_in_days": 1})
        headers = {"authorization": f"Bearer {created['token']}"}
        assert (await visitor.request("GET", "/api/auth/me", headers=headers)).status_code == 200
        yesterday = {"expires_at": "2020-01-01T00:00:00.000Z"}
        await rewrite(cloud, f"portal/user/{ada.id}", f"token/{created['id']}", **yesterday)
        refused = problem(await visitor.request("GET", "/api/auth/me", headers=headers))
        assert refused["status"] == 401
        assert "expired" in refused["detail"]

    async def test_is_refused_with_a_changed_secret(self, ada: Person, visitor: Person):
        token = (await ada.post("/api/auth/tokens", {"name": "guessed"}))["token"]
        changed = token[:-1] + ("0" if token[-1] != "0" else "1")
        answer = await visitor.request("GET", "/api/auth/me", headers={"authorization": f"Bearer {changed}"})
        assert problem(answer)["status"] == 401

    async def test_of_somebody_else_cannot_be_revoked(self, ada: Person, bob: Person):
        created = await ada.post("/api/auth/tokens", {"name": "mine"})
        assert (await bob.refused("DELETE", f"/api/auth/tokens/{created['id']}"))["status"] == 404

    async def test_needs_a_name_and_a_sensible_time(self, ada: Person):
        for body in ({"name": ""}, {"name": "   "}, {"name": "x", "expires_in_days": 0}, {}):
            assert (await ada.refused("POST", "/api/auth/tokens", body))["status"] == 422, body
