from dataclasses import asdict
from typing import Any

import pytest

from shared.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from shared.core.permissions import Role
from shared.llm.keys import is_key
from shared.llm.models import Budget, Call, Caller, RateLimits, Scope, TeamLimits
from shared.llm.requests import KeyChanges, NewKey, Rotation
from tests.unit.world import World


async def callers(world: World, key: str) -> Caller:
    return await world.platform.llm._keys.authenticate([("x-api-key", key)])


class TestCreate:
    async def test_a_key_is_shown_once_and_kept_as_a_hash(self):
        world = World()
        ada = await world.person("ada")
        team = await world.team(ada)
        made = await world.platform.keys.create(ada, team.id, NewKey(name="CI"))
        assert is_key(made.key)
        assert (await callers(world, made.key)).key_id == made.id
        listed = await world.platform.keys.list(ada, team.id)
        assert [(key.name, key.own) for key in listed] == [("Team key", True), ("CI", False)]
        assert made.key.startswith(listed[1].begins_with)
        assert world.traces(made.key) == []

    async def test_settings_hold_for_its_calls(self):
        world = World()
        ada = await world.person("ada")
        team = await world.team(ada)
        wanted = NewKey(
            name="CI",
            models=["demo-1"],
            rates=RateLimits(requests_per_minute=3, concurrent_streams=1),
            budget=Budget(day_usd=0.5, total_usd=2),
        )
        made = await world.platform.keys.create(ada, team.id, wanted)
        await world.platform.keys.set_limits(ada, team.id, TeamLimits(budget=Budget(month_usd=9)))
        caller = await callers(world, made.key)
        assert [(a.subject, a.kind, a.span, a.limit) for a in caller.allowances] == [
            (f"key/{made.id}", "requests", "minute", 3),
            (f"key/{made.id}", "streams", "moment", 1),
            (f"key/{made.id}", "spend", "day", 500_000),
            (f"key/{made.id}", "spend", "total", 2_000_000),
            (f"team/{team.id}", "spend", "month", 9_000_000),
        ]
        call = Call("POST", "/v1/messages", "", [("x-api-key", made.key)], b'{"model": "claude-opus-5"}')
        with pytest.raises(Forbidden, match="these models only: demo-1"):
            async with world.platform.llm.messages(call):
                pass

    @pytest.mark.parametrize("kind", ["team", "workspace", "sandbox", "agent", "person"])
    async def test_a_scope_that_is_not_the_teams_is_refused(self, kind: Any):
        world = World()
        ada = await world.person("ada")
        workspace = await world.workspace(ada)
        board = world.platform.boards
        agent = (await board.view(ada, f"board_{workspace.id}")).board.agents.agent_id
        right = {
            "team": workspace.team_id,
            "workspace": workspace.id,
            "sandbox": f"sandbox_{workspace.id}_one",
            "agent": agent,
            "person": ada.user_id,
        }[kind]
        scope = Scope(kind=kind, id=right or "")
        made = await world.platform.keys.create(ada, workspace.team_id, NewKey(name="One", scope=scope))
        caller = await callers(world, made.key)
        assert caller.sandbox_id == (right if kind == "sandbox" else None)
        for wrong in ("", "t0000000000", "sandbox_w0000000000_one", "../x"):
            with pytest.raises(Invalid, match="scope"):
                await world.platform.keys.create(
                    ada, workspace.team_id, NewKey(name="No", scope=Scope(kind=kind, id=wrong))
                )

    async def test_a_persons_key_ends_with_their_membership(self):
        world = World()
        ada = await world.person("ada")
        team = await world.team(ada)
        bob = await world.member(ada, team.id, "bob")
        scope = Scope(kind="person", id=bob.user_id)
        made = await world.platform.keys.create(ada, team.id, NewKey(name="Bob's", scope=scope))
        await callers(world, made.key)
        await world.platform.teams.remove(ada, team.id, bob.user_id)
        world.clock.advance(5)
        with pytest.raises(Unauthenticated, match="no longer there"):
            await callers(world, made.key)


class TestChange:
    async def test_what_is_left_out_stays(self):
        world = World()
        ada = await world.person("ada")
        team = await world.team(ada)
        made = await world.platform.keys.create(ada, team.id, NewKey(name="CI", models=["demo-1"], expires_in_days=1))
        changed = await world.platform.keys.change(
            ada, team.id, made.id, KeyChanges.model_validate({"name": "Build", "models": None})
        )
        assert (changed.name, changed.models, changed.expires_at) == ("Build", None, made.expires_at)

    async def test_disabling_holds_at_once(self):
        world = World()
        ada = await world.person("ada")
        team = await world.team(ada)
        made = await world.platform.keys.create(ada, team.id, NewKey(name="CI"))
        await callers(world, made.key)
        await world.platform.keys.change(ada, team.id, made.id, KeyChanges(disabled=True))
        with pytest.raises(Forbidden, match="disabled"):
            await callers(world, made.key)


class TestRotate:
    async def test_both_are_good_for_a_while_and_count_as_one(self):
        world = World()
        ada = await world.person("ada")
        team = await world.team(ada)
        old = await world.platform.keys.create(ada, team.id, NewKey(name="CI", budget=Budget(total_usd=1)))
        new = await world.platform.keys.rotate(ada, team.id, old.id, Rotation(overlap_hours=1))
        assert new.key != old.key
        assert asdict(await callers(world, new.key)) == asdict(await callers(world, old.key))
        world.clock.advance(3600)
        with pytest.raises(Unauthenticated, match="expired"):
            await callers(world, old.key)
        await callers(world, new.key)
        with pytest.raises(Conflict, match="rotated already"):
            await world.platform.keys.rotate(ada, team.id, old.id, Rotation())


class TestRevoke:
    async def test_a_revoked_key_is_not_known(self):
        world = World()
        ada = await world.person("ada")
        team = await world.team(ada)
        made = await world.platform.keys.create(ada, team.id, NewKey(name="CI"))
        await world.platform.keys.revoke(ada, team.id, made.id)
        with pytest.raises(Unauthenticated, match="not known"):
            await callers(world, made.key)
        with pytest.raises(NotFound):
            await world.platform.keys.revoke(ada, team.id, made.id)

    async def test_the_teams_own_key_stays(self):
        world = World()
        ada = await world.person("ada")
        team = await world.team(ada)
        [own] = await world.platform.keys.list(ada, team.id)
        with pytest.raises(Conflict, match="agents"):
            await world.platform.keys.revoke(ada, team.id, own.id)
        with pytest.raises(Conflict, match="agents"):
            await world.platform.keys.rotate(ada, team.id, own.id, Rotation())

    async def test_only_administrators_see_keys_and_nobody_those_of_another_team(self):
        world = World()
        ada, eve = await world.person("ada"), await world.person("eve")
        team, other = await world.team(ada), await world.team(eve)
        bob = await world.member(ada, team.id, "bob", Role.MEMBER)
        with pytest.raises(Forbidden):
            await world.platform.keys.list(bob, team.id)
        with pytest.raises(NotFound):
            await world.platform.keys.list(eve, team.id)
        made = await world.platform.keys.create(ada, team.id, NewKey(name="CI"))
        with pytest.raises(NotFound):
            await world.platform.keys.revoke(eve, other.id, made.id)
