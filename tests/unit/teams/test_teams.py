import asyncio
import json
from urllib.parse import parse_qs, urlsplit

import pytest

from shared.core.access import Principal
from shared.core.errors import Conflict, Forbidden, NotFound
from shared.core.permissions import Role
from shared.core.ports import Put
from shared.core.settings import Settings
from shared.teams.models import Invitation, NewInvitation, NewTeam, Team
from shared.teams.service import CONNECT_MINUTES
from tests.unit.world import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def ada(world: World) -> Principal:
    return await world.person("Ada")


@pytest.fixture
async def team(world: World, ada: Principal) -> Team:
    return await world.team(ada)


def token(invitation: Invitation) -> str:
    assert invitation.url is not None
    assert invitation.url.startswith("https://web.example/invite/")
    return invitation.url.rpartition("/")[2]


async def roles(world: World, ada: Principal, team: Team) -> dict[str, Role]:
    return {member.name: member.role for member in await world.platform.teams.members(ada, team.id)}


class TestCreateTeam:
    async def test_it_is_pending_until_its_task_is_done(self, world: World, ada: Principal) -> None:
        started = await world.platform.teams.create(ada, NewTeam(name=" Rockets "))
        assert (started.team.name, started.team.status, started.team.role) == ("Rockets", "pending", "owner")
        task = await world.platform.tasks.get(ada, started.task_id)
        assert (task.status, task.title) == ("pending", "Creating team Rockets")
        await world.pump()
        assert (await world.platform.teams.get(ada, started.team.id)).status == "active"
        assert (await world.platform.tasks.get(ada, started.task_id)).status == "succeeded"
        assert world.open_rows() == []

    async def test_its_members_are_told_when_it_is_ready(self, world: World, team: Team) -> None:
        assert await world.types(f"team/{team.id}") == ["team.provisioned"]

    async def test_its_founder_owns_it(self, world: World, ada: Principal, team: Team) -> None:
        assert await roles(world, ada, team) == {"Ada": "owner"}
        assert [mine.id for mine in await world.platform.teams.mine(ada)] == [team.id]

    async def test_it_has_a_board_a_stack_a_key_and_an_agent(self, world: World, ada: Principal, team: Team) -> None:
        assert (await world.platform.boards.view(ada, team.board_id)).board.team_id == team.id
        stack = json.loads(world.blobs.blobs[f"teams/{team.id}/compose.json"])
        assert stack["networks"]["agents"]["internal"]
        assert set(world.secrets.secrets) >= {f"llm-key-{team.id}", f"webhook-{team.id}"}

    async def test_secrets_stay_out_of_documents_events_and_messages(self, world: World, team: Team) -> None:
        shown = repr(world.documents.partitions) + repr(world.events.subjects) + repr(world.queues.sent)
        for secret in world.secrets.secrets.values():
            assert secret not in shown

    async def test_a_full_host_fails_it_with_the_reason(self) -> None:
        world = World(Settings(host_team_capacity=1))
        ada = await world.person("Ada")
        await world.team(ada)
        started = await world.platform.teams.create(ada, NewTeam(name="Second"))
        await world.pump(600)
        task = await world.platform.tasks.get(ada, started.task_id)
        assert task.status == "failed"
        assert "HOST_TEAM_CAPACITY" in (task.error or "")
        assert (await world.platform.teams.get(ada, started.team.id)).status == "failed"

    async def test_a_failed_one_can_be_retried(self) -> None:
        world = World(Settings(host_team_capacity=1))
        ada = await world.person("Ada")
        first = await world.team(ada)
        started = await world.platform.teams.create(ada, NewTeam(name="Second"))
        await world.pump(600)
        del world.documents.partitions["portal/host/local"][f"team/{first.id}"]
        await world.platform.tasks.retry(ada, started.task_id)
        await world.pump()
        assert (await world.platform.teams.get(ada, started.team.id)).status == "active"

    async def test_repeating_every_step_makes_nothing_twice(self, world: World, ada: Principal, team: Team) -> None:
        before = (dict(world.secrets.secrets), await world.platform.boards.view(ada, team.board_id))
        await world.card(ada, team.board_id, "kept")
        record, etag = await world.platform.runner.load(team.task_id)
        record.status = "failed"
        for step in record.steps:
            step.status = "pending"
        await world.documents.commit(f"tasks/{record.id}", [Put("task", record.json_body(), etag)])
        await world.platform.tasks.retry(ada, team.task_id)
        await world.pump()
        assert (await world.platform.tasks.get(ada, team.task_id)).status == "succeeded"
        after = await world.platform.boards.view(ada, team.board_id)
        assert world.secrets.secrets == before[0]
        assert [card.title for card in after.cards] == ["kept"]
        assert after.board.agents.agent_id == before[1].board.agents.agent_id
        assert await world.types(f"team/{team.id}") == ["team.provisioned"]

    async def test_only_managers_retry_its_task(self, world: World, ada: Principal, team: Team) -> None:
        member = await world.member(ada, team.id, "Max")
        with pytest.raises(Forbidden):
            await world.platform.tasks.retry(member, team.task_id)


