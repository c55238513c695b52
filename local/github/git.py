"""Runs the git binary on a bare repository, shut off from the user's own git configuration."""

import asyncio
import os
import re
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOOKS = Path(__file__).with_name("hooks")
_SETTINGS = {
    "core.hooksPath": str(HOOKS),
    "gc.auto": "0",
    "maintenance.auto": "false",
    "receive.advertiseAtomic": "true",
    "receive.maxInputSize": "2g",
    "uploadpack.allowFilter": "true",
    "uploadpack.allowReachableSHA1InWant": "true",
    "uploadpack.allowTipSHA1InWant": "true",
}
_SHA = re.compile(r"[0-9a-f]{40}\Z")
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|\Z)|\.\Z|/\Z|\A[-/.@]\Z|\A[-/.]")


class GitFailed(Exception):
    """git ended with an error; the text is what it printed."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Nothing of the caller's own environment but PATH; commits carry the emulator's name, dates are UTC."""
    settings = {"GIT_CONFIG_COUNT": str(len(_SETTINGS))}
    for number, (key, value) in enumerate(_SETTINGS.items()):
        settings |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    people = {f"GIT_{role}_{part}": text for role in ("AUTHOR", "COMMITTER") for part, text in _PERSON.items()}
    fixed = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    return {"PATH": os.environ.get("PATH", os.defpath)} | fixed | settings | people | dict(extra or {})


_PERSON = {"NAME": "GitHub", "EMAIL": "noreply@github.com"}


@dataclass(frozen=True)
class Running:
    """A git process and its pipes."""

    process: Process
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader


async def spawn(repository: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Running:
    """A git process in `repository`. It never looks for a repository in the folders above."""
    fence = {"GIT_CEILING_DIRECTORIES": str(repository.parent)}
    environ = environment(fence | dict(env or {}))
    process = await asyncio.create_subprocess_exec(
        "git", *arguments, cwd=repository, env=environ, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise GitFailed("git was started without pipes")
    return Running(process, process.stdin, process.stdout, process.stderr)


async def run(repository: Path, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
    """What git printed. Raises GitFailed."""
    process = (await spawn(repository, *arguments, env=env)).process
    output, errors = await process.communicate(stdin)
    if process.returncode:
        raise GitFailed(errors.decode(errors="replace").strip())
    return output


async def text(repository: Path, *arguments: str, stdin: bytes = b"") -> str:
    return (await run(repository, *arguments, stdin=stdin)).decode(errors="replace").strip()


async def resolve(repository: Path, revision: str) -> str | None:
    """The commit a branch, a tag or a whole SHA stands for."""
    names = [f"refs/heads/{revision}", f"refs/tags/{revision}"] if is_ref(revision) else []
    for name in [*names, *([revision] if _SHA.match(revision) else [])]:
        try:
            return await text(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except GitFailed:
            continue
    return None


async def refs(repository: Path, prefix: str) -> dict[str, tuple[str, str]]:
    """Object type and SHA by full ref name."""
    lines = await text(repository, "for-each-ref", "--format=%(refname) %(objecttype) %(objectname)", prefix)
    return {name: (kind, sha) for name, kind, sha in (line.split(" ") for line in lines.splitlines())}


async def branches(repository: Path) -> dict[str, str]:
    """SHA by branch name."""
    found = await refs(repository, "refs/heads/")
    return {name.removeprefix("refs/heads/"): sha for name, (_, sha) in found.items()}


async def commit_tree(repository: Path, tree: str, message: str, branch: str) -> str:
    """Makes `tree` the first commit of `branch`."""
    sha = await text(repository, "commit-tree", tree, "-m", message)
    await run(repository, "update-ref", f"refs/heads/{branch}", sha)
    return sha


async def write_tree(repository: Path, files: Mapping[str, tuple[bytes, bool]]) -> str:
    """The tree holding `files`: content and whether it is executable, by path."""
    entries = b""
    for path, (content, executable) in files.items():
        blob = await run(repository, "hash-object", "-w", "--stdin", stdin=content)
        mode = b"100755" if executable else b"100644"
        entries += mode + b" " + blob.strip() + b"\t" + path.encode() + b"\0"
    index = repository / "seed.index"
    env = {"GIT_INDEX_FILE": str(index)}
    try:
        await run(repository, "update-index", "-z", "--index-info", stdin=entries, env=env)
        return (await run(repository, "write-tree", env=env)).decode().strip()
    finally:
        index.unlink(missing_ok=True)


async def copy_tree(source: Path, tree: str, target: Path) -> None:
    """Copies the objects of one tree, without the history behind it."""
    pack = await run(source, "pack-objects", "--revs", "--stdout", "-q", stdin=tree.encode() + b"\n")
    await run(target, "unpack-objects", "-q", stdin=pack)


def is_ref(name: str) -> bool:
    """Whether `name` can be (the end of) a ref: the rules of git check-ref-format."""
    return bool(name) and not _BAD_REF.search(name)


def is_sha(name: str) -> bool:
    return bool(_SHA.match(name))
