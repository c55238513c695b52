"""Members, invitations by link, and what each role may do."""

import asyncio

import pytest

from local.cloud import LocalCloud
from tests.flows.world import Json, Person, join, make_card, make_team, rewrite

ROLES = ("owner", "admin", "member", "viewer")
MAKERS = {"owner", "admin", "member"}
ADMINS = {"owner", "admin"}

# method, path, body, who may: everybody else of the team gets 403, strangers 404
ENDPOINTS = (
    ("GET", "/api/teams/{team}", None, set(ROLES)),
    ("GET", "/api/teams/{team}/members", None, set(ROLES)),
    ("GET", "/api/teams/{team}/usage", None, set(ROLES)),
    ("GET", "/api/boards/{board}", None, set(ROLES)),
    ("GET", "/api/boards/{board}/events", None, set(ROLES)),
    ("GET", "/api/boards/{board}/search?q=x", None, set(ROLES)),
    ("GET", "/api/cards/{card}", None, set(ROLES)),
    ("GET", "/api/cards/{card}/comments", None, set(ROLES)),
    ("GET", "/api/cards/{card}/history", None, set(ROLES)),
    ("GET", "/api/cards/{card}/runs", None, set(ROLES)),
    ("GET", "/api/tasks/{task}", None, set(ROLES)),
    ("GET", "/api/tasks/{task}/events", None, set(ROLES)),
    ("POST", "/api/boards/{board}/cards", {"title": "New"}, MAKERS),
    ("PATCH", "/api/cards/{card}", {"body": "changed"}, MAKERS),
    ("PUT", "/api/cards/{card}", {"body": "put"}, MAKERS),
    ("POST", "/api/cards/{card}/move", {"column_id": "ready"}, MAKERS),
    ("POST", "/api/cards/{card}/comments", {"body": "Hello"}, MAKERS),
    ("DELETE", "/api/cards/{card}", None, MAKERS),
    ("POST", "/api/cards/{card}/restore", None, MAKERS),
    ("POST", "/api/boards/{board}/columns", {"name": "More"}, MAKERS),
    ("PATCH", "/api/boards/{board}/columns/ready", {"name": "Ready"}, MAKERS),
    ("DELETE", "/api/boards/{board}/columns/{column}", None, MAKERS),
    ("POST", "/api/teams/{team}/stop-agents", None, MAKERS),
    ("GET", "/api/teams/{team}/invitations", None, ADMINS),
    ("POST", "/api/teams/{team}/invitations", {"role": "viewer"}, ADMINS),
    ("DELETE", "/api/teams/{team}/invitations/{invitation}", None, ADMINS),
    ("PATCH", "/api/teams/{team}/members/{member}", {"role": "viewer"}, ADMINS),
    ("DELETE", "/api/teams/{team}/members/{member}", None, ADMINS),
    ("PATCH", "/api/teams/{team}/members/{member}", {"role": "owner"}, {"owner"}),
    ("PATCH", "/api/teams/{team}/members/{owner}", {"role": "owner"}, {"owner"}),
)


@pytest.fixture
async def team(ada: Person) -> Json:
    return await make_team(ada, "People")


@pytest.fixture(scope="module")
async def guarded(ada: Person) -> Json:
    """A team whose things the permission matrix asks for."""
    return await make_team(ada, "Guarded")


async def _as(role: str, owner: Person, guest: Person, team_id: str) -> None:
    """Make the guest a member in that role."""
    members = (await owner.get(f"/api/teams/{team_id}/members"))["items"]
    if guest.id not in [member["user_id"] for member in members]:
        await join(owner, team_id, guest, "viewer")
    await owner.patch(f"/api/teams/{team_id}/members/{guest.id}", {"role": role})


async def _third(owner: Person, third: Person, team_id: str) -> str:
    await _as("member", owner, third, team_id)
    return third.id


