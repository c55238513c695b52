"""The tools the model has in the checkout. Their names and inputs are a contract: see CONTRACT.md."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, override

from anthropic.lib.tools import BetaAsyncBuiltinFunctionTool, BetaAsyncFunctionTool, ToolError, beta_async_tool
from anthropic.types.beta import BetaToolUnionParam, BetaToolUseBlock
from pydantic import ValidationError

from agent_container.api import ApiError, Platform, Unreachable
from agent_container.events import EventSender
from agent_container.files import Files, Refused
from agent_container.git import Checkout, GitError
from agent_container.redact import Redactor, truncated
from agent_container.shell import run

_BASH_SECONDS = 120
_OUTPUT_CHARACTERS = 16_000
_SEARCH_SECONDS = 30
_SEARCH_LINES = 200


@dataclass(frozen=True)
class Finish:
    """How the model says it ended."""

    outcome: Literal["done", "blocked"]
    summary: str


class Toolbox:
    """One method per tool; `finished` is set by `finish`."""

    def __init__(self, checkout: Checkout, env: Mapping[str, str], events: EventSender, platform: Platform) -> None:
        self.finished: Finish | None = None
        self._checkout = checkout
        self._files = Files(checkout.root)
        self._env = env
        self._events = events
        self._platform = platform

    def tools(self) -> list[BetaAsyncFunctionTool[Any]]:
        methods: Sequence[Callable[..., Awaitable[str]]] = (
            self.bash,
            self.view,
            self.create,
            self.replace,
            self.insert,
            self.search,
            self.commit,
            self.comment,
            self.finish,
        )
        return [beta_async_tool(method) for method in methods]  # pyright: ignore[reportArgumentType, reportCallIssue]

    async def bash(self, command: str) -> str:
        """Run a command with bash in the checkout and get its output (stdout and stderr together).

        It has 120 seconds and no input. Processes it leaves in the background end with it. A status other than 0 is
        shown at the end as `[exit status N]`.

        Args:
            command: The command line.
        """
        result = await run(
            ["bash", "-c", command],
            cwd=self._checkout.root,
            env=self._env,
            timeout=_BASH_SECONDS,
            limit=_OUTPUT_CHARACTERS,
            merge=True,
        )
        output = result.output.rstrip("\n")
        if result.timed_out:
            note = f"[stopped after {_BASH_SECONDS} seconds, the limit of one command]"
        elif result.status:
            note = f"[exit status {result.status}]"
        else:
            note = "" if output else "[no output]"
        return f"{output}\n{note}".strip("\n") if note else output

    async def view(self, path: str, start_line: int | None = None, end_line: int | None = None) -> str:
        """Show a file with line numbers, or list a folder.

        Args:
            path: File or folder; `.` is the checkout.
            start_line: First line to show.
            end_line: Last line to show.
        """
        return await asyncio.to_thread(self._files.view, path, start_line, end_line)

    async def create(self, path: str, content: str) -> str:
        """Write a file, with its folders. A file that is there already is replaced as a whole.

        Args:
            path: The file.
            content: All of its text.
        """
        return await asyncio.to_thread(self._files.create, path, content)

    async def replace(self, path: str, old: str, new: str) -> str:
        """Replace a piece of text in a file. The text must occur exactly once.

        Args:
            path: The file.
            old: The exact text to replace, with all its spaces and line breaks.
            new: What to put in its place.
        """
        return await asyncio.to_thread(self._files.replace, path, old, new)

    async def insert(self, path: str, line: int, text: str) -> str:
        """Insert lines into a file.

        Args:
            path: The file.
            line: Insert after this line; 0 inserts at the top.
            text: The lines.
        """
        return await asyncio.to_thread(self._files.insert, path, line, text)

    async def search(self, pattern: str, path: str = ".") -> str:
        """Search file contents with a regular expression; lines come as `path:line:text`.

        Args:
            pattern: The regular expression.
            path: File or folder to search.
        """
        target = await asyncio.to_thread(self._files.resolve, path)
        where = str(target.relative_to(self._checkout.root.resolve()))
        lines = await _search(self._checkout.root, self._env, pattern, where)
        shown = [line[:300] for line in lines[:_SEARCH_LINES]]
        if len(lines) > _SEARCH_LINES:
            shown.append(f"[{len(lines) - _SEARCH_LINES} more lines: search for something narrower]")
        return "\n".join(shown) or "[nothing found]"

    async def commit(self, message: str) -> str:
        """Commit all changes in the checkout.

        Args:
            message: Subject line in the imperative; then, after an empty line, the reason if it needs one.
        """
        commit = await self._checkout.commit(message)
        if commit is None:
            return "There is nothing to commit."
        await self._events.emit("commit", sha=commit.sha, message=commit.message, files=list(commit.files[:100]))
        return f"Committed {commit.sha[:12]}:\n" + "\n".join(commit.files[:100])

    async def comment(self, body: str) -> str:
        """Write a comment on the card, for the people on the board.

        Args:
            body: The text, in Markdown.
        """
        await self._platform.comment(body)
        return "The comment is on the card."

    async def finish(self, outcome: Literal["done", "blocked"], summary: str) -> str:
        """End the work on this card. Changes that are not committed yet are committed.

        Args:
            outcome: `done`, or `blocked` when the card cannot be done.
            summary: What changed and how it was checked; for `blocked`, one sentence that says what is missing.
        """
        self.finished = Finish(outcome, summary.strip())
        return "The work on this card has ended."


async def _search(root: Path, env: Mapping[str, str], pattern: str, where: str) -> list[str]:
    """Lines of ripgrep, or of git grep where that is not installed."""
    ripgrep = ["rg", "--line-number", "--no-heading", "--color=never", "--hidden", "--glob=!.git", "-e", pattern]
    git_grep = ["git", "grep", "--line-number", "-I", "-E", "--untracked", "-e", pattern]
    for command in (ripgrep, git_grep):
        try:
            result = await run([*command, "--", where], cwd=root, env=env, timeout=_SEARCH_SECONDS)
        except FileNotFoundError:
            continue
        if result.timed_out:
            raise Refused(f"The search took longer than {_SEARCH_SECONDS} seconds. Search in a narrower path.")
        if result.status > 1:
            raise Refused(f"The search failed: {result.errors.strip()}")
        return [line.removeprefix("./") for line in result.output.splitlines()]
    raise Refused("There is no program to search with; use bash.")


class RecordedTool(BetaAsyncBuiltinFunctionTool):
    """A tool whose calls are events. The runner passes a block's own `input`, which tells which call this is."""

    def __init__(
        self,
        tool: BetaAsyncFunctionTool[Any],
        calls: Sequence[BetaToolUseBlock],
        events: EventSender,
        redactor: Redactor,
    ) -> None:
        self._tool = tool
        self._calls = calls
        self._events = events
        self._redactor = redactor

    @override
    def to_dict(self) -> BetaToolUnionParam:
        return self._tool.to_dict()

    @override
    async def call(self, input: object) -> str:
        call_id = next((block.id for block in self._calls if block.input is input), "")
        await self._events.emit("tool_use", tool_use_id=call_id, name=self.name, input=input)
        started = time.monotonic()
        output, is_error = f"{self.name} was interrupted.", True
        try:
            output = self._redactor.text(truncated(await self._run(input), _OUTPUT_CHARACTERS))
            is_error = False
        except ToolError as error:
            output = self._redactor.text(str(error))
            raise ToolError(output) from error
        finally:
            spent = round((time.monotonic() - started) * 1000)
            await self._events.emit(
                "tool_result",
                tool_use_id=call_id,
                name=self.name,
                is_error=is_error,
                output=output,
                duration_ms=spent,
            )
        return output

    async def _run(self, input: object) -> str:
        try:
            return str(await self._tool.call(input))
        except (Refused, GitError) as error:
            raise ToolError(str(error)) from error
        except (ApiError, Unreachable) as error:
            raise ToolError(f"The platform did not accept this: {error}") from error
        except ValueError as error:
            raise ToolError(_explain(error)) from error


def _explain(error: ValueError) -> str:
    if not isinstance(error.__cause__, ValidationError):
        return str(error)
    faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.__cause__.errors()]
    return f"The input does not fit the tool. {'; '.join(faults)}"
