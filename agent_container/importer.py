"""`python -m agent_container.importer`: copies a repository's branches and tags into ours."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from agent_container.config import BadEnvironment, command_env
from agent_container.credentials import CredentialChannel, Provider, origin
from agent_container.git import Git, GitError, lasting, reason
from agent_container.harden import hide_memory
from agent_container.redact import Redactor

_DELAYS = (2.0, 5.0, 10.0)
_STAGE = re.compile(r"(Receiving objects|Resolving deltas|Updating files|Writing objects):\s+(\d+)%")
_STAGES: Mapping[str, tuple[int, int, str]] = {
    "Receiving objects": (5, 45, "Fetching"),
    "Resolving deltas": (45, 55, "Unpacking"),
    "Writing objects": (60, 95, "Pushing"),
}


@dataclass(frozen=True)
class ImportJob:
    """Where from, where to; `source` carries no credential, `source_login` does."""

    source: str
    source_login: tuple[str, str] | None = field(repr=False)
    target: str
    target_token: str = field(repr=False)
    folder: Path
    env: Mapping[str, str]

    @classmethod
    def take(cls, env: MutableMapping[str, str]) -> "ImportJob":
        values = {name: env.pop(name, "").strip() for name in ("SOURCE_URL", "TARGET_URL", "TARGET_TOKEN")}
        for name, value in values.items():
            if not value:
                raise BadEnvironment(f"{name} is not set. The platform sets it when it starts the import.")
        home = Path(env.get("HOME") or Path.home()).resolve()
        source, login = split_login(values["SOURCE_URL"])
        folder = Path(env.get("WORK_DIR") or home / "work").resolve() / "import.git"
        return cls(source, login, values["TARGET_URL"], values["TARGET_TOKEN"], folder, command_env(env, home))


def split_login(url: str) -> tuple[str, tuple[str, str] | None]:
    """A URL without its user part, and that part: arguments of a process can be read by others."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    if not at or parts.scheme not in ("http", "https"):
        return url, None
    user, _, password = login.partition(":")
    return parts._replace(netloc=host).geturl(), (unquote(user), unquote(password))


class Progress:
    """Prints `progress <0..100> <text>`; never backwards, never twice the same."""

    def __init__(self) -> None:
        self._shown = -1

    def show(self, percent: int, text: str) -> None:
        if percent > self._shown:
            self._shown = percent
            print(f"progress {percent} {text}", flush=True)  # noqa: T201 - stdout is this program's interface

    def git(self, line: str) -> None:
        """Takes one line of git's own progress."""
        match = _STAGE.search(line)
        if match and match[1] in _STAGES:
            start, end, text = _STAGES[match[1]]
            self.show(start + (end - start) * int(match[2]) // 100, f"{text}: {match[2]}%")


async def import_repository(job: ImportJob, progress: Progress) -> str:
    """Copies everything and returns the default branch. Raises GitError."""
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        async with CredentialChannel(_providers(job)) as channel:
            git = Git(job.env, channel)
            progress.show(1, "Connecting")
            clone = ["clone", "--mirror", "--progress", "--", job.source, str(job.folder)]
            await _retried(git, job.folder.parent, clone, progress, "The source repository could not be read")
            branch = await default_branch(git, job.folder)
            progress.show(58, "Connecting to the new repository")
            # The first branch that an empty repository gets becomes its default.
            first = f"+refs/heads/{branch}:refs/heads/{branch}"
            for specs in ([first], ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]):
                push = ["push", "--progress", job.target, *specs]
                await _retried(git, job.folder, push, progress, "The new repository could not be filled")
    finally:
        shutil.rmtree(job.folder, ignore_errors=True)
    progress.show(100, "Imported")
    return branch


async def default_branch(git: Git, mirror: Path) -> str:
    """The branch that the source's HEAD names, else a usual name, else the first."""
    listing = await git.local(mirror, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads")
    names = listing.output.split()
    if not names:
        raise GitError("The source repository is empty: it has no branch. Push a first commit, or start without one.")
    head = (await git.local(mirror, "symbolic-ref", "--short", "--quiet", "HEAD")).output.strip()
    return next((name for name in (head, "main", "master") if name in names), names[0])


async def _retried(git: Git, cwd: Path, arguments: Sequence[str], progress: Progress, failure: str) -> None:
    for delay in (*_DELAYS, None):
        result = await git.remote(cwd, *arguments, on_error_line=progress.git)
        if result.status == 0:
            return
        if delay is None or lasting(result) or result.timed_out:
            raise GitError(f"{failure}: {reason(result)}")
        await asyncio.sleep(delay)


def _providers(job: ImportJob) -> dict[str, Provider]:
    async def source() -> tuple[str, str]:
        return job.source_login or ("", "")

    async def target() -> tuple[str, str]:
        return "x-access-token", job.target_token

    providers: dict[str, Provider] = {origin(job.source): source} if job.source_login else {}
    return providers | {origin(job.target): target}


def main() -> int:
    hide_memory()
    try:
        job = ImportJob.take(os.environ)
    except BadEnvironment as error:
        sys.stderr.write(f"{error}\n")
        return 2
    redactor = Redactor(job.target_token, *(job.source_login or ()))
    try:
        branch = asyncio.run(import_repository(job, Progress()))
    except GitError as error:
        sys.stderr.write(f"{redactor.text(str(error))}\n")
        return 1
    print(f"default-branch {branch}", flush=True)  # noqa: T201 - stdout is this program's interface
    return 0


if __name__ == "__main__":
    sys.exit(main())
