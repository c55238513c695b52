"""What is declared in one place covers all that is used: settings, events, errors; and no repr shows a secret."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from shared.agents.models import GitCredentials
from shared.core import errors, events
from shared.core.ports import GitToken, JobSpec, SignIn
from shared.core.settings import Settings
from shared.llm.upstream import Outgoing
from tests.unit.world import World

ROOT = Path(__file__).parents[2]
SHARED = sorted((ROOT / "shared").rglob("*.py"))
_EVENT_TYPE = re.compile(r"(task|team|workspace|card|comment|board|agent|usage)\.[a-z_]+")


class TestSettings:
    def test_every_setting_has_a_variable_and_a_meaning(self) -> None:
        for item in fields(Settings):
            assert re.fullmatch(r"[A-Z][A-Z0-9_]+|AzureWebJobsStorage", item.metadata["env"]), item.name
            assert len(item.metadata["doc"]) > 10, item.name

    def test_no_two_share_a_variable(self) -> None:
        variables = [item.metadata["env"] for item in fields(Settings)]
        assert len(variables) == len(set(variables))

    def test_what_is_named_like_a_secret_is_one(self) -> None:
        for item in fields(Settings):
            if re.search(r"SECRET|PASSWORD|PRIVATE|API_KEY|CONNECTION_STRING|REDIS_URL", item.metadata["env"]):
                assert item.metadata["secret"], item.name

    def test_nothing_reads_the_environment_but_the_settings(self) -> None:
        for path in SHARED:
            if path.parent.name != "adapters":
                assert not re.search(r"os\.(environ|getenv)", path.read_text()), path


def used_types() -> Iterator[tuple[str, Path]]:
    """Texts in the form of an event's type, outside of log calls and annotations."""
    plans = set(World().platform.runner._plans)
    for path in SHARED:
        if path.relative_to(ROOT).as_posix() == "shared/core/events.py" or path.parent.name == "adapters":
            continue
        tree = ast.parse(path.read_text())
        logged = {id(call.args[0]) for call in ast.walk(tree) if _is_log(call)}
        texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in logged]
        for kind in (node.value for node in texts if isinstance(node.value, str)):
            if _EVENT_TYPE.fullmatch(kind) and kind not in plans:
                yield kind, path


def _is_log(node: ast.AST) -> Any:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
        and bool(node.args)
    )


class TestEvents:
    def catalogued(self) -> set[str]:
        return {kind for event in events.CATALOGUE for kind in get_args(event.model_fields["type"].annotation)}

    def test_every_type_in_use_is_in_the_catalogue(self) -> None:
        used = list(used_types())
        assert len(used) > 15
        for kind, path in used:
            assert kind in self.catalogued(), f"{kind} in {path}"

    def test_every_type_in_the_catalogue_is_in_use(self) -> None:
        assert self.catalogued() <= {kind for kind, _ in used_types()}

    def test_a_type_belongs_to_one_shape(self) -> None:
        kinds = [kind for event in events.CATALOGUE for kind in get_args(event.model_fields["type"].annotation)]
        assert len(kinds) == len(set(kinds))

    def test_an_unknown_type_is_an_error(self) -> None:
        with pytest.raises(ValueError, match=r"team\.painted"):
            events.parse({"id": "1", "type": "team.painted", "time": "", "subject": "", "sequence": 1, "data": {}})


class TestErrors:
    def known(self) -> list[type[errors.PlatformError]]:
        return [
            kind
            for kind in vars(errors).values()
            if isinstance(kind, type) and issubclass(kind, errors.PlatformError) and kind is not errors.PlatformError
        ]

    def test_each_has_a_type_of_its_own(self) -> None:
        assert len(self.known()) > 10
        assert len({kind.type for kind in self.known()}) == len(self.known())

    def test_each_has_a_status_a_client_understands(self) -> None:
        for kind in self.known():
            assert 400 <= kind.status < 600
            assert kind.title
            assert kind.transient == (kind.status in (429, 503))

    def test_nothing_goes_on_after_an_unknown_error(self) -> None:
        """`except Exception` is allowed where the task engine turns a fault of a step into its failure."""
        for path in SHARED:
            for node in ast.walk(ast.parse(path.read_text())):
                broad = isinstance(node, ast.ExceptHandler) and (
                    node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception")
                )
                assert not broad or path.relative_to(ROOT).as_posix() == "shared/tasks/holder.py", path


class TestSecrets:
    def test_settings_do_not_show_theirs(self) -> None:
        secret = {item.name: f"hidden-{item.name}" for item in fields(Settings) if item.metadata["secret"]}
        assert len(secret) >= 5
        shown = repr(replace(Settings(), **secret)) + str(replace(Settings(), **secret))
        assert "hidden" not in shown

    @pytest.mark.parametrize(
        "value",
        [
            JobSpec("job", "t1", ("agent_container",), {"RUN_TOKEN": "hidden"}),
            GitToken("hidden", datetime(2026, 1, 1, tzinfo=UTC)),
            SignIn("https://login.example", "state", {"code_verifier": "hidden"}),
            GitCredentials(username="x-access-token", password="hidden", expires_at=""),
            Outgoing("POST", "/v1/messages", "", (), b"hidden"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_values_do_not_show_theirs(self, value: object) -> None:
        assert "hidden" not in f"{value!r} {value}"