class TestStrangers:
    async def test_they_do_not_learn_that_a_team_exists(self, world: World, ada: Principal, team: Team) -> None:
        bob, teams = await world.person("Bob"), world.platform.teams
        for attempt in (
            teams.get(bob, team.id),
            teams.members(bob, team.id),
            teams.invite(bob, team.id, NewInvitation()),
            teams.remove(bob, team.id, ada.user_id),
            teams.remove(bob, team.id, bob.user_id),
            world.platform.tasks.get(bob, team.task_id),
            world.platform.tasks.events(bob, team.task_id, 0, 10),
            world.platform.tasks.retry(bob, team.task_id),
        ):
            with pytest.raises(NotFound):
                await attempt
        assert await teams.mine(bob) == []


class TestMembers:
    async def test_owners_change_roles(self, world: World, ada: Principal, team: Team) -> None:
        max_ = await world.member(ada, team.id, "Max")
        for role in (Role.ADMIN, Role.VIEWER, Role.OWNER):
            assert (await world.platform.teams.change_role(ada, team.id, max_.user_id, role)).role == role
        assert (await roles(world, ada, team))["Max"] == "owner"

    async def test_admins_neither_make_nor_unmake_owners(self, world: World, ada: Principal, team: Team) -> None:
        admin = await world.member(ada, team.id, "Alan", Role.ADMIN)
        max_ = await world.member(ada, team.id, "Max")
        teams = world.platform.teams
        await teams.change_role(admin, team.id, max_.user_id, Role.VIEWER)
        for attempt in (
            teams.change_role(admin, team.id, max_.user_id, Role.OWNER),
            teams.change_role(admin, team.id, admin.user_id, Role.OWNER),
            teams.change_role(admin, team.id, ada.user_id, Role.MEMBER),
            teams.remove(admin, team.id, ada.user_id),
        ):
            with pytest.raises(Forbidden):
                await attempt

    async def test_members_manage_nobody(self, world: World, ada: Principal, team: Team) -> None:
        max_ = await world.member(ada, team.id, "Max")
        for attempt in (
            world.platform.teams.change_role(max_, team.id, max_.user_id, Role.ADMIN),
            world.platform.teams.remove(max_, team.id, ada.user_id),
            world.platform.teams.invite(max_, team.id, NewInvitation()),
            world.platform.teams.invitations(max_, team.id),
        ):
            with pytest.raises(Forbidden):
                await attempt

    async def test_the_last_owner_stays(self, world: World, ada: Principal, team: Team) -> None:
        await world.member(ada, team.id, "Alan", Role.ADMIN)
        with pytest.raises(Conflict, match="needs an owner"):
            await world.platform.teams.remove(ada, team.id, ada.user_id)
        with pytest.raises(Conflict, match="needs an owner"):
            await world.platform.teams.change_role(ada, team.id, ada.user_id, Role.ADMIN)
        assert (await roles(world, ada, team))["Ada"] == "owner"

    async def test_of_two_owners_who_leave_at_once_one_stays(self, world: World, ada: Principal, team: Team) -> None:
        olga = await world.member(ada, team.id, "Olga", Role.OWNER)
        results = await asyncio.gather(
            *(world.another_platform().teams.remove(one, team.id, one.user_id) for one in (ada, olga)),
            return_exceptions=True,
        )
        assert sum(isinstance(result, Conflict) for result in results) == 1
        rows = world.rows(f"portal/team/{team.id}", "member/")
        assert len(rows) == 1

    async def test_whoever_is_removed_sees_nothing_more_at_once(self, world: World, ada: Principal, team: Team) -> None:
        max_ = await world.member(ada, team.id, "Max")
        assert world.realtime.groups[f"team.{team.id}"] == {ada.user_id, max_.user_id}
        await world.platform.teams.remove(ada, team.id, max_.user_id)
        assert world.realtime.groups[f"team.{team.id}"] == {ada.user_id}
        with pytest.raises(NotFound):
            await world.platform.boards.view(max_, team.board_id)
        assert await world.platform.teams.mine(max_) == []
        assert (await world.platform.teams.connect(max_)).groups == [f"user.{max_.user_id}"]

    async def test_anybody_may_leave(self, world: World, ada: Principal, team: Team) -> None:
        viewer = await world.member(ada, team.id, "Vera", Role.VIEWER)
        await world.platform.teams.remove(viewer, team.id, viewer.user_id)
        assert set(await roles(world, ada, team)) == {"Ada"}

    @pytest.mark.parametrize("user", ["", "unknown", "../x", "A"])
    async def test_unknown_people_are_not_found(self, world: World, ada: Principal, team: Team, user: str) -> None:
        with pytest.raises(NotFound):
            await world.platform.teams.change_role(ada, team.id, user, Role.ADMIN)
        with pytest.raises(NotFound):
            await world.platform.teams.remove(ada, team.id, user)


