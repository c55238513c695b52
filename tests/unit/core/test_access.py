import itertools

import pytest

from shared.core.access import Access, Principal
from shared.core.errors import Conflict, Forbidden, NotFound
from shared.core.permissions import PERMISSIONS, Action, Role, allows
from shared.core.ports import Put
from tests.fakes import FakeDocuments

TEAM = "t0123456789"
ADA = Principal("uada", "Ada", "ada@contoso.test")
ORDER = [Role.VIEWER, Role.MEMBER, Role.ADMIN, Role.OWNER]


class TestPermissions:
    def test_every_role_is_in_the_table(self) -> None:
        assert set(PERMISSIONS) == set(Role)

    def test_every_action_is_allowed_to_somebody(self) -> None:
        assert frozenset[Action]().union(*PERMISSIONS.values()) == set(Action)

    def test_a_higher_role_may_do_all_that_a_lower_one_may(self) -> None:
        for lower, higher in itertools.pairwise(ORDER):
            assert PERMISSIONS[lower] < PERMISSIONS[higher]

    def test_viewers_only_read(self) -> None:
        assert PERMISSIONS[Role.VIEWER] == {Action.READ}

    @pytest.mark.parametrize("action", [Action.MANAGE_MEMBERS, Action.MANAGE_TEAM, Action.MANAGE_OWNERS])
    def test_members_do_not_manage(self, action: Action) -> None:
        assert not allows(Role.MEMBER, action)

    def test_admins_do_not_make_owners(self) -> None:
        assert not allows(Role.ADMIN, Action.MANAGE_OWNERS)


async def access_to(status: str, role: Role = Role.MEMBER) -> Access:
    documents = FakeDocuments()
    puts = [Put("team", {"status": status}), Put(f"member/{ADA.user_id}", {"role": role})]
    await documents.commit(f"portal/team/{TEAM}", puts)
    return Access(documents)


class TestDeleting:
    async def test_a_team_that_is_being_deleted_can_only_be_read(self) -> None:
        access = await access_to("deleting", Role.OWNER)
        for action in set(Action) - {Action.READ, Action.DELETE_TEAM}:
            with pytest.raises(Conflict, match="being deleted"):
                await access.require(ADA, TEAM, action)
        assert await access.require(ADA, TEAM, Action.READ) == Role.OWNER

    async def test_owners_and_administrators_of_the_platform_may_have_it_deleted(self) -> None:
        grace = Principal("ugrace", "Grace", "g@contoso.test", platform_admin=True)
        for status in ("pending", "active", "failed", "cancelled", "deleting"):
            access = await access_to(status, Role.OWNER)
            await access.require_deletion(ADA, TEAM)
            await access.require_deletion(grace, TEAM)

    @pytest.mark.parametrize("role", [Role.ADMIN, Role.MEMBER, Role.VIEWER])
    async def test_others_may_not(self, role: Role) -> None:
        with pytest.raises(Forbidden, match="delete team"):
            await (await access_to("active", role)).require_deletion(ADA, TEAM)

    async def test_strangers_do_not_learn_of_it(self) -> None:
        with pytest.raises(NotFound):
            await (await access_to("deleting")).require_deletion(Principal("ubob", "Bob", "b@contoso.test"), TEAM)


class TestAccess:
    @pytest.fixture
    async def access(self) -> Access:
        return await access_to("active")

    async def test_a_member_may_do_what_their_role_allows(self, access: Access) -> None:
        assert await access.require(ADA, TEAM, Action.EDIT_CARDS) == Role.MEMBER

    async def test_a_member_whose_role_does_not_allow_it_is_told_so(self, access: Access) -> None:
        with pytest.raises(Forbidden, match=r"\(member\) does not allow this: manage members"):
            await access.require(ADA, TEAM, Action.MANAGE_MEMBERS)

    async def test_a_stranger_does_not_learn_that_the_team_exists(self, access: Access) -> None:
        stranger = Principal("ubob", "Bob", "bob@contoso.test")
        with pytest.raises(NotFound) as known:
            await access.require(stranger, TEAM, Action.READ)
        with pytest.raises(NotFound) as unknown:
            await access.require(stranger, "t9999999999", Action.READ)
        assert known.value.detail == unknown.value.detail

    async def test_a_platform_admin_is_a_stranger_to_other_teams(self, access: Access) -> None:
        with pytest.raises(NotFound):
            await access.require(Principal("ugrace", "Grace", "g@contoso.test", platform_admin=True), TEAM, Action.READ)

    @pytest.mark.parametrize("team", ["a\\b", "", "x" * 600, "a#b", "a?b"])
    async def test_a_team_that_cannot_exist_is_not_found(self, access: Access, team: str) -> None:
        with pytest.raises(NotFound):
            await access.require(ADA, team, Action.READ)