async def _filled(path: str, owner: Person, third: Person, team: Json, method: str) -> str:
    """The path of a thing made for this one request."""
    values = {"team": team["id"], "board": team["board_id"], "task": team["task_id"], "owner": owner.id}
    if "{card}" in path:
        values["card"] = (await make_card(owner, team["board_id"], "Card"))["id"]
        if path.endswith("/restore"):
            await owner.delete(f"/api/cards/{values['card']}")
    if "{column}" in path:
        values["column"] = (await owner.post(f"/api/boards/{team['board_id']}/columns", {"name": "Old"}))["id"]
    if "{invitation}" in path:
        values["invitation"] = (await owner.post(f"/api/teams/{team['id']}/invitations", {}))["id"]
    if "{member}" in path:
        values["member"] = await _third(owner, third, team["id"])
    return path.format(**values)


class TestPermissions:
    @pytest.mark.parametrize("role", ["admin", "member", "viewer", "owner"])
    async def test_each_role_may_do_what_the_table_says(
        self, ada: Person, bob: Person, grace: Person, guarded: Json, role: str
    ):
        wrong: list[str] = []
        for method, path, body, allowed in ENDPOINTS:
            await _as(role, ada, bob, guarded["id"])
            url = await _filled(path, ada, grace, guarded, method)
            answer = await bob.request(method, url, json=body)
            fits = answer.status_code < 300 if role in allowed else answer.status_code == 403
            if not fits:
                wrong.append(f"{role}: {method} {path} {body} -> {answer.status_code} {answer.text[:120]}")
        assert not wrong, "\n".join(wrong)

    async def test_strangers_are_told_that_nothing_is_there(
        self, ada: Person, bob: Person, grace: Person, guarded: Json
    ):
        await _as("viewer", ada, bob, guarded["id"])
        await ada.delete(f"/api/teams/{guarded['id']}/members/{bob.id}")
        wrong: list[str] = []
        for method, path, body, _ in ENDPOINTS:
            url = await _filled(path, ada, grace, guarded, method)
            answer = await bob.request(method, url, json=body)
            if answer.status_code != 404:
                wrong.append(f"{method} {path} -> {answer.status_code} {answer.text[:120]}")
        assert not wrong, "\n".join(wrong)

    async def test_platform_admins_are_strangers_too(self, ada: Person, grace: Person, team: Json):
        assert (await grace.refused("GET", f"/api/teams/{team['id']}"))["status"] == 404

    @pytest.mark.parametrize("team_id", ["unknown", "t0000000000", "w0000000000", "..%2f..%2fetc", "%00", "x" * 600])
    async def test_made_up_teams_are_not_found(self, ada: Person, team_id: str):
        for path in (f"/api/teams/{team_id}", f"/api/teams/{team_id}/members", f"/api/teams/{team_id}/usage"):
            assert (await ada.refused("GET", path))["status"] == 404, path


