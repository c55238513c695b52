"""Where the local stores keep things: partitions, subjects, blobs and secrets as files under one data folder."""

import re
from pathlib import Path

from shared.core import ids
from shared.core.errors import NotFound

_SEGMENT = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")
_SECRET = re.compile(r"[A-Za-z0-9-]{1,127}")
_KEY_FORBIDDEN = re.compile(r"[/\\#?\x00-\x1f\x7f]")
_NAME_FORBIDDEN = re.compile(r"[\\\x00-\x1f\x7f]")


def partition_file(root: Path, partition: str) -> Path:
    """The file that holds `partition`. ValueError: an unknown kind. NotFound: no such id can exist."""
    match partition.split("/"):
        case ["portal", kind, key] if _SEGMENT.fullmatch(kind):
            if not key or len(key) > 512 or _KEY_FORBIDDEN.search(key):
                raise NotFound(f"There is no {kind} {key!r}.")
            return root / "portal" / "portal.json"
        case ["tasks" | "incidents" as kind, key]:
            return root / "portal" / kind / f"{_segment(kind, key)}.json"
        case ["open", key] if re.fullmatch(r"[0-9]{2}", key):
            return root / "portal" / "open" / f"{key}.json"
        case ["boards", scope]:
            return _scope_folder(root, scope) / "db.json"
        case ["usage", team]:
            return _team_folder(root, team) / "usage.json"
        case _:
            raise ValueError(f"{partition!r} is not a partition the local store knows; add its kind to layout.py")


def subject_file(root: Path, subject: str) -> Path:
    """The file that holds the events of `subject`. ValueError: an unknown kind. NotFound: no such id can exist."""
    match subject.split("/"):
        case ["board", key]:
            return _scope_folder(root, ids.board_scope(key)) / "events" / f"{key}.jsonl"
        case ["run", key]:
            return _scope_folder(root, ids.scope_of(key, "run")) / "events" / f"{key}.jsonl"
        case ["task", key]:
            return root / "portal" / "tasks" / f"{_segment('task', key)}.events.jsonl"
        case ["user", key]:
            return root / "portal" / "users" / f"{_segment('user', key)}.events.jsonl"
        case ["team" | "usage" as kind, team]:
            return _team_folder(root, team) / "events" / f"{kind}.jsonl"
        case _:
            raise ValueError(f"{subject!r} is not a subject the local store knows; add its kind to layout.py")


def blob_file(root: Path, name: str) -> Path:
    """The file of a blob. Parts that start with a dot are refused: they would be temporary files or escapes."""
    parts = name.split("/")
    if any(not 0 < len(part.encode()) <= 255 or part.startswith(".") or _NAME_FORBIDDEN.search(part) for part in parts):
        raise ValueError(f"{name!r} is not a blob name: parts joined by /, none empty, none starting with a dot")
    return root.joinpath("blobs", *parts)


def secret_file(root: Path, name: str) -> Path:
    if not _SECRET.fullmatch(name):
        raise ValueError(f"{name!r} is not a secret's name: 1 to 127 letters, digits and dashes")
    return root / "secrets" / name


def _segment(kind: str, key: str) -> str:
    if not _SEGMENT.fullmatch(key):
        raise NotFound(f"There is no {kind} {key!r}.")
    return key


def _scope_folder(root: Path, scope: str) -> Path:
    """A team keeps its board in its folder, a workspace in `kanban/` beside the app's checkout."""
    if not ids.is_scope(scope):
        raise NotFound(f"There is no board of {scope!r}.")
    return root / "teams" / scope if scope.startswith("t") else root / "workspaces" / scope / "kanban"


def _team_folder(root: Path, team: str) -> Path:
    if not ids.is_scope(team) or not team.startswith("t"):
        raise NotFound(f"There is no team {team!r}.")
    return root / "teams" / team
