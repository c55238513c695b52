"""Writes the parts of the documentation that the code knows best: `python -m local.docs`.

A part stands between `<!-- generated: NAME -->` and `<!-- end generated -->`. `--check` names the files that are stale.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from textwrap import TextWrapper
from typing import Any, get_args

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from functions.api import AREAS, create_api
from functions.context import Caller
from functions.runs import ContainerRun
from shared.bootstrap import adapters, build
from shared.core import events
from shared.core.permissions import PERMISSIONS, Action, Role
from shared.core.settings import Settings

ROOT = Path(__file__).parents[1]
PART = re.compile(r"(<!-- generated: ([a-z]+) -->\n).*?(<!-- end generated -->)", re.DOTALL)

SUBJECTS: dict[type[BaseModel], tuple[str, str]] = {
    events.TaskEvent: ("task/<task id>", "`user.<who started it>` and `team.<team id>`"),
    events.ProvisionedEvent: ("team/<team id>", "`team.<team id>`"),
    events.DeletedEvent: ("team/<team id>", "`user.<id>` of whoever deleted it and of every member"),
    events.CardEvent: ("board/<board id>", "`team.<team id>`"),
    events.CommentEvent: ("board/<board id>", "`team.<team id>`"),
    events.BoardEvent: ("board/<board id>", "`team.<team id>`"),
    events.RunEvent: ("run/<run id>", "`team.<team id>`"),
    events.ProgressEvent: ("run/<run id>", "`team.<team id>`"),
    events.UsageEvent: ("run/<run id>", "`team.<team id>`"),
}
"""Of each class in the catalogue: what owns its sequence, and the groups that see it live."""

MEANINGS = {
    "task.created": "Long work was asked for",
    "task.progress": "A step began, went on, ended is tried again or is undone; or the task was retried or cancelled",
    "task.completed": "Every step succeeded",
    "task.failed": "It stopped and can be retried: a step or its undoing kept failing, or the queue gave the task up",
    "task.rolled_back": "A step was refused, and everything before it is undone",
    "task.cancelled": "Somebody cancelled it, and everything it had made is undone",
    "team.provisioned": "A team is ready to use",
    "workspace.provisioned": "A workspace is ready to use",
    "team.deleted": "A team is gone, with all that was in it",
    "workspace.deleted": "A workspace is gone; its team follows at once",
    "card.created": "A card was created, or restored after a delete",
    "card.updated": "Fields of a card changed, a run left its result on it, or its pull request was closed or merged",
    "card.moved": "A card changed its column or its place",
    "card.deleted": "A card was deleted; it can be restored",
    "comment.created": "A person or the agent wrote a comment",
    "board.updated": "Columns changed, or the board got its repository or its agent",
    "agent.queued": "A card's move, or a retry, started a run",
    "agent.starting": "The run's container is being started",
    "agent.started": "The container has fetched its work and begins",
    "agent.completed": "The run succeeded: its branch holds the commit",
    "agent.failed": "The run failed; `run.reason` says why",
    "agent.cancelled": "A person stopped the run",
    "agent.progress": "The agent did something; `kind` says what",
    "usage.recorded": "An answer of the model was counted",
}
"""When each type is sent."""

_HELD = "\N{NO-BREAK SPACE}"
"""Keeps a field and its type on one line."""

WHO_BY_AREA = {"agents": "webhook signature", "llm": "team key or run token"}


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(prog="python -m local.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 when a file is stale")
    check: bool = parser.parse_args(arguments).check
    changed = stale(root)
    for path, text in changed.items():
        if not check:
            path.write_text(text)
        print(f"{'Stale' if check else 'Wrote'}: {path.relative_to(root)}")
    if check and changed:
        print("Run `python -m local.docs` in the project's environment, then commit.")
    return 1 if check and changed else 0


def documents(root: Path) -> list[Path]:
    """Every page of the documentation."""
    return [root / "README.md", root / "CHANGELOG.md", *sorted((root / "docs").rglob("*.md"))]


def stale(root: Path) -> dict[Path, str]:
    """The pages below `root` whose generated parts are not what the code says, with the text they should have."""
    made: dict[str, str] = {}

    def fresh(match: re.Match[str]) -> str:
        name = match[2]
        if name not in PARTS:
            raise ValueError(f"There is no generated part {name!r}; there are {', '.join(PARTS)}.")
        if name not in made:
            made[name] = PARTS[name]()
        return f"{match[1]}\n{made[name].strip()}\n\n{match[3]}"

    texts = {path: path.read_text() for path in documents(root)}
    wanted = {path: PART.sub(fresh, text) for path, text in texts.items()}
    return {path: text for path, text in wanted.items() if text != texts[path]}


# -- parts ------------------------------------------------------------------------------------------


def settings_table() -> str:
    rows: list[Sequence[str]] = []
    for item in fields(Settings):
        meaning = item.metadata["doc"] + (". Secret" if item.metadata["secret"] else "")
        rows.append((f"`{item.metadata['env']}`", _default(item.default), meaning))
    return _table(("Variable", "Default", "Meaning"), rows)


def permissions_table() -> str:
    roles = list(Role)
    rows = [
        (action.replace("_", " ").capitalize(), *("yes" if action in PERMISSIONS[role] else "" for role in roles))
        for action in Action
    ]
    return _table(("", *(role.capitalize() for role in roles)), rows)


def operations() -> str:
    """A table of operations for each area."""
    described: dict[str, Any] = application().openapi()["paths"]
    areas: dict[str, list[Sequence[str]]] = {}
    for route, method in shown_routes():
        operation: dict[str, Any] = described[route.path][method.lower()]
        area: str = operation["tags"][0]
        row = (
            f"`{method} {route.path}`",
            operation["summary"],
            _who(route, area),
            _asked(operation),
            _answer(operation),
        )
        areas.setdefault(area, []).append(row)
    header = ("Operation", "What", "Who", "Request", "Answer")
    return "\n\n".join(f"### {area}\n\n{_table(header, rows)}" for area, rows in areas.items())


def types() -> str:
    """Every request and answer on a line of its own. Events have a page to themselves."""
    schemas: dict[str, Any] = application().openapi()["components"]["schemas"]
    elsewhere = {shape.__name__ for event in events.CATALOGUE for shape in (event, _data(event))}
    lines = [_shape(name, schema) for name, schema in sorted(schemas.items()) if name not in elsewhere]
    return _code(lines)


def event_types() -> str:
    sections: list[str] = []
    for event in events.CATALOGUE:
        subject, groups = SUBJECTS[event]
        kinds = event_names(event)
        schema = _data(event).model_json_schema()
        sections += [
            f"### {' · '.join(f'`{kind}`' for kind in kinds)}",
            f"Subject `{subject}`; seen live by {groups}." + _remark(schema),
            _table(("Type", "When"), [(f"`{kind}`", MEANINGS[kind]) for kind in kinds]),
            _code([_shape("data", schema)]),
        ]
    return "\n\n".join(sections)


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "permissions": permissions_table,
    "operations": operations,
    "types": types,
    "events": event_types,
}

# -- the API ----------------------------------------------------------------------------------------


def application() -> FastAPI:
    """The API on default settings; nothing is connected."""
    settings = Settings()
    return create_api(build(settings, adapters(settings)))


def shown_routes() -> Iterator[tuple[APIRoute, str]]:
    """Every operation that the OpenAPI description shows, with its method."""
    for area in AREAS:
        for route in area.router.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                for method in sorted(route.methods or ()):
                    yield route, method


def event_names(event: type[BaseModel]) -> tuple[str, ...]:
    return get_args(event.model_fields["type"].annotation)


def _data(event: type[BaseModel]) -> type[BaseModel]:
    shape: Any = event.model_fields["data"].annotation
    if not issubclass(shape, BaseModel):
        raise TypeError(f"The data of {event.__name__} is not a model.")
    return shape


def _who(route: APIRoute, area: str) -> str:
    calls = set(_calls(route.dependant))
    if get_args(Caller.__value__)[1].dependency in calls:
        return "signed in"
    if get_args(ContainerRun.__value__)[1].dependency in calls:
        return "run token"
    return WHO_BY_AREA.get(area, "anyone")


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    for inner in dependant.dependencies:
        if inner.call is not None:
            yield inner.call
        yield from _calls(inner)


def _asked(operation: Mapping[str, Any]) -> str:
    named = {"query": "?{}", "header": "{}"}
    parts = [
        f"`{named[parameter['in']].format(parameter['name'])}`"
        for parameter in operation.get("parameters", ())
        if parameter["in"] in named
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    return " ".join([*([f"`{_type(body)}`"] if body else []), *parts])


def _answer(operation: Mapping[str, Any]) -> str:
    status = next(status for status in operation["responses"] if status.startswith("2"))
    schema = operation["responses"][status].get("content", {}).get("application/json", {}).get("schema")
    return f"{status} `{_type(schema)}`" if schema else status


# -- text -------------------------------------------------------------------------------------------


def _shape(name: str, schema: Mapping[str, Any]) -> str:
    """`Name { field: type, optional?: type }`, or the type that `name` stands for."""
    if "properties" not in schema:
        return f"{name} = {_type(schema)}"
    required = schema.get("required", ())
    parts = [
        f"{field}{'' if field in required else '?'}: {_type(inner)}".replace(" ", _HELD)
        for field, inner in schema["properties"].items()
    ]
    return f"{name}{_HELD}{{ {', '.join(parts)} }}"


def _type(schema: Mapping[str, Any]) -> str:
    match schema:
        case {"$ref": str(reference)}:
            return reference.rsplit("/", 1)[1]
        case {"const": value}:
            return f'"{value}"'
        case {"enum": values}:
            return " | ".join(f'"{value}"' for value in values)
        case {"anyOf": options} | {"oneOf": options}:
            return " | ".join(_type(option) for option in options)
        case {"type": "array", "items": items}:
            return f"[{_type(items)}]"
        case {"type": "object", "additionalProperties": dict(values)}:
            return f"{{string: {_type(values)}}}"
        case {"type": str(kind)}:
            return kind
        case _:
            return "any"


def _remark(schema: Mapping[str, Any]) -> str:
    description = " ".join(str(schema.get("description", "")).split())
    return f" {description}" if description else ""


def _default(value: object) -> str:
    match value:
        case bool():
            return f"`{int(value)}`"
        case tuple():
            return _default(",".join(str(part) for part in value))  # pyright: ignore[reportUnknownVariableType]
        case "":
            return ""
        case _:
            return f"`{value}`"


def _code(lines: Iterable[str]) -> str:
    wrapper = TextWrapper(width=110, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(["```text", *(wrapper.fill(line).replace(_HELD, " ") for line in lines), "```"])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return escaped if "`" in escaped else escaped.replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main())
