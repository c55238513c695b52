"""Agents, and what their containers ask and tell."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.core.addresses import ContainerAddresses
from shared.core.clock import iso, parse
from shared.core.events import Activity
from shared.core.messages import Count, MovedCard, QueueMessage, ScopedId
from shared.core.resources import WHOLE, PullRequestInfo, Reference, RepositoryInfo, Resource, Run


class AgentRecord(Resource):
    """`portal/agent/<id>`: who answers a board's webhooks, and whose key pays."""

    id: str
    team_id: str
    scope: str
    board_id: str
    name: str
    secret_name: str
    key_hash: str
    created_at: str


class WebhookAnswer(BaseModel):
    """`reason` says why an event starts no run."""

    run_id: str | None
    reason: str | None = None


class RunList(BaseModel):
    items: list[Run]


class DiffFile(BaseModel):
    """`patch` is a unified diff without file headers; None for binary or very large files."""

    path: str
    status: str
    additions: int
    deletions: int
    patch: str | None


class RunDiff(BaseModel):
    files: list[DiffFile]


class StoppedRuns(BaseModel):
    stopped: int


# -- queue messages ---------------------------------------------------------------------------------


class RunMessage(QueueMessage):
    """Look at this run. Another epoch than the run's is of the past."""

    run_id: ScopedId
    epoch: Count


class UndeliveredMessage(QueueMessage):
    """The webhook of this move never arrived."""

    undelivered: MovedCard
    reason: str = Field(max_length=2_000)


# -- container side ---------------------------------------------------------------------------------


class ContextChecklistItem(BaseModel):
    text: str
    done: bool


class ContextComment(BaseModel):
    author: str
    body: str
    created_at: str


class ContextCard(BaseModel):
    id: str
    title: str
    body: str
    labels: list[str]
    checklist: list[ContextChecklistItem]
    comments: list[ContextComment]


class ContextRepository(BaseModel):
    full_name: str
    clone_url: str
    default_branch: str

    @classmethod
    def of(cls, info: RepositoryInfo, addresses: ContainerAddresses) -> "ContextRepository":
        url = addresses.inside(info.clone_url)
        return cls(full_name=info.full_name, clone_url=url, default_branch=info.default_branch)


class ContextLimits(BaseModel):
    turns: int
    seconds: int
    tokens: int


class PreviousRun(BaseModel):
    reason: str | None


class RunContext(BaseModel):
    """All that a container needs to know to work on its card."""

    run_id: str
    card: ContextCard
    repository: ContextRepository
    branch: str
    model: str
    limits: ContextLimits
    previous: PreviousRun | None


class _Told(BaseModel):
    """What a container sends: nothing is converted; what a later agent knows besides is left out."""

    model_config = ConfigDict(strict=True)


class AgentEvent(Activity):
    """An activity as its container reports it. The id is the container's own: repeating one is safe."""

    id: str = Field(min_length=1, max_length=64)
    time: Reference


class AgentEvents(_Told):
    events: list[AgentEvent] = Field(max_length=100)


class AgentEventsAnswer(BaseModel):
    """`stop`: end now. `comments`: what people wrote on the card since the last call."""

    stop: bool
    comments: list[ContextComment]


class GitCredentials(BaseModel):
    username: str
    password: str = Field(repr=False)
    expires_at: str


class AgentComment(_Told):
    body: str = Field(min_length=1, max_length=16_000)


class RunCompletion(_Told):
    """An agent's own word on how it ended; success is checked against the repository."""

    outcome: Literal["succeeded", "failed"]
    summary: str | None = Field(None, max_length=16_000)
    reason: str | None = Field(None, max_length=2_000)
    branch: str | None = Field(None, max_length=500)
    commit: Reference | None = None
    turns: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] = 0


# -- GitHub's webhook -------------------------------------------------------------------------------


class _Delivered(BaseModel):
    """What GitHub sends: of its many fields those that are read here."""

    model_config = ConfigDict(strict=True)


class DeliveredPullRequest(_Delivered):
    number: int
    html_url: str = Field(max_length=1_000)
    state: Literal["open", "closed"]
    merged_at: Annotated[str, AfterValidator(lambda text: iso(parse(text)))] | None

    def info(self) -> PullRequestInfo:
        state = "merged" if self.merged_at else self.state
        return PullRequestInfo(number=self.number, html_url=self.html_url, state=state, merged_at=self.merged_at)


class DeliveredRepository(_Delivered):
    full_name: str


class PullRequestDelivery(_Delivered):
    """A `pull_request` event: what happened, and the pull request as it stands after it."""

    action: str
    pull_request: DeliveredPullRequest
    repository: DeliveredRepository
