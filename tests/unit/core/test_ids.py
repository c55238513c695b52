import time

import pytest

from shared.core import ids
from shared.core.errors import NotFound

TEAM = "t0123456789"
WORKSPACE = "wabcdefghjk"
HOSTILE = [
    "",
    "_",
    "card",
    "card_",
    f"card_{TEAM}",
    f"card_{TEAM}_",
    f"card_{TEAM}_a_b",
    f"card_{TEAM}_../../etc",
    f"card_{TEAM}_A",
    f"card_{TEAM}_é",
    f"card_{TEAM}_²",
    f"card_{TEAM}_{'a' * 65}",
    f"card_{TEAM}_a\x00",
    f"card_{TEAM}_a/b",
    f"card_{TEAM} _a",
    "card_x0123456789_a",
    "card_t012345678_a",
    "card_t01234567890_a",
    "card_../../../.._a",
    f"run_{TEAM}_a",
    f"CARD_{TEAM}_a",
]


class TestTasks:
    @pytest.mark.parametrize("scope", [TEAM, WORKSPACE, ids.new_team(), ids.new_workspace()])
    def test_an_id_leads_to_the_team_or_workspace_that_started_it(self, scope: str) -> None:
        assert ids.task_scope(ids.new_task(scope)) == scope

    @pytest.mark.parametrize("other", [*HOSTILE, TEAM, ids.sortable(), ids.new_task(TEAM)[:-1] + "/", "x" * 31])
    def test_no_other_leads_anywhere(self, other: str) -> None:
        assert ids.task_scope(other) is None


class TestScopes:
    @pytest.mark.parametrize("scope", [TEAM, WORKSPACE, ids.new_team(), ids.new_workspace()])
    def test_an_id_leads_to_its_scope(self, scope: str) -> None:
        assert ids.scope_of(ids.scoped("card", scope), "card") == scope
        assert ids.scope_of(ids.scoped("agent", scope, "default"), "agent") == scope
        assert ids.board_scope(ids.board_id(scope)) == scope

    @pytest.mark.parametrize("text", HOSTILE)
    def test_what_cannot_be_an_id_is_not_found(self, text: str) -> None:
        with pytest.raises(NotFound):
            ids.scope_of(text, "card")

    @pytest.mark.parametrize(
        "text", ["", "board_", TEAM, "board_x", "board_../../x", f"board_{TEAM}x", f"Board_{TEAM}"]
    )
    def test_what_cannot_be_a_board_is_not_found(self, text: str) -> None:
        with pytest.raises(NotFound):
            ids.board_scope(text)

    @pytest.mark.parametrize("text", ["", "A", "a-b", "a b", "ß", "a" * 65, "a\n"])
    def test_only_short_lower_case_letters_and_digits_are_plain(self, text: str) -> None:
        assert not ids.is_plain(text)


class TestSortable:
    def test_later_ids_sort_after_earlier_ones(self) -> None:
        made: list[str] = []
        for _ in range(5):
            made.append(ids.sortable())
            time.sleep(0.002)
        assert made == sorted(made)

    def test_ids_of_one_moment_differ_and_sort_too(self) -> None:
        made = [ids.sortable() for _ in range(5_000)]
        assert len(set(made)) == 5_000
        assert made == sorted(made)


class TestUsers:
    def test_the_same_person_always_gets_the_same_id(self) -> None:
        assert ids.new_user("tenant", "person") == ids.new_user("tenant", "person")

    def test_the_same_object_id_in_another_tenant_is_somebody_else(self) -> None:
        assert ids.new_user("tenant", "person") != ids.new_user("other", "person")

    def test_a_user_id_is_plain(self) -> None:
        assert ids.is_plain(ids.new_user("tenant/../", "person"))


class TestShards:
    def test_open_work_is_spread_over_sixteen_shards(self) -> None:
        assert {ids.shard(f"tasks/{n}") for n in range(1_000)} == {f"{n:02d}" for n in range(16)}