class TestInvitation:
    async def test_a_link_shows_the_team_and_lets_its_reader_in(
        self, ada: Person, bob: Person, cloud: LocalCloud, team: Json
    ):
        invitation = await ada.post(f"/api/teams/{team['id']}/invitations", {"role": "member"})
        assert invitation["url"].startswith(f"{cloud.web_url}/invite/")
        token = invitation["url"].rpartition("/")[2]
        preview = await bob.get(f"/api/invitations/{token}")
        assert (preview["team_name"], preview["role"], preview["already_member"]) == ("People", "member", False)
        assert (await bob.refused("GET", f"/api/teams/{team['id']}"))["status"] == 404
        joined = await bob.post(f"/api/invitations/{token}/accept")
        assert (joined["id"], joined["role"]) == (team["id"], "member")
        assert team["id"] in [item["id"] for item in (await bob.get("/api/teams"))["items"]]
        assert (await bob.get(f"/api/invitations/{token}"))["already_member"] is True
        listed = (await ada.get(f"/api/teams/{team['id']}/invitations"))["items"]
        assert [item["accepted_count"] for item in listed] == [1]
        assert listed[0]["url"] is None
        members = (await ada.get(f"/api/teams/{team['id']}/members"))["items"]
        assert {member["email"]: member["role"] for member in members} == {
            "ada@contoso.test": "owner",
            "bob@contoso.test": "member",
        }

    async def test_accepting_twice_keeps_the_role_and_counts_once(self, ada: Person, bob: Person, team: Json):
        invitation = await ada.post(f"/api/teams/{team['id']}/invitations", {"role": "viewer"})
        token = invitation["url"].rpartition("/")[2]
        await asyncio.gather(*(bob.post(f"/api/invitations/{token}/accept") for _ in range(4)))
        await ada.patch(f"/api/teams/{team['id']}/members/{bob.id}", {"role": "admin"})
        assert (await bob.post(f"/api/invitations/{token}/accept"))["role"] == "admin"
        listed = (await ada.get(f"/api/teams/{team['id']}/invitations"))["items"]
        assert [item["accepted_count"] for item in listed] == [1]

    async def test_a_withdrawn_link_lets_nobody_in(self, ada: Person, bob: Person, team: Json):
        invitation = await ada.post(f"/api/teams/{team['id']}/invitations", {})
        await ada.delete(f"/api/teams/{team['id']}/invitations/{invitation['id']}")
        token = invitation["url"].rpartition("/")[2]
        assert (await bob.refused("GET", f"/api/invitations/{token}"))["status"] == 404
        assert (await bob.refused("POST", f"/api/invitations/{token}/accept"))["status"] == 404

    async def test_an_expired_link_lets_nobody_in(self, ada: Person, bob: Person, cloud: LocalCloud, team: Json):
        invitation = await ada.post(f"/api/teams/{team['id']}/invitations", {})
        await rewrite(
            cloud, f"portal/team/{team['id']}", f"invite/{invitation['id']}", expires_at="2020-01-01T00:00:00.000Z"
        )
        refused = await bob.refused("POST", f"/api/invitations/{invitation['url'].rpartition('/')[2]}/accept")
        assert refused["status"] == 404
        assert "expired" in refused["detail"]

    @pytest.mark.parametrize("token", ["x", "a.b.c", "a-b-c", "%2e%2e", "%00.%00.%00", "%00-%00-%00", "a" * 300])
    async def test_a_made_up_link_is_not_found(self, bob: Person, token: str):
        assert (await bob.refused("GET", f"/api/invitations/{token}"))["status"] == 404

    async def test_a_link_with_a_changed_secret_is_not_found(self, ada: Person, bob: Person, team: Json):
        url = (await ada.post(f"/api/teams/{team['id']}/invitations", {}))["url"]
        changed = url.rpartition("/")[2][:-1] + "!"
        assert (await bob.refused("POST", f"/api/invitations/{changed}/accept"))["status"] == 404

    async def test_nobody_becomes_owner_by_a_link(self, ada: Person, team: Json):
        refused = await ada.refused("POST", f"/api/teams/{team['id']}/invitations", {"role": "owner"})
        assert refused["status"] in (403, 422)

    async def test_needs_a_signed_in_reader(self, ada: Person, cloud: LocalCloud, team: Json):
        url = (await ada.post(f"/api/teams/{team['id']}/invitations", {}))["url"]
        async with Person(cloud) as visitor:
            refused = await visitor.refused("GET", f"/api/invitations/{url.rpartition('/')[2]}")
        assert refused["status"] == 401


