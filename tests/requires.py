"""A test that needs what the machine has not got is skipped with a hint; where everything is installed, it fails."""

import os

import pytest


def require(condition: object, hint: str) -> None:
    """Skip unless `condition`; with KANBAN_REQUIRE_ALL=1 fail instead. `hint` says how to get what is missing."""
    if condition:
        return
    if os.environ.get("KANBAN_REQUIRE_ALL") == "1":
        pytest.fail(hint)
    pytest.skip(hint)
