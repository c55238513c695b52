"""Pull requests of runs, as GitHub's webhook tells of them: closed, reopened, merged."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping

from pydantic import ValidationError

from shared.agents.models import PullRequestDelivery
from shared.core.board_events import card_event
from shared.core.boards import BoardRepository, CardRecord, board_partition, card_key, run_key
from shared.core.errors import BadRequest, NotFound, Unauthenticated
from shared.core.events import NewEvent
from shared.core.log import Log
from shared.core.ports import Op, Put
from shared.core.resources import Actor, PullRequestInfo, RunResult
from shared.core.store import Commit, Store, retry_stale

log = Log(__name__)

GITHUB = Actor(id="github", name="GitHub", kind="user")
_ACTIONS = ("closed", "reopened")
_MOST_RUNS = 50
"""Of one pull request in one commit: no card has had so many."""


class PullRequests:
    """`workspace_of`: the workspace that has a repository, by its full name."""

    def __init__(
        self, store: Store, boards: BoardRepository, workspace_of: Callable[[str], Awaitable[str | None]], secret: str
    ) -> None:
        self._store, self._boards, self._workspace_of, self._secret = store, boards, workspace_of, secret

    async def receive(self, headers: Mapping[str, str], body: bytes) -> None:
        """A delivery. What is not about a pull request of ours is ignored, so the answer tells nothing of what exists.

        The same delivery twice changes nothing more. Raises Unauthenticated, or BadRequest for what is no delivery.
        """
        self._verify(headers.get("x-hub-signature-256", ""), body)
        if headers.get("x-github-event") != "pull_request":
            return
        told = _parsed(body)
        scope = await self._workspace_of(told.repository.full_name) if told.action in _ACTIONS else None
        if scope is None:
            return
        state = told.pull_request.info()
        if await retry_stale(lambda: self._record(scope, state)):
            delivery = headers.get("x-github-delivery", "")[:100]
            log.info(f"pull_request.{state.state}", workspace_id=scope, number=state.number, delivery=delivery)

    def _verify(self, signature: str, body: bytes) -> None:
        if not self._secret:
            log.warning("pull_request.no_webhook_secret")
        expected = "sha256=" + hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
        if not self._secret or not hmac.compare_digest(expected.encode(), signature.encode()):
            raise Unauthenticated("The webhook signature is missing or does not fit.")

    async def _record(self, workspace_id: str, state: PullRequestInfo) -> bool:
        """Whether it was news to any run or card."""
        known = [run for run in await self._boards.runs(workspace_id) if run.result and _is_news(run.result, state)]
        if not known:
            return False
        ops: list[Op] = [await self._put_run(run.id, state) for run in known[-_MOST_RUNS:]]
        board, _ = await self._boards.board(workspace_id)
        events: list[NewEvent] = []
        for card_id in {run.card_id for run in known}:
            if found := await self._card(card_id, state):
                card, etag = found
                ops.append(Put(card_key(card.id), card.json_body(), etag))
                events.append(card_event("card.updated", board, card, GITHUB, changes=["pull_request"]))
        await self._store.commit(Commit(board_partition(workspace_id), ops, events))
        return True

    async def _put_run(self, run_id: str, state: PullRequestInfo) -> Put:
        run, etag = await self._boards.run(run_id)
        if run.result:
            run.result.pull_request = state
        return Put(run_key(run_id), run.json_body(), etag)

    async def _card(self, card_id: str, state: PullRequestInfo) -> tuple[CardRecord, str] | None:
        """The card as it is to be; None when it was deleted, or shows another pull request."""
        try:
            card, etag = await self._boards.card(card_id)
        except NotFound:
            return None
        if card.result is None or not _is_news(card.result, state):
            return None
        card.revision += 1
        card.result.pull_request = state
        if card.run:
            card.run.pull_request = state.state
        return card, etag


def _is_news(result: RunResult, state: PullRequestInfo) -> bool:
    """About the pull request of this result. What was merged stays merged, whatever arrives late."""
    known = result.pull_request
    return known is not None and known.number == state.number and known.state not in ("merged", state.state)


def _parsed(body: bytes) -> PullRequestDelivery:
    try:
        return PullRequestDelivery.model_validate_json(body)
    except ValidationError:
        raise BadRequest("The body is not a delivery about a pull request. Choose the content type JSON.") from None
