"""The documentation says what the code does: settings, operations, events, queues, links, commands."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from functions.queues import QUEUES
from local import docs
from shared.agents.models import RunMessage, UndeliveredMessage
from shared.core import events
from shared.core.messages import read
from shared.core.settings import Settings
from shared.llm.models import UsageMessage, UsageRecord
from shared.tasks.models import TaskMessage
from shared.webhooks.models import Delivery

PAGES = docs.documents(docs.ROOT)
FENCE = re.compile(r"^(`{3,})(\w*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
SOURCES = ("functions", "shared", "local", "agent_container", "tests")


def page(name: str) -> str:
    return (docs.ROOT / name).read_text()


@cache
def operations() -> set[tuple[str, str]]:
    """Method and path of everything that OpenAPI describes."""
    paths = docs.application().openapi()["paths"]
    return {(method.upper(), path) for path, found in paths.items() for method in found}


@cache
def code() -> str:
    return "\n".join(source.read_text() for folder in SOURCES for source in (docs.ROOT / folder).rglob("*.py"))


def prose(text: str) -> str:
    """Without fenced blocks."""
    return FENCE.sub("", text)


def blocks(text: str, *languages: str) -> list[str]:
    return [block for _, language, block in FENCE.findall(text) if language in languages]


def named(path: Path) -> str:
    return path.relative_to(docs.ROOT).as_posix()


every_page = pytest.mark.parametrize("path", PAGES, ids=named)


class TestGeneratedParts:
    def test_are_up_to_date(self):
        assert [named(path) for path in docs.stale(docs.ROOT)] == [], "run `python -m local.docs`"

    def test_a_stale_page_is_named_and_written_anew(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        shutil.copytree(docs.ROOT / "docs", tmp_path / "docs")
        for name in ("README.md", "CHANGELOG.md"):
            shutil.copy(docs.ROOT / name, tmp_path / name)
        spoilt = tmp_path / "docs" / "configuration.md"
        spoilt.write_text(spoilt.read_text().replace("| `REDIS_URL` |", "| `REDIS` |"))

        assert docs.main(["--check"], tmp_path) == 1
        assert "Stale: docs/configuration.md" in capsys.readouterr().out
        assert docs.main([], tmp_path) == 0
        assert spoilt.read_text() == page("docs/configuration.md")
        assert docs.main(["--check"], tmp_path) == 0

    def test_an_unknown_part_is_an_error(self, tmp_path: Path):
        (tmp_path / "CHANGELOG.md").touch()
        (tmp_path / "README.md").write_text("<!-- generated: weather -->\n<!-- end generated -->\n")
        with pytest.raises(ValueError, match="no generated part 'weather'"):
            docs.stale(tmp_path)


class TestReference:
    @pytest.mark.parametrize("name", ["README.md", "docs/configuration.md"])
    def test_every_setting_has_a_row(self, name: str):
        text = page(name)
        missing = [item.metadata["env"] for item in fields(Settings) if f"| `{item.metadata['env']}` |" not in text]
        assert missing == []

    def test_every_operation_has_a_row(self):
        text = page("docs/api.md")
        missing = [f"{method} {path}" for method, path in operations() if f"| `{method} {path}` |" not in text]
        assert operations()
        assert missing == []

    def test_every_event_type_has_a_row_and_a_meaning(self):
        types = [kind for event in events.CATALOGUE for kind in docs.event_names(event)]
        text = page("docs/events.md")
        assert [kind for kind in types if f"| `{kind}` |" not in text] == []
        assert set(docs.MEANINGS) == set(types)

    def test_every_field_of_an_event_is_there(self):
        text = " ".join(page("docs/events.md").split())
        shapes = [event.model_fields["data"].annotation for event in events.CATALOGUE]
        names = {name for shape in shapes if shape is not None for name in shape.model_fields}
        assert [name for name in names if not re.search(rf"\b{name}\??: ", text)] == []

    def test_every_error_type_is_listed(self):
        from shared.core.errors import PlatformError

        text = page("docs/api.md")
        kinds = [error for error in _subclasses(PlatformError) if error.__module__.startswith("shared.")]
        assert [error.type for error in kinds if not re.search(rf"\| {error.status} \|.*`{error.type}`", text)] == []

    def test_the_event_shown_is_a_valid_one(self):
        (example,) = blocks(page("docs/events.md"), "json")
        events.check(json.loads(example))


class TestQueues:
    def section(self, queue: str) -> list[dict[str, object]]:
        text = page("docs/queues.md")
        found = re.search(rf"^### {queue}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
        assert found, f"docs/queues.md has no section on {queue}"
        return [json.loads(block) for block in blocks(found[1], "json")]

    def test_every_queue_has_a_section_with_its_message(self):
        assert all(self.section(queue) for queue in QUEUES)

    def test_messages_have_the_fields_that_are_sent(self):
        (task,) = self.section("provisioning")
        run, undelivered = self.section("agent-runs")
        (delivery,) = self.section("webhooks")
        assert undelivered.keys() == UndeliveredMessage.model_fields.keys()
        assert delivery.keys() == Delivery.model_fields.keys()
        for schema, message in ((TaskMessage, task), (RunMessage, run), (UsageMessage, *self.section("usage"))):
            assert read(schema, message).model_dump() == message
        assert all(UsageRecord.model_validate(record) for record in read(UsageMessage, message).records)


class TestLinks:
    @every_page
    def test_relative_links_and_images_resolve(self, path: Path):
        broken = [target for target in _targets(prose(path.read_text())) if not _resolves(path, target)]
        assert broken == []

    def test_the_index_names_every_page(self):
        index = docs.ROOT / "docs" / "index.md"
        linked = {(index.parent / target.split("#")[0]).resolve() for target in _targets(index.read_text())}
        pages = {path for path in PAGES if path.is_relative_to(index.parent)} - {index}
        assert [named(path) for path in pages - linked] == []

    @pytest.mark.parametrize("path", [path for path in PAGES if path.parent.name == "adr"], ids=named)
    def test_a_decision_record_is_short(self, path: Path):
        assert len(path.read_text().splitlines()) <= 60


class TestCommands:
    @every_page
    def test_make_verbs_exist(self, path: Path):
        verbs = set(re.findall(r"^([a-z]+):", page("Makefile"), re.MULTILINE))
        text = path.read_text()
        used = set(re.findall(r"`make ([a-z]+)", prose(text)))
        used |= {verb for block in blocks(text, "sh") for verb in re.findall(r"\bmake ([a-z]+)", block)}
        assert used - verbs == set()

    @every_page
    def test_variables_exist(self, path: Path):
        known = {item.metadata["env"] for item in fields(Settings)} | set(re.findall(r"\$\((\w+)\)", page("Makefile")))
        unknown = set(_variables(path.read_text())) - known
        assert [name for name in sorted(unknown) if f'"{name}"' not in code()] == []

    @every_page
    def test_operations_in_the_text_exist(self, path: Path):
        text = prose(docs.PART.sub("", path.read_text()))
        mentioned = set(re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/api/[^`? ]*)`", text))
        assert mentioned - operations() == set()

    @every_page
    def test_folders_and_files_named_exist(self, path: Path):
        names = re.findall(
            r"`((?:shared|functions|local|tests|agent_container|infra)/[\w./-]*)`", prose(path.read_text())
        )
        assert [name for name in names if not (docs.ROOT / name).exists()] == []


def _subclasses(error: type) -> Iterator[type]:
    for inner in error.__subclasses__():
        yield inner
        yield from _subclasses(inner)


def _targets(text: str) -> Iterator[str]:
    """Relative targets of links, images and picture sources."""
    text = re.sub(r"`[^`\n]*`", "", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset|href)="([^"]+)"', text):
        if not re.match(r"[a-z]+:", target):
            yield unquote(target)


def _resolves(path: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    file = (path.parent / name).resolve() if name else path
    return file.exists() and (not anchor or anchor in _anchors(file.read_text()))


def _anchors(text: str) -> set[str]:
    """Of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def _variables(text: str) -> Iterator[str]:
    """Environment variables: named in code in the text, set or read in shell blocks."""
    yield from re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`", prose(text))
    for block in blocks(text, "sh"):
        yield from re.findall(r"\b([A-Z][A-Z0-9_]+)=", block)
        yield from re.findall(r"\$\{?([A-Z][A-Z0-9_]+)", block)
