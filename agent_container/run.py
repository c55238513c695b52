"""One run, from the first call to the last: clone, work, check, push, report."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_container.api import ApiError, Json, Platform, RunContext, Unreachable
from agent_container.config import Config
from agent_container.credentials import CredentialChannel, Refusal, origin
from agent_container.events import EventSender
from agent_container.git import Checkout, Git, GitError
from agent_container.redact import Redactor

if TYPE_CHECKING:
    from agent_container.loop import AgentLoop
    from agent_container.tools import Finish

log = logging.getLogger(__name__)

EXIT_SUCCEEDED, EXIT_FAILED, EXIT_NOT_OURS, EXIT_UNREACHABLE = 0, 1, 3, 4
_GRACE_SECONDS = 3.0
_SUMMARY_CHARACTERS, _REASON_CHARACTERS = 15_000, 1_500


@dataclass(frozen=True)
class Result:
    """What is reported; `reason` is one sentence and there for failures only."""

    outcome: str
    summary: str | None = None
    reason: str | None = None
    branch: str | None = None
    commit: str | None = None

    def body(self, redactor: Redactor, turns: int) -> Json:
        return {
            "outcome": self.outcome,
            "summary": redactor.value(self.summary, _SUMMARY_CHARACTERS),
            "reason": redactor.value(self.reason, _REASON_CHARACTERS),
            "branch": self.branch,
            "commit": self.commit,
            "turns": turns,
        }


class Run:
    """Carries out one run and reports it exactly once. `terminate` is set when the container is told to stop."""

    def __init__(self, config: Config, platform: Platform, redactor: Redactor, terminate: asyncio.Event) -> None:
        self._config = config
        self._platform = platform
        self._redactor = redactor
        self._terminate = terminate
        self._events = EventSender(platform, redactor)
        self._loop: AgentLoop | None = None

    async def execute(self) -> int:
        """The exit code of the container."""
        try:
            context = await self._platform.start()
        except ApiError as error:
            log.error("run not started: %s", error.detail)
            return EXIT_NOT_OURS
        except Unreachable as error:
            log.error("run not started: %s", error)
            return EXIT_UNREACHABLE
        sender = asyncio.create_task(self._events.run())
        result = await self._supervise(self._work(context), sender)
        return await self._report(result, sender)

    async def _supervise(self, work: Coroutine[Any, Any, Result], sender: asyncio.Task[None]) -> Result:
        """Lets `work` end, or ends it when a person, the host or a lost connection says so."""
        worker = asyncio.create_task(work)
        stopped = asyncio.create_task(self._events.stopped.wait())
        terminated = asyncio.create_task(self._terminate.wait())
        await asyncio.wait({worker, stopped, terminated, sender}, return_when=asyncio.FIRST_COMPLETED)
        finished = worker.done()
        for task in (worker, stopped, terminated):
            task.cancel()
        await asyncio.wait({worker, stopped, terminated}, timeout=_GRACE_SECONDS)
        if finished:
            return _outcome_of(worker)
        if self._terminate.is_set():
            return Result("failed", reason="The container was stopped.")
        if self._events.stopped.is_set():
            return Result("failed", reason="Stopped by a person.")
        return Result("failed", reason=f"The platform did not take the run's events: {sender.exception()}")

    async def _work(self, context: RunContext) -> Result:
        limit = context.limits.seconds
        providers = {origin(context.clone_url): self._git_credentials}
        async with CredentialChannel(providers) as channel:
            git = Git(self._config.command_env, channel)
            root = self._config.work_dir / "checkout"
            checkout = Checkout(git, root, context.clone_url, context.branch, context.default_branch)
            try:
                async with asyncio.timeout(limit):
                    finish = await self._agent_work(context, checkout)
            except TimeoutError:
                return await self._failed(checkout, f"Stopped after {_duration(limit)}, the time limit of this run.")
            except GitError as error:
                return Result("failed", reason=str(error))
            return await self._deliver(checkout, context, finish)

    async def _agent_work(self, context: RunContext, checkout: Checkout) -> "Finish | str":
        """How the model finished, or the sentence that says why it could not."""
        await self._status(f"Cloning {context.repository}")
        loop_class, _ = await asyncio.gather(asyncio.to_thread(_load_loop), checkout.clone())
        from agent_container.loop import LoopEnded

        await self._status(
            f"Going on with {context.branch}"
            if checkout.continued
            else f"Starting {context.branch} from {context.default_branch}"
        )
        self._loop = loop_class(self._config, context, checkout, self._events, self._platform, self._redactor)
        try:
            return await self._loop.run()
        except LoopEnded as ended:
            return str(ended)

    async def _deliver(self, checkout: Checkout, context: RunContext, finish: "Finish | str") -> Result:
        if isinstance(finish, str):
            return await self._failed(checkout, finish)
        if finish.outcome == "blocked":
            return await self._failed(checkout, finish.summary or "The agent is blocked.", finish.summary)
        try:
            commit = await checkout.commit(context.card.title, hooks=False)
            if commit:
                await self._events.emit(
                    "commit", sha=commit.sha, message=commit.message, files=list(commit.files[:100])
                )
            if not await checkout.changed():
                return Result("failed", summary=finish.summary, reason="The agent made no change.")
            sha = await self._push(checkout)
        except GitError as error:
            return Result("failed", summary=finish.summary, reason=str(error))
        return Result("succeeded", summary=finish.summary, branch=checkout.branch, commit=sha)

    async def _failed(self, checkout: Checkout, reason: str, summary: str | None = None) -> Result:
        """A failure; commits that were made are pushed all the same, so that a retry can go on from them."""
        branch = sha = None
        try:
            if await checkout.changed():
                branch, sha = checkout.branch, await self._push(checkout)
        except GitError as error:
            log.warning("commits of a failed run were not pushed: %s", error)
        return Result("failed", summary=summary, reason=reason, branch=branch, commit=sha)

    async def _push(self, checkout: Checkout) -> str:
        await self._status(f"Pushing {checkout.branch}")
        sha = await checkout.push()
        await self._events.emit("push", branch=checkout.branch, sha=sha)
        return sha

    async def _status(self, text: str) -> None:
        log.info("%s", text)
        await self._events.emit("status", text=text)

    async def _git_credentials(self) -> tuple[str, str]:
        try:
            username, password = await self._platform.git_credentials()
        except (ApiError, Unreachable) as error:
            raise Refusal(str(error)) from error
        self._redactor.add(password)
        return username, password

    async def _report(self, result: Result, sender: asyncio.Task[None]) -> int:
        hurry = self._terminate.is_set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 if hurry else 60):
                if not sender.done():
                    await self._events.close()
                await asyncio.wait({sender})
        sender.cancel()
        turns = self._loop.turns if self._loop else 0
        log.info("run %s%s", result.outcome, f": {self._redactor.text(result.reason)}" if result.reason else "")
        try:
            await self._platform.complete(result.body(self._redactor, turns), patience=4 if hurry else 300)
        except ApiError as error:
            log.error("the result was not accepted: %s", error.detail)
            return EXIT_NOT_OURS
        except Unreachable as error:
            log.error("the result could not be reported: %s", error)
            return EXIT_UNREACHABLE
        return EXIT_SUCCEEDED if result.outcome == "succeeded" else EXIT_FAILED


def _load_loop() -> "type[AgentLoop]":
    """Importing the SDK takes seconds: done in a thread, while git clones."""
    from agent_container.loop import AgentLoop

    return AgentLoop


def _outcome_of(worker: asyncio.Task[Result]) -> Result:
    error = worker.exception()
    if error is None:
        return worker.result()
    log.error("the run's program failed", exc_info=error)
    return Result("failed", reason=f"The agent's program failed ({type(error).__name__}); its log says where.")


def _duration(seconds: int) -> str:
    if seconds % 60 or seconds < 120:
        return f"{seconds} seconds"
    return f"{seconds // 60} minutes"
