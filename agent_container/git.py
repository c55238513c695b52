"""The card's checkout: cloned, committed to, and pushed without a credential ever lying in it.

A model's commands may write to the checkout's `.git`, so no hook or configuration from there is used by a command
that can ask for a credential: pushes and fetches go through a bare repository made for the moment.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent_container.credentials import CredentialChannel
from agent_container.shell import Completed, run

_LOCAL_SECONDS = 120
_REMOTE_SECONDS = 600
_DELAYS = (1.0, 2.0, 4.0, 8.0, 15.0)
_PROTOCOLS = "http:https:file"
_LASTING = (
    "authentication failed",
    "could not read username",
    "credentials:",
    "not found",
    "does not exist",
    "not allowed",
    "403",
    "401",
    "rejected",
    "protected branch",
    "does not appear to be a git repository",
)


class GitError(Exception):
    """A git command failed; the text is git's own reason."""


@dataclass(frozen=True)
class Commit:
    sha: str
    message: str
    files: tuple[str, ...]


def reason(result: Completed) -> str:
    """What git said went wrong, in one line."""
    if result.timed_out:
        return "git did not finish in time"
    lines = [line.strip() for line in result.errors.splitlines() if line.strip()]
    for marker in ("! [", "credentials:", "remote: error:", "fatal:", "error:"):
        for line in lines:
            if marker in line:
                return line
    return lines[-1] if lines else f"git ended with status {result.status}"


class Git:
    """Runs git with the given environment; `remote` commands may ask the channel for a credential."""

    def __init__(self, env: Mapping[str, str], channel: CredentialChannel | None = None) -> None:
        self._env = dict(env) | {
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ALLOW_PROTOCOL": _PROTOCOLS,
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C.UTF-8",
        }
        self._channel = channel

    async def local(self, cwd: Path, *arguments: str, stdin: bytes = b"") -> Completed:
        return await run(["git", *arguments], cwd=cwd, env=self._env, timeout=_LOCAL_SECONDS, stdin=stdin)

    async def remote(self, cwd: Path, *arguments: str, on_error_line: Callable[[str], None] | None = None) -> Completed:
        options = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]
        env, fds = self._env, tuple[int, ...]()
        if self._channel:
            options += self._channel.git_options()
            env, fds = env | self._channel.env(), (self._channel.fd,)
        command = ["git", *options, *arguments]
        return await run(command, cwd=cwd, env=env, timeout=_REMOTE_SECONDS, pass_fds=fds, on_error_line=on_error_line)

    async def remote_retried(self, cwd: Path, *arguments: str, delays: Sequence[float] = _DELAYS) -> Completed:
        """Repeats what failed on the way to the server; a refusal by the server is final."""
        for delay in delays:
            result = await self.remote(cwd, *arguments)
            if result.status == 0 or lasting(result):
                return result
            await asyncio.sleep(delay)
        return await self.remote(cwd, *arguments)


def lasting(result: Completed) -> bool:
    """Whether trying again cannot help."""
    errors = result.errors.lower()
    return any(marker in errors for marker in _LASTING)


LEFTOVERS = (
    *("__pycache__/", "*.py[cod]", ".pytest_cache/", ".mypy_cache/", ".ruff_cache/", "*.egg-info/", ".venv/"),
    *("node_modules/", ".DS_Store"),
)
"""What running tests and tools leaves behind; nobody wants it in a commit, also where no .gitignore says so."""