class TestInvitations:
    async def test_whoever_follows_the_link_joins(self, world: World, ada: Principal, team: Team) -> None:
        invitation = await world.platform.teams.invite(ada, team.id, NewInvitation(role=Role.VIEWER))
        bob = await world.person("Bob")
        preview = await world.platform.teams.preview(bob, token(invitation))
        assert (preview.team_name, preview.role, preview.already_member) == ("Rockets", "viewer", False)
        joined = await world.platform.teams.accept(bob, token(invitation))
        assert (joined.id, joined.role) == (team.id, "viewer")
        assert bob.user_id in world.realtime.groups[f"team.{team.id}"]
        assert [mine.id for mine in await world.platform.teams.mine(bob)] == [team.id]
        assert (await world.platform.teams.preview(bob, token(invitation))).already_member

    async def test_the_link_is_shown_once_and_never_stored(self, world: World, ada: Principal, team: Team) -> None:
        invitation = await world.platform.teams.invite(ada, team.id, NewInvitation())
        (listed,) = await world.platform.teams.invitations(ada, team.id)
        assert (listed.id, listed.url) == (invitation.id, None)
        assert token(invitation) not in repr(world.documents.partitions)

    async def test_following_it_again_keeps_the_role(self, world: World, ada: Principal, team: Team) -> None:
        link = token(await world.platform.teams.invite(ada, team.id, NewInvitation(role=Role.VIEWER)))
        bob = await world.member(ada, team.id, "Bob", Role.ADMIN)
        assert (await world.platform.teams.accept(bob, link)).role == "admin"
        assert (await world.platform.teams.accept(ada, link)).role == "owner"

    async def test_many_may_follow_it_at_once(self, world: World, ada: Principal, team: Team) -> None:
        invitation = await world.platform.teams.invite(ada, team.id, NewInvitation())
        people = [await world.person(f"P{n}") for n in range(4)]
        await asyncio.gather(*(world.another_platform().teams.accept(one, token(invitation)) for one in people))
        assert len(await roles(world, ada, team)) == 5
        assert (await world.platform.teams.invitations(ada, team.id))[0].accepted_count == 4

    async def test_one_person_following_it_twice_at_once_joins_once(
        self, world: World, ada: Principal, team: Team
    ) -> None:
        invitation = await world.platform.teams.invite(ada, team.id, NewInvitation())
        bob = await world.person("Bob")
        joined = await asyncio.gather(
            *(world.another_platform().teams.accept(bob, token(invitation)) for _ in range(3))
        )
        assert {team.role for team in joined} == {"member"}
        assert (await world.platform.teams.invitations(ada, team.id))[0].accepted_count == 1

    async def test_it_expires(self, world: World, ada: Principal, team: Team) -> None:
        invitation = await world.platform.teams.invite(ada, team.id, NewInvitation(expires_in_days=1))
        world.clock.advance(86_400)
        bob = await world.person("Bob")
        with pytest.raises(NotFound, match="expired"):
            await world.platform.teams.accept(bob, token(invitation))

    async def test_it_can_be_withdrawn(self, world: World, ada: Principal, team: Team) -> None:
        invitation = await world.platform.teams.invite(ada, team.id, NewInvitation())
        await world.platform.teams.revoke(ada, team.id, invitation.id)
        bob = await world.person("Bob")
        with pytest.raises(NotFound, match="withdrawn"):
            await world.platform.teams.accept(bob, token(invitation))
        with pytest.raises(NotFound):
            await world.platform.teams.revoke(ada, team.id, invitation.id)

    async def test_nobody_becomes_owner_by_a_link(self, world: World, ada: Principal, team: Team) -> None:
        with pytest.raises(Forbidden, match="by a link"):
            await world.platform.teams.invite(ada, team.id, NewInvitation(role=Role.OWNER))

    async def test_a_guessed_link_leads_nowhere(self, world: World, ada: Principal, team: Team) -> None:
        link = token(await world.platform.teams.invite(ada, team.id, NewInvitation()))
        bob = await world.person("Bob")
        guesses = [
            link[:-1] + ("0" if link[-1] != "0" else "1"),
            link[:-5],
            link + "x",
            team.id,
            "",
            "a-b-c",
            "../-x-y",
        ]
        for guess in guesses:
            for attempt in (world.platform.teams.accept(bob, guess), world.platform.teams.preview(bob, guess)):
                with pytest.raises(NotFound):
                    await attempt


