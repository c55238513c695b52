"""The run life cycle: queued -> starting -> running -> succeeded | failed | cancelled, and never stuck.

Every look at a run is a queue message with the run's epoch; each look raises the epoch and sends the next one, so
there is one chain. The watchdog takes up a run whose chain broke.
"""

import contextlib
from dataclasses import dataclass

from shared.agents.changes import LoadedRun, RunChanges
from shared.agents.evidence import Evidence
from shared.agents.intake import WebhookIntake
from shared.agents.models import AgentRecord, RunCompletion, RunMessage, UndeliveredMessage
from shared.agents.repository import AgentRepository
from shared.core.boards import CardRecord, RunRecord
from shared.core.clock import is_future, iso, parse
from shared.core.errors import NotFound, PlatformError, Stale, Unavailable
from shared.core.log import Log
from shared.core.messages import read
from shared.core.policy import AgentPolicy
from shared.core.ports import ContainerHost, Job, JobSpec, Json, Tokens
from shared.core.resources import RUN_OVER, PullRequestInfo, RunResult
from shared.core.run_tokens import RUN_AUDIENCE
from shared.core.store import Store, retry_stale

log = Log(__name__)

LOOK_SECONDS = {"starting": 2.0, "running": 5.0}
_STARTS = 5
_GRACE = 180
"""Seconds a job may outlive its run's limit: its last push may have to be repeated."""


@dataclass(frozen=True, slots=True)
class RunPorts:
    """What the life cycle needs of the outside."""

    host: ContainerHost
    tokens: Tokens
    evidence: Evidence


