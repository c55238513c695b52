from collections.abc import Mapping

import pytest

from shared.tasks.models import Plan
from tests.unit.world import World


@pytest.fixture(scope="module")
def plans() -> Mapping[str, Plan]:
    return World().platform.runner._plans


class TestPlans:
    def test_every_flow_is_there_under_its_own_name(self, plans: Mapping[str, Plan]) -> None:
        assert set(plans) == {
            "team.create",
            "workspace.create",
            "workspace.import",
            "team.delete",
            "workspace.delete",
        }
        assert all(name == plan.name for name, plan in plans.items())

    def test_every_creation_can_be_undone_and_no_deletion(self, plans: Mapping[str, Plan]) -> None:
        assert {name for name, plan in plans.items() if plan.undoable} == {
            "team.create",
            "workspace.create",
            "workspace.import",
        }
        for name, plan in plans.items():
            assert all(step.undo for step in plan.steps) is not name.endswith(".delete")

    def test_names_of_steps_are_unique_in_a_plan(self, plans: Mapping[str, Plan]) -> None:
        for plan in plans.values():
            names = [step.name for step in plan.steps]
            assert len(names) == len(set(names)), plan.name

    def test_people_can_read_what_every_plan_and_step_does(self, plans: Mapping[str, Plan]) -> None:
        for plan in plans.values():
            for title in (plan.title, *(step.title for step in plan.steps)):
                assert title
                assert title[0].isupper()
                assert "_" not in title

    def test_a_name_means_the_same_step_in_every_plan(self, plans: Mapping[str, Plan]) -> None:
        steps = [step for plan in plans.values() for step in plan.steps]
        assert len({step.name for step in steps}) == len({(step.name, step.title, step.run) for step in steps})

    def test_every_step_ends_in_time_and_is_tried_at_least_once(self, plans: Mapping[str, Plan]) -> None:
        for plan in plans.values():
            assert all(step.timeout > 0 and step.attempts >= 1 for step in plan.steps)