class TestConnect:
    async def test_a_connection_sees_its_own_teams_only(self, world: World, ada: Principal, team: Team) -> None:
        await world.team(await world.person("Bob"), "Others")
        connection = await world.platform.teams.connect(ada)
        assert connection.groups == [f"user.{ada.user_id}", f"team.{team.id}"]
        query = parse_qs(urlsplit(connection.url).query)
        assert (query["user"], query["group"]) == ([ada.user_id], connection.groups)


class TestTasks:
    async def test_people_see_the_tasks_they_started(self, world: World, ada: Principal, team: Team) -> None:
        second = await world.team(ada, "Second")
        max_ = await world.member(ada, team.id, "Max")
        listed = [team.task_id, second.task_id, "unknown", "../x"]
        assert {task.id for task in await world.platform.tasks.mine(ada, listed)} == {team.task_id, second.task_id}
        assert await world.platform.tasks.mine(max_, [team.task_id]) == []

    async def test_members_can_catch_up_on_its_events(self, world: World, ada: Principal, team: Team) -> None:
        viewer = await world.member(ada, team.id, "Vera", Role.VIEWER)
        page = await world.platform.tasks.events(viewer, team.task_id, 2, 3)
        assert [item.sequence for item in page.items] == [3, 4, 5]
        assert page.last == (await world.platform.tasks.get(ada, team.task_id)).sequence


class TestWhoLeft:
    """Takes nothing along: neither links made as an admin, nor an address for live events."""

    @pytest.fixture
    async def bob(self, world: World, ada: Principal, team: Team) -> Principal:
        return await world.member(ada, team.id, "Bob", Role.ADMIN)

    @pytest.mark.parametrize("step", ["removed", "left", "demoted"])
    async def test_the_links_they_made_are_gone(
        self, world: World, ada: Principal, bob: Principal, team: Team, step: str
    ) -> None:
        teams = world.platform.teams
        theirs = await teams.invite(bob, team.id, NewInvitation(role=Role.ADMIN))
        others = await teams.invite(ada, team.id, NewInvitation())
        if step == "demoted":
            await teams.change_role(ada, team.id, bob.user_id, Role.MEMBER)
        else:
            await teams.remove(ada if step == "removed" else bob, team.id, bob.user_id)
        with pytest.raises(NotFound):
            await teams.accept(bob, token(theirs))
        left = [link.id for link in await teams.invitations(ada, team.id)]
        assert others.id in left
        assert theirs.id not in left

    async def test_a_connection_opened_with_an_older_address_is_cut(
        self, world: World, ada: Principal, bob: Principal, team: Team
    ) -> None:
        group = f"team.{team.id}"
        await world.platform.teams.remove(ada, team.id, bob.user_id)
        for _ in range(CONNECT_MINUTES):
            world.clock.advance(59)
            await world.realtime.add_to_group(bob.user_id, group)  # as the address does
            await world.platform.teams.watch()
            assert bob.user_id not in world.realtime.groups[group]
        world.clock.advance(121)
        await world.platform.teams.watch()
        assert world.open_rows("left/") == []

    async def test_whoever_comes_back_keeps_their_connection(
        self, world: World, ada: Principal, bob: Principal, team: Team
    ) -> None:
        link = await world.platform.teams.invite(ada, team.id, NewInvitation())
        await world.platform.teams.remove(ada, team.id, bob.user_id)
        await world.platform.teams.accept(bob, token(link))
        world.clock.advance(61)
        await world.platform.teams.watch()
        assert bob.user_id in world.realtime.groups[f"team.{team.id}"]
        assert world.open_rows("left/") == []

    async def test_while_realtime_is_down_it_is_tried_again(
        self, world: World, ada: Principal, bob: Principal, team: Team
    ) -> None:
        await world.platform.teams.remove(ada, team.id, bob.user_id)
        world.clock.advance(1000)
        world.realtime.down = True
        await world.platform.teams.watch()
        assert world.open_rows("left/") != []
        world.realtime.down = False
        await world.platform.teams.watch()
        assert world.open_rows("left/") == []