class RunLifecycle:
    def __init__(
        self,
        store: Store,
        agents: AgentRepository,
        changes: RunChanges,
        intake: WebhookIntake,
        policy: AgentPolicy,
        ports: RunPorts,
        api_url: str,
    ) -> None:
        self._store, self._agents, self._changes, self._intake = store, agents, changes, intake
        self._policy, self._ports, self._api_url = policy, ports, api_url

    async def handle(self, message: Json) -> None:
        """A queue message. Duplicates, late and reordered ones are no-ops."""
        if "undelivered" in message:
            lost = read(UndeliveredMessage, message)
            return await self._intake.undelivered(lost.undelivered, lost.reason)
        asked = read(RunMessage, message)
        return await retry_stale(lambda: self._take(asked.run_id, asked.epoch))

    async def _take(self, run_id: str, epoch: int) -> None:
        """Look at the run, unless somebody else took this look; a card edited meanwhile does not end the chain."""
        try:
            loaded = await self._changes.load(run_id)
        except NotFound:
            log.warning("run.unknown", run_id=run_id)
            return
        if loaded.run.epoch == epoch:
            await self._look(loaded)

    async def _look(self, loaded: LoadedRun) -> None:
        run = loaded.run
        if run.status in RUN_OVER:
            return await self._clean_up(run)
        if run.status == "queued":
            return await self._launch(loaded)
        try:
            job = await self._ports.host.job(run.job_name)
        except Unavailable as error:  # an engine that restarts keeps its jobs, or says later that they ended
            log.warning("run.host_unavailable", run_id=run.id, reason=error.detail)
            return await self._wait(loaded)
        if job is None and run.status == "starting":
            return await self._launch(loaded)
        if job is None or job.status == "exited":
            return await self._ended_without_result(loaded, job)
        return await self._wait(loaded)

    async def _wait(self, loaded: LoadedRun) -> None:
        """The next look, unless the time is up."""
        run = loaded.run
        if run.seconds > run.limits.seconds + _GRACE:
            return await self._fail(loaded, f"Stopped after {run.limits.seconds} s, the time limit of this run.")
        return await self._changes.save(loaded, None, LOOK_SECONDS[run.status])

    async def _launch(self, loaded: LoadedRun) -> None:
        run = loaded.run
        refusal = self._policy.refusal(loaded.board)
        if refusal is not None or loaded.card is None:
            return await self._fail(loaded, refusal or "The card was deleted before its agent started.")
        first = run.status == "queued"
        run.status, run.started_at = "starting", run.started_at or iso(self._store.clock.now())
        await self._changes.save(loaded, "agent.starting" if first else None, LOOK_SECONDS["starting"])
        agent = await self._agents.agent(loaded.board.agent.agent_id) if loaded.board.agent else None
        if agent is None:
            return await self._fail(loaded, "This board has no agent.")
        try:
            await self._ports.host.start_job(await self._job(run, agent))
        except PlatformError as error:
            await self._launch_failed(loaded, error)
        return None

    async def _launch_failed(self, loaded: LoadedRun, error: PlatformError) -> None:
        run = loaded.run
        run.dispatch_failures += 1
        log.warning("run.launch_failed", run_id=run.id, reason=error.detail)
        if not error.transient or run.dispatch_failures >= _STARTS:
            return await self._fail(loaded, f"No container could be started. {error.detail}")
        return await self._changes.save(loaded, None, 2.0**run.dispatch_failures)

    async def _job(self, run: RunRecord, agent: AgentRecord) -> JobSpec:
        claims = {
            "team_id": run.team_id,
            "card_id": run.card_id,
            "key_hash": agent.key_hash,
            "cap": round(run.limits.spend_cap_usd * 1_000_000),
        }
        token = await self._ports.tokens.sign(RUN_AUDIENCE, run.id, claims, run.limits.seconds + _GRACE)
        env = {"API_URL": self._api_url, "RUN_ID": run.id, "RUN_TOKEN": token}
        return JobSpec(run.job_name, run.team_id, ("agent_container",), env, run.limits.seconds + _GRACE)

    async def _ended_without_result(self, loaded: LoadedRun, job: Job | None) -> None:
        code = "" if job is None or job.exit_code is None else f" (exit code {job.exit_code})"
        await self._fail(loaded, f"The agent's container ended before it reported a result{code}.")

    async def _clean_up(self, run: RunRecord) -> None:
        await self._ports.host.stop_job(run.job_name)
        await self._store.settle(run.reference)

    # -- endings --------------------------------------------------------------------------------

    async def complete(self, run_id: str, completion: RunCompletion) -> RunRecord:
        """The container's own report. Success counts only when the repository shows it. Safe to repeat."""
        loaded = await self._changes.load(run_id)
        if loaded.run.status in RUN_OVER:
            return loaded.run
        result, reason = None, completion.reason or "The agent gave no reason."
        if completion.outcome == "succeeded":
            result, reason = await self._ports.evidence.gather(loaded, completion)
        return await retry_stale(lambda: self._complete(run_id, completion, result, reason))

    async def _complete(
        self, run_id: str, completion: RunCompletion, result: RunResult | None, reason: str
    ) -> RunRecord:
        loaded = await self._changes.load(run_id)
        run = loaded.run
        if run.status in RUN_OVER:
            return run
        run.turns, run.summary = max(run.turns, completion.turns), completion.summary
        if result is None:
            await self._fail(loaded, reason)
            return run
        if loaded.card and (merged := _merged_meanwhile(loaded.card, result)):
            result.pull_request = merged
        run.status, run.result, run.finished_at = "succeeded", result, iso(self._store.clock.now())
        await self._changes.save(loaded, "agent.completed", delay=3)
        log.info("run.succeeded", run_id=run_id, turns=run.turns)
        return run

    async def cancel(self, run_id: str, reason: str) -> RunRecord:
        """End a run now; its job is stopped next. One that is over stays as it is."""

        async def attempt() -> RunRecord:
            loaded = await self._changes.load(run_id)
            run = loaded.run
            if run.status not in RUN_OVER:
                run.status, run.reason, run.finished_at = "cancelled", reason, iso(self._store.clock.now())
                await self._changes.save(loaded, "agent.cancelled", delay=0)
            return run

        return await retry_stale(attempt)

    async def abandon(self, run_id: str, epoch: int, reason: str) -> None:
        """The queue gave up on the run's message of this epoch: it fails, unless it has gone on without it."""

        async def attempt() -> None:
            loaded = await self._changes.load(run_id)
            if loaded.run.status not in RUN_OVER and loaded.run.epoch == epoch:
                await self._fail(loaded, reason)

        await retry_stale(attempt)

    async def _fail(self, loaded: LoadedRun, reason: str) -> None:
        run = loaded.run
        run.status, run.reason, run.finished_at = "failed", reason, iso(self._store.clock.now())
        await self._changes.save(loaded, "agent.failed", delay=3)
        log.info("run.failed", run_id=run.id, reason=reason)

    async def watch(self) -> int:
        """Take up every run whose chain of looks broke; returns how many. Called by a timer."""
        return await self._store.watch("run", self._watch_one)

    async def _watch_one(self, reference: str) -> bool:
        try:
            loaded = await self._changes.load(reference.split("/", 1)[1])
        except NotFound:  # its commit is still to come, or never will
            await self._store.settle_unborn(reference)
            return False
        run, clock = loaded.run, self._store.clock
        if parse(run.check_at) < clock.now() or (run.looked_at and is_future(run.looked_at, clock)):
            with contextlib.suppress(Stale):
                await self._changes.save(loaded, None, delay=0)
                log.warning("run.resumed", run_id=run.id)
                return True
        return False


def _merged_meanwhile(card: CardRecord, result: RunResult) -> PullRequestInfo | None:
    """The pull request that this run found open, when its card knows better."""
    known, found = card.result.pull_request if card.result else None, result.pull_request
    return known if known and found and known.number == found.number and known.state == "merged" else None