class Checkout:
    """A working copy of one repository on one branch."""

    def __init__(self, git: Git, root: Path, url: str, branch: str, default_branch: str) -> None:
        self.root = root
        self.branch = branch
        self.continued = False
        self._git = git
        self._url = url
        self._default = default_branch
        self._base: str | None = None
        self._cloned = False

    async def clone(self) -> None:
        """Clones and goes to the branch: the remote's if it is there, else a new one from the default branch."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.parent.mkdir(parents=True, exist_ok=True)
        result = await self._git.remote_retried(
            self.root.parent, "clone", "--quiet", "--no-checkout", "--", self._url, str(self.root)
        )
        if result.status:
            raise GitError(f"The repository could not be cloned: {reason(result)}")
        await self._do("remote", "set-url", "--push", "origin", "disabled://the-platform-pushes")
        (self.root / ".git" / "info").mkdir(exist_ok=True)
        (self.root / ".git" / "info" / "exclude").write_text("\n".join(LEFTOVERS) + "\n")
        self.continued = await self._has(f"refs/remotes/origin/{self.branch}")
        start = self.branch if self.continued else self._default
        if await self._has(f"refs/remotes/origin/{start}"):
            await self._do("checkout", "--quiet", "--no-track", "-B", self.branch, f"refs/remotes/origin/{start}")
        else:
            await self._do("symbolic-ref", "HEAD", f"refs/heads/{self.branch}")
        self._base = await self.head()
        self._cloned = True

    async def head(self) -> str | None:
        """The commit the checkout stands on, None in a repository without commits."""
        result = await self._git.local(self.root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        return result.output.strip() or None

    async def changed(self) -> bool:
        """Whether there are commits that this run made."""
        return self._cloned and await self.head() != self._base

    async def commit(self, message: str, hooks: bool = True) -> Commit | None:
        """Commits everything; None when there is nothing to commit."""
        await self._do("add", "--all")
        if (await self._git.local(self.root, "diff", "--cached", "--quiet")).status == 0:
            return None
        options = () if hooks else ("--no-verify",)
        await self._do("commit", "--quiet", *options, "--file=-", stdin=message.encode())
        sha = await self.head() or ""
        listing = await self._do("show", "--format=", "--name-status", "-M", sha)
        return Commit(sha, message, tuple(line.replace("\t", " ") for line in listing.splitlines() if line))

    async def push(self) -> str:
        """Pushes the branch and returns its commit; work that others pushed meanwhile is rebased onto once."""
        with self._transport() as bare:
            result = await self._push(bare)
            if result.status and "rejected" in result.errors and await self._rebase(bare):
                result = await self._push(bare)
            if result.status:
                raise GitError(f"The branch could not be pushed: {reason(result)}")
        return await self.head() or ""

    async def _push(self, bare: Path) -> Completed:
        head = await self.head()
        return await self._git.remote_retried(bare, "push", "--quiet", self._url, f"{head}:refs/heads/{self.branch}")

    async def _rebase(self, bare: Path) -> bool:
        """Puts our commits on top of the remote branch; False when it has nothing that we lack."""
        spec = f"+refs/heads/{self.branch}:refs/heads/theirs"
        if (await self._git.remote_retried(bare, "fetch", "--quiet", self._url, spec)).status:
            return False
        theirs = f"refs/remotes/origin/{self.branch}"
        await self._do("fetch", "--quiet", str(bare), f"+refs/heads/theirs:{theirs}")
        if (await self._git.local(self.root, "merge-base", "--is-ancestor", theirs, "HEAD")).status == 0:
            return False
        if (await self._git.local(self.root, "rebase", "--autostash", theirs)).status:
            await self._git.local(self.root, "rebase", "--abort")
            raise GitError("Others pushed to the branch meanwhile, and their changes conflict with these.")
        return True

    @contextmanager
    def _transport(self) -> Generator[Path]:
        """A bare repository with fresh configuration that borrows the checkout's objects."""
        folder = Path(tempfile.mkdtemp(prefix="push-", dir=self.root.parent))
        try:
            for name in ("objects/info", "refs"):
                (folder / name).mkdir(parents=True)
            (folder / "HEAD").write_text("ref: refs/heads/none\n")
            (folder / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n")
            (folder / "objects/info/alternates").write_text(f"{self.root / '.git/objects'}\n")
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _has(self, reference: str) -> bool:
        return (await self._git.local(self.root, "show-ref", "--verify", "--quiet", reference)).status == 0

    async def _do(self, *arguments: str, stdin: bytes = b"") -> str:
        result = await self._git.local(self.root, *arguments, stdin=stdin)
        if result.status:
            said = "\n".join(part for part in (result.output.strip(), result.errors.strip()) if part)
            raise GitError(f"git {arguments[0]} failed: {said or reason(result)}")
        return result.output
