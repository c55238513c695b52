import pytest

from shared.core import ids
from shared.core.errors import Forbidden, Unauthenticated
from shared.llm.keys import KNOWN_SECONDS, Keys, is_key, new_key
from shared.llm.models import Caller, Scope
from tests.unit.llm.world import CARD, RUN, TEAM, scripted


class TestEnsureKey:
    async def test_repeating_it_gives_the_same_key(self):
        world, _ = scripted()
        first = await world.keys.ensure_key(TEAM)
        assert await world.keys.ensure_key(TEAM) == first

    async def test_only_a_hash_is_stored_with_the_record(self):
        world, _ = scripted()
        key, record = await world.key()
        assert is_key(key)
        assert record.key_hash == ids.digest(key)
        assert record.secret_name == f"llm-key-{TEAM}"
        assert key not in str(world.documents.partitions)

    async def test_a_try_that_broke_off_after_the_secret_is_completed(self):
        world, _ = scripted()
        await world.secrets.put(f"llm-key-{TEAM}", "kvk_half")
        assert (await world.keys.ensure_key(TEAM)).key_hash == ids.digest("kvk_half")

    async def test_a_disabled_key_stays_disabled(self):
        world, _ = scripted()
        _, record = await world.key()
        await world.keys.change(record.key_hash, lambda _: {"disabled": True})
        assert (await world.keys.ensure_key(TEAM)).disabled


class TestRevoke:
    async def test_of_two_that_were_made_at_once_none_is_left(self):
        world, _ = scripted()
        await world.keys.ensure_key(TEAM)
        await world.secrets.put(f"llm-key-{TEAM}", "kvk_the_other_one")
        await world.keys.ensure_key(TEAM)
        await world.keys.revoke_all(TEAM)
        assert [name for name, rows in world.documents.partitions.items() if rows and "llmkey" in name] == []
        assert world.secrets.secrets == {}

    async def test_repeating_it_is_fine(self):
        world, _ = scripted()
        await world.keys.revoke_all(TEAM)
        await world.keys.ensure_key(TEAM)
        await world.keys.revoke_all(TEAM)
        await world.keys.revoke_all(TEAM)
        with pytest.raises(Unauthenticated):
            await world.keys.authenticate([("x-api-key", new_key())])


class TestAuthenticate:
    @pytest.mark.parametrize(("header", "scheme"), [("x-api-key", ""), ("authorization", "Bearer ")])
    async def test_a_key_in_either_header(self, header: str, scheme: str):
        world, _ = scripted()
        key, record = await world.key()
        caller = await world.keys.authenticate([(header, scheme + key)])
        assert caller == Caller(TEAM, record.key_id)

    async def test_a_run_token_names_run_card_and_cap(self):
        world, _ = scripted()
        caller = await world.keys.authenticate([("authorization", f"Bearer {await world.run_token(cap=7)}")])
        assert (caller.run_id, caller.card_id) == (RUN, CARD)
        assert [(cap.subject, cap.span, cap.limit) for cap in caller.allowances] == [(f"run/{RUN}", "total", 7)]

    async def test_a_placeholder_in_the_other_header_does_no_harm(self):
        world, _ = scripted()
        headers = [("x-api-key", "placeholder"), ("authorization", f"Bearer {await world.run_token()}")]
        assert (await world.keys.authenticate(headers)).run_id == RUN

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [("x-api-key", "")],
            [("x-api-key", "sk-ant-other")],
            [("x-api-key", new_key())],
            [("authorization", "Basic kvk_x")],
            [("authorization", "Bearer a.b.c")],
        ],
    )
    async def test_anything_else_is_refused(self, headers: list[tuple[str, str]]):
        world, _ = scripted()
        await world.key()
        with pytest.raises(Unauthenticated):
            await world.keys.authenticate(headers)

    @pytest.mark.parametrize(
        "claims",
        [{"team_id": "t9999999999"}, {"key_hash": "0" * 64}, {"key_hash": "../x"}, {"cap": "5"}, {"card_id": None}],
    )
    async def test_a_run_token_that_does_not_fit_its_key_is_refused(self, claims: dict[str, object]):
        world, _ = scripted()
        with pytest.raises(Unauthenticated):
            await world.keys.authenticate([("x-api-key", await world.run_token(**claims))])

    async def test_a_token_for_something_else_is_refused(self):
        world, _ = scripted()
        token = await world.tokens.sign("session", RUN, {}, 60)
        with pytest.raises(Unauthenticated):
            await world.keys.authenticate([("x-api-key", token)])

    async def test_a_disabled_key_refuses_itself_and_its_runs(self):
        world, _ = scripted()
        key, record = await world.key()
        token = await world.run_token()
        await world.keys.change(record.key_hash, lambda _: {"disabled": True})
        for credential in (key, token):
            with pytest.raises(Forbidden, match="disabled"):
                await world.keys.authenticate([("x-api-key", credential)])
        await world.keys.change(record.key_hash, lambda _: {"disabled": False})
        await world.keys.authenticate([("x-api-key", token)])

    @pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
    async def test_the_token_of_a_run_that_is_over_is_refused(self, status: str):
        world, _ = scripted()
        token = await world.run_token()
        await world.put_run(RUN, status)
        with pytest.raises(Unauthenticated, match="over"):
            await world.keys.authenticate([("x-api-key", token)])

    async def test_the_token_of_a_run_that_is_gone_is_refused(self):
        world, _ = scripted()
        token = await world.run_token()
        world.documents.partitions.clear()
        await world.key()
        with pytest.raises(Unauthenticated, match="over"):
            await world.keys.authenticate([("x-api-key", token)])

    async def test_a_mistyped_key_is_told_from_an_unknown_one(self):
        world, _ = scripted()
        key, _ = await world.key()
        with pytest.raises(Unauthenticated, match="mistyped"):
            await world.keys.authenticate([("x-api-key", key[:-1] + ("0" if key[-1] != "0" else "1"))])

    async def test_a_key_is_good_until_it_expires(self):
        world, _ = scripted()
        key = new_key()
        scope = Scope(kind="team", id=TEAM)
        await world.keys.add(
            world.keys.record(key, TEAM, name="CI", scope=scope, expires_at="2026-01-01T00:00:02.000Z")
        )
        await world.keys.authenticate([("x-api-key", key)])
        world.clock.advance(2)
        with pytest.raises(Unauthenticated, match="expired"):
            await world.keys.authenticate([("x-api-key", key)])

    async def test_another_process_lets_a_revoked_key_in_for_some_seconds_only(self):
        world, _ = scripted()
        key, record = await world.key()
        elsewhere = Keys(world.documents, world.secrets, world.tokens, world.clock)
        await elsewhere.authenticate([("x-api-key", key)])
        await world.keys.change(record.key_hash, lambda _: {"disabled": True})
        await elsewhere.authenticate([("x-api-key", key)])
        world.clock.advance(KNOWN_SECONDS)
        with pytest.raises(Forbidden):
            await elsewhere.authenticate([("x-api-key", key)])
        with pytest.raises(Forbidden):
            await world.keys.authenticate([("x-api-key", key)])

    async def test_who_was_let_in_costs_no_read_for_some_seconds(self):
        world, _ = scripted()
        token = await world.run_token()
        first = await world.keys.authenticate([("x-api-key", token)])
        world.documents.partitions.clear()
        assert await world.keys.authenticate([("x-api-key", token)]) is first