class TestMembers:
    async def test_the_last_owner_can_neither_leave_nor_step_down(self, ada: Person, bob: Person, team: Json):
        await _as("admin", ada, bob, team["id"])
        path = f"/api/teams/{team['id']}/members/{ada.id}"
        assert (await ada.refused("DELETE", path))["status"] == 409
        assert (await ada.refused("PATCH", path, {"role": "member"}))["status"] == 409
        assert (await bob.refused("DELETE", path))["status"] == 403
        await ada.patch(f"/api/teams/{team['id']}/members/{bob.id}", {"role": "owner"})
        await ada.delete(path)
        assert (await ada.refused("GET", f"/api/teams/{team['id']}"))["status"] == 404
        assert team["id"] not in [item["id"] for item in (await ada.get("/api/teams"))["items"]]

    async def test_two_owners_who_leave_together_do_not_leave_a_team_without_one(
        self, ada: Person, bob: Person, team: Json
    ):
        await _as("owner", ada, bob, team["id"])
        answers = await asyncio.gather(
            *(person.request("DELETE", f"/api/teams/{team['id']}/members/{person.id}") for person in (ada, bob))
        )
        assert sorted(answer.status_code for answer in answers) == [204, 409]

    async def test_a_member_may_leave_but_not_promote_themselves(self, ada: Person, bob: Person, team: Json):
        await _as("admin", ada, bob, team["id"])
        me = f"/api/teams/{team['id']}/members/{bob.id}"
        assert (await bob.refused("PATCH", me, {"role": "owner"}))["status"] == 403
        await bob.delete(me)
        assert (await bob.refused("GET", f"/api/teams/{team['id']}"))["status"] == 404

    async def test_unknown_members_and_roles_are_refused(self, ada: Person, team: Json):
        path = f"/api/teams/{team['id']}/members"
        assert (await ada.refused("PATCH", f"{path}/u{'0' * 16}", {"role": "viewer"}))["status"] == 404
        assert (await ada.refused("DELETE", f"{path}/..%2fteam"))["status"] == 404
        assert (await ada.refused("PATCH", f"{path}/{ada.id}", {"role": "king"}))["status"] == 422


class TestLiveEvents:
    @pytest.fixture
    async def watched(self, ada: Person, bob: Person, team: Json) -> Json:
        await _as("viewer", ada, bob, team["id"])
        return team

    async def test_a_change_reaches_another_member_within_a_second(self, ada: Person, bob: Person, watched: Json):
        async with bob.watching() as socket:
            card = await make_card(ada, watched["board_id"], "Live")
            events = await socket.received(1, within=1)
        assert events[0]["type"] == "card.created"
        assert events[0]["subject"] == f"board/{watched['board_id']}"
        assert events[0]["data"]["card"]["id"] == card["id"]
        assert events[0]["data"]["by"] == {"id": ada.id, "name": "Ada Developer", "kind": "user"}

    async def test_every_change_arrives_once_and_in_order(self, ada: Person, bob: Person, watched: Json):
        async with bob.watching() as socket:
            for number in range(15):
                await make_card(ada, watched["board_id"], f"Card {number}")
            events = await socket.received(15, within=2)
            await asyncio.sleep(0.2)
            assert len(socket.messages) == 15
        sequences = [event["sequence"] for event in events]
        assert sequences == list(range(sequences[0], sequences[0] + 15))

    async def test_whoever_joins_sees_events_on_the_connection_they_have(self, ada: Person, bob: Person, team: Json):
        async with bob.watching() as socket:
            await join(ada, team["id"], bob, "viewer")
            await make_card(ada, team["board_id"], "For everybody")
            events = await socket.received(1, within=1)
        assert events[0]["data"]["card"]["title"] == "For everybody"

    async def test_a_removal_cuts_them_within_a_second(self, ada: Person, bob: Person, watched: Json):
        async with bob.watching() as socket:
            await make_card(ada, watched["board_id"], "Seen")
            await socket.received(1, within=1)
            await ada.delete(f"/api/teams/{watched['id']}/members/{bob.id}")
            await asyncio.sleep(0.3)
            await make_card(ada, watched["board_id"], "Not seen")
            await asyncio.sleep(0.7)
            assert len(socket.messages) == 1
        groups = (await bob.get("/api/realtime/negotiate"))["groups"]
        assert f"team.{watched['id']}" not in groups

    async def test_a_client_can_neither_join_groups_nor_send(self, ada: Person, bob: Person, team: Json):
        async with bob.watching() as socket:
            joined = await socket.ask("joinGroup", group=f"team.{team['id']}")
            assert joined["success"] is False
            sent = await socket.ask("sendToGroup", group=f"team.{team['id']}", dataType="json", data={})
            assert sent["success"] is False

    async def test_the_owner_sees_their_workspace_being_made(self, ada: Person):
        async with ada.watching() as socket:
            team = await make_team(ada, "Watched from the start")
            await socket.received(5, within=5)
            events = [message["data"] for message in socket.messages]
        told = {e["sequence"] for e in events if e["subject"] == f"task/{team['task_id']}"}
        assert told == set(range(1, max(told) + 1))
