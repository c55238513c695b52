"""Commits and diffs of a bare repository, read from git."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import batched
from pathlib import Path

from local.github import git

_FIELDS = "%H%x00%T%x00%P%x00%an%x00%ae%x00%ad%x00%cn%x00%ce%x00%cd%x00%B"
_DATE = "--date=format-local:%Y-%m-%dT%H:%M:%SZ"
_PATCH_LIMIT = 400_000
_DIFF_LIMIT = 16_000_000
_STATUS = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "C": "copied", "T": "changed"}
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


@dataclass(frozen=True)
class Commit:
    sha: str
    tree: str
    parents: tuple[str, ...]
    author: str
    author_email: str
    authored_at: str
    committer: str
    committer_email: str
    committed_at: str
    message: str


@dataclass(frozen=True)
class Change:
    """One file of a diff; `patch` starts at the first hunk, None for binary and huge files and pure renames."""

    path: str
    previous: str | None
    status: str
    sha: str
    additions: int
    deletions: int
    patch: str | None


async def log(repository: Path, *revisions: str, limit: int = 100, skip: int = 0) -> list[Commit]:
    """Newest first."""
    options = (f"--format={_FIELDS}", _DATE, f"-n{limit}", f"--skip={skip}")
    output = await git.run(repository, "log", "-z", *options, "--end-of-options", *revisions, "--")
    fields = output.decode(errors="replace").removesuffix("\0").split("\0") if output else []
    return [_commit(chunk) for chunk in batched(fields, 10, strict=True)]


def _commit(fields: tuple[str, ...]) -> Commit:
    sha, tree, parents, *people, message = fields
    author, author_email, authored, committer, committer_email, committed = people
    message = message.rstrip("\n")
    return Commit(
        sha,
        tree,
        tuple(parents.split()),
        author,
        author_email,
        authored,
        committer,
        committer_email,
        committed,
        message,
    )


async def count(repository: Path, revisions: str) -> int:
    return int(await git.text(repository, "rev-list", "--count", "--end-of-options", revisions, "--"))


async def merge_base(repository: Path, base: str, head: str) -> str | None:
    try:
        return await git.text(repository, "merge-base", "--end-of-options", base, head)
    except git.GitFailed:
        return None


async def changes(repository: Path, base: str | None, head: str, limit: int = 300) -> list[Change]:
    """What differs between two commits; from nothing when `base` is None."""
    ends = (base or _EMPTY_TREE, head)
    raw, numbers, patches = await asyncio.gather(
        git.run(repository, "diff", "--raw", "-z", "-M", "--no-abbrev", *ends, "--"),
        git.run(repository, "diff", "--numstat", "-z", "-M", *ends, "--"),
        _diff(repository, *ends),
    )
    found: list[Change] = []
    sections = iter(patches)
    for (letter, sha, previous, path), (added, removed) in zip(_raw(raw), _numstat(numbers), strict=True):
        if len(found) == limit:
            break
        patch = next(sections, None)
        if letter == "T":  # a file turned link is printed as a removal and an addition
            patch = next(sections, None)
        found.append(Change(path, previous, _STATUS[letter], sha, added, removed, patch))
    return found


def _raw(output: bytes) -> Iterator[tuple[str, str, str | None, str]]:
    """Status letter, blob SHA (the old one of a removed file), previous path of a rename, path."""
    fields = iter(output.decode(errors="replace").split("\0"))
    for entry in fields:
        if not entry:
            return
        _, _, old, new, status = entry.split(" ")
        letter = status[0]
        previous = next(fields) if letter in "RC" else None
        yield letter, old if letter == "D" else new, previous, next(fields)


def _numstat(output: bytes) -> Iterator[tuple[int, int]]:
    """Added and removed lines; zero for binary files."""
    fields = iter(output.decode(errors="replace").split("\0"))
    for entry in fields:
        if not entry:
            return
        added, removed, path = entry.split("\t")
        if not path:
            next(fields)
            next(fields)
        yield (0, 0) if added == "-" else (int(added), int(removed))


async def _diff(repository: Path, base: str, head: str) -> list[str | None]:
    """The hunks of each file, in order; files beyond the limit are missing from the end."""
    running = await git.spawn(repository, "diff", "-M", "--no-color", "--no-ext-diff", base, head, "--")
    output = bytearray()
    while len(output) <= _DIFF_LIMIT and (chunk := await running.stdout.read(1 << 20)):
        output += chunk
    cut = len(output) > _DIFF_LIMIT
    if cut:
        running.process.kill()
    await running.process.communicate()
    sections = (b"\n" + bytes(output)).split(b"\ndiff --git ")[1:]
    return [_hunks(section) for section in (sections[:-1] if cut else sections)]


def _hunks(section: bytes) -> str | None:
    start = section.find(b"\n@@ ")
    patch = section[start + 1 :].removesuffix(b"\n")
    return None if start < 0 or len(patch) > _PATCH_LIMIT else patch.decode(errors="replace")
