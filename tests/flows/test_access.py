"""Access ends when it is taken away: live events, sessions, roles."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from local.cloud import LocalCloud
from shared.core.ids import digest
from tests.contracts.pubsub_client import PubSubClient
from tests.flows.world import Json, Person, join, make_card, make_team, rewrite

WITHIN = 1.0


@pytest.fixture
async def guest(own: LocalCloud) -> AsyncGenerator[Person]:
    async with Person.signed_in(own, "bob@contoso.test") as person:
        yield person


@pytest.fixture
async def admin(own: LocalCloud) -> AsyncGenerator[Person]:
    async with Person.signed_in(own, "grace@contoso.test") as person:
        yield person


@pytest.fixture
async def team(owner: Person, guest: Person) -> Json:
    made = await make_team(owner, f"Shared {time.monotonic_ns()}")
    await join(owner, made["id"], guest, "member")
    return made


async def _sees_until_cut(
    owner: Person, team: Json, socket: PubSubClient, cut: Callable[[], Awaitable[object]]
) -> tuple[float, list[str]]:
    """Makes cards all the time. Returns when the cut was answered, and the cards seen that were made a second later."""
    made: dict[str, float] = {}
    stop = asyncio.Event()

    async def make() -> None:
        while not stop.is_set():
            at = time.monotonic()
            made[(await make_card(owner, team["board_id"], "Seen?"))["id"]] = at
            await asyncio.sleep(0.02)

    making = asyncio.create_task(make())
    await socket.received(3)
    await cut()
    answered = time.monotonic()
    await asyncio.sleep(WITHIN + 1)
    stop.set()
    await making
    await asyncio.sleep(0.3)
    seen = {m["data"]["data"].get("card", {}).get("id") for m in socket.messages}
    return answered, [card for card, at in made.items() if card in seen and at > answered + WITHIN]


class TestLiveEvents:
    async def test_end_within_a_second_of_a_removal(self, owner: Person, guest: Person, team: Json):
        async with guest.watching() as socket:
            _, late = await _sees_until_cut(
                owner, team, socket, lambda: owner.delete(f"/api/teams/{team['id']}/members/{guest.id}")
            )
        assert late == []

    async def test_end_within_a_second_once_a_failed_service_answers_again(
        self, own: LocalCloud, owner: Person, guest: Person, team: Json
    ):
        async with guest.watching() as socket:
            await make_card(owner, team["board_id"], "Seen")
            await socket.received(1)
            await own.realtime.kill()
            await owner.delete(f"/api/teams/{team['id']}/members/{guest.id}")
            await own.realtime.start()
            up = time.monotonic()
            await socket.recover()
            await asyncio.sleep(max(0, up + WITHIN - time.monotonic()))
            seen = len(socket.messages)
            for _ in range(3):
                await make_card(owner, team["board_id"], "Not seen")
            await asyncio.sleep(0.5)
            assert len(socket.messages) == seen

    async def test_end_within_a_second_for_somebody_disabled(
        self, owner: Person, guest: Person, admin: Person, team: Json
    ):
        async with guest.watching() as socket:
            try:
                _, late = await _sees_until_cut(
                    owner, team, socket, lambda: admin.post(f"/api/auth/users/{guest.id}/disable")
                )
                assert late == []
                assert (await guest.refused("GET", "/api/teams"))["status"] == 401
            finally:
                await admin.post(f"/api/auth/users/{guest.id}/enable")

    async def test_go_on_for_somebody_with_another_role(self, owner: Person, guest: Person, team: Json):
        async with guest.watching() as socket:
            await owner.patch(f"/api/teams/{team['id']}/members/{guest.id}", {"role": "viewer"})
            await make_card(owner, team["board_id"], "Seen")
            await socket.received(1, within=2)
        refused = await guest.refused("POST", f"/api/boards/{team['board_id']}/cards", {"title": "No"})
        assert refused["status"] == 403


class TestSessions:
    async def test_two_tabs_that_refresh_at_once_stay_signed_in(self, own: LocalCloud):
        async with Person.signed_in(own, "bob@contoso.test") as person:
            body = {"refresh_token": person.session["refresh_token"]}
            for _ in range(5):
                tabs = await asyncio.gather(*(person.post("/api/auth/refresh", body) for _ in range(2)))
                for tab in tabs:
                    await _me(person, tab)
                body = {"refresh_token": tabs[0]["refresh_token"]}

    async def test_a_stolen_refresh_token_ends_all_access_of_its_session_and_of_no_other(self, own: LocalCloud):
        async with (
            Person.signed_in(own, "bob@contoso.test") as person,
            Person.signed_in(own, "bob@contoso.test") as elsewhere,
        ):
            first = person.session
            tabs = [await person.post("/api/auth/refresh", {"refresh_token": first["refresh_token"]}) for _ in range(2)]
            await _age(own, first)
            refused = await person.refused("POST", "/api/auth/refresh", {"refresh_token": first["refresh_token"]})
            assert "used before" in refused["detail"]
            for session in (first, *tabs):
                assert await _status(person, session) == 401
                body = {"refresh_token": session["refresh_token"]}
                assert (await person.refused("POST", "/api/auth/refresh", body))["status"] == 401
            await _me(elsewhere, elsewhere.session)
            await elsewhere.post("/api/auth/refresh", {"refresh_token": elsewhere.session["refresh_token"]})

    async def test_signing_out_ends_all_access_of_the_session(self, own: LocalCloud):
        async with Person.signed_in(own, "bob@contoso.test") as person:
            tab = await person.post("/api/auth/refresh", {"refresh_token": person.session["refresh_token"]})
            await person.request("POST", "/api/auth/logout", json={"refresh_token": tab["refresh_token"]})
            assert [await _status(person, session) for session in (person.session, tab)] == [401, 401]


async def _age(cloud: LocalCloud, session: Json) -> None:
    """As if its refresh token had been used long ago."""
    family = session["refresh_token"].partition(".")[0]

    used = {digest(session["refresh_token"]): "2020-01-01T00:00:00.000Z"}
    await rewrite(cloud, f"portal/session/{family}", "session", used=used)


async def _status(person: Person, session: Json) -> int:
    headers = {"authorization": f"Bearer {session['access_token']}"}
    return (await person.request("GET", "/api/auth/me", headers=headers)).status_code


async def _me(person: Person, session: Json) -> None:
    assert await _status(person, session) == 200


async def test_a_client_at_work_for_long_stays_signed_in(cloud: LocalCloud):
    async with Person.signed_in(cloud, "ada@contoso.test") as person:
        first = person.session["refresh_token"]
        person._renew_at = 0
        await asyncio.gather(*(person.get("/api/auth/me") for _ in range(3)))
        assert person.session["refresh_token"] != first
