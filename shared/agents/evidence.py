"""What came of a run, as the repository shows it: its branch, its diff, its pull request."""

from dataclasses import asdict

from shared.agents.changes import LoadedRun
from shared.agents.models import DiffFile, RunCompletion, RunDiff
from shared.core.boards import CardRecord, RunRecord
from shared.core.errors import NotFound, PlatformError
from shared.core.log import Log
from shared.core.ports import Blobs, Comparison, Repositories
from shared.core.resources import PullRequestInfo, RepositoryInfo, RunResult

log = Log(__name__)


class Evidence:
    def __init__(self, repositories: Repositories, blobs: Blobs, web_url: str) -> None:
        self._repositories, self._blobs, self._web_url = repositories, blobs, web_url

    async def gather(self, loaded: LoadedRun, completion: RunCompletion) -> tuple[RunResult | None, str]:
        """What the branch holds, or None and why that is no success. Safe to repeat. Raises Unavailable."""
        repository, run = loaded.board.repository, loaded.run
        if repository is None or completion.commit is None:
            return None, "The agent reported success without a commit."
        if await self._repositories.branch_sha(repository.full_name, run.branch) != completion.commit:
            return None, f"The agent reported success, but branch {run.branch} does not hold its commit."
        try:
            found = await self._repositories.compare(repository.full_name, repository.default_branch, run.branch)
        except NotFound:
            return None, f"The agent reported success, but branch {run.branch} shares no history with the repository."
        if not found.commits:
            return None, f"The agent reported success, but branch {run.branch} holds no change."
        await self._blobs.put(f"runs/{run.id}/diff.json", _diff_json(found))
        result = _result(run, repository, completion.commit, found)
        await self._open_pull_request(result, loaded, repository, completion.summary or "")
        return result, ""

    async def _open_pull_request(
        self, result: RunResult, loaded: LoadedRun, repository: RepositoryInfo, summary: str
    ) -> None:
        """A refusal does not undo the agent's work: the result says why there is none."""
        if loaded.card is None:
            result.no_pull_request = "The card was deleted."
            return
        body = f"{summary}\n\nCard: {self._address(loaded.card)}".strip()
        try:
            opened = await self._repositories.ensure_pull_request(
                repository.full_name, repository.default_branch, loaded.run.branch, loaded.card.title, body
            )
        except PlatformError as error:
            if error.transient:
                raise
            log.warning("run.no_pull_request", run_id=loaded.run.id, reason=error.detail)
            result.no_pull_request = error.detail
            return
        result.pull_request = PullRequestInfo(number=opened.number, html_url=opened.html_url)

    def _address(self, card: CardRecord) -> str:
        return f"{self._web_url}/boards/{card.board_id}/cards/{card.id}"


def _result(run: RunRecord, repository: RepositoryInfo, commit: str, found: Comparison) -> RunResult:
    return RunResult(
        run_id=run.id,
        branch=run.branch,
        commit=commit,
        commits=found.commits,
        additions=sum(file.additions for file in found.files),
        deletions=sum(file.deletions for file in found.files),
        files_changed=len(found.files),
        html_url=f"{repository.html_url}/compare/{repository.default_branch}...{run.branch}",
    )


def _diff_json(found: Comparison) -> bytes:
    return RunDiff(files=[DiffFile(**asdict(file)) for file in found.files]).model_dump_json().encode()
