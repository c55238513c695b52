"""What the platform needs from the outside, as small Protocols. Adapters implement them, tests fake them."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

import orjson

type Json = dict[str, Any]

ANY = "*"
"""An etag that matches whatever is there, or nothing."""


LARGEST_MESSAGE = 48 * 1024
"""Bytes of JSON that fit a queue message of 64 KiB as base64."""


@dataclass(frozen=True, slots=True)
class Doc:
    """A stored document: its id inside the partition (`<kind>/<rest>`), its body as JSON bytes, its version.

    An id with its etag names one content. Whoever reads documents of a kind again and again may keep what it worked
    out of one as `derived`: it lasts as long as the store holds this version in memory.
    """

    id: str
    raw: bytes
    etag: str
    derived: Any = field(default=None, init=False, repr=False, compare=False)

    @property
    def body(self) -> Json:
        """Parsed anew each time, so it may be changed."""
        return orjson.loads(self.raw)

    def derive[T](self, make: "Callable[[Doc], T]") -> T:
        """What `make` works out, kept."""
        value = make(self)
        object.__setattr__(self, "derived", value)
        return value


@dataclass(frozen=True, slots=True)
class Put:
    """Write a document. `etag=None`: it must not exist. `ANY`: whatever is there. Else: it must match."""

    id: str
    body: Json
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a document. With `ANY` a missing one is fine; else the etag must match."""

    id: str
    etag: str = ANY


type Op = Put | Delete


class Documents(Protocol):
    """JSON documents in partitions. A partition is the unit of commit."""

    async def get(self, partition: str, id: str) -> Doc | None: ...

    async def query(self, partition: str, prefix: str = "", after: str = "", limit: int | None = None) -> list[Doc]:
        """Documents whose id starts with `prefix` and sorts after `after`, in id order."""
        ...

    async def commit(self, partition: str, ops: Sequence[Op]) -> dict[str, str]:
        """All or nothing, at most 100 ops, each id at most once. Returns the new etag of each Put id.

        Raises Exists (create of what is there), Stale (etag mismatch, or the document is gone) or TooLarge.
        """
        ...


class EventLog(Protocol):
    """Append-only events with a gap-free sequence per subject, starting at 1."""

    async def append(self, subject: str, events: Sequence[Json]) -> list[int]:
        """Sequence of each event. An event whose `id` is there already keeps its first sequence (safe to repeat)."""
        ...

    async def read(self, subject: str, after: int = 0, limit: int = 500) -> list[Json]:
        """Events with `sequence` > after, in order, each carrying its `sequence`."""
        ...

    async def last(self, subject: str) -> int:
        """The highest sequence, 0 when there is none."""
        ...

    async def drop(self, subject: str) -> None:
        """Remove all its events; a subject without any is fine. One that was cut off goes on when called again."""
        ...


class Blobs(Protocol):
    """Named bytes. Names are `/`-separated, e.g. `runs/<id>/diff.patch`."""

    async def put(self, name: str, data: bytes) -> None:
        """Replaces atomically; safe to repeat."""
        ...

    async def get(self, name: str) -> bytes | None: ...

    async def delete(self, name: str) -> None:
        """A missing one is fine."""
        ...


class Secrets(Protocol):
    """Secret values by name (letters, digits, dashes: Key Vault's alphabet). Documents hold names only."""

    async def put(self, name: str, value: str) -> None: ...

    async def get(self, name: str) -> str | None: ...

    async def delete(self, name: str) -> None:
        """A missing one is fine."""
        ...


class Queues(Protocol):
    """Sends to storage queues; consuming them is the function host's work."""

    async def send(self, queue: str, body: Json, delay: float = 0) -> None:
        """Base64 JSON, time to live never, visible after `delay` seconds. Raises TooLarge or Unavailable."""
        ...


class Realtime(Protocol):
    """Push to browsers. Losing a publish is allowed: clients catch up by sequence."""

    async def client_url(self, user_id: str, groups: Sequence[str], minutes: int = 60) -> str:
        """A websocket URL with a token that joins the caller to `groups` and nothing else."""
        ...

    async def publish(self, group: str, events: Sequence[Json]) -> None:
        """In one message: an event alone as itself, several as a JSON array, in order."""
        ...

    async def add_to_group(self, user_id: str, group: str) -> None: ...

    async def remove_from_group(self, user_id: str, group: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an identity provider says somebody is."""

    tenant: str
    object_id: str
    name: str
    email: str


@dataclass(frozen=True, slots=True)
class SignIn:
    """A started sign-in: where to send the browser, and what to keep until it comes back, sealed by its state."""

    url: str
    state: str
    flow: Json = field(repr=False)


class IdentityProvider(Protocol):
    """OpenID Connect code flow with PKCE, state and nonce."""

    async def begin(self, redirect_uri: str) -> SignIn: ...

    async def redeem(self, flow: Json, code: str, state: str) -> Identity:
        """Exchanges the code and validates the id_token. Raises Unauthenticated or Unavailable."""
        ...


class Tokens(Protocol):
    """The platform's own signed tokens."""

    async def sign(self, audience: str, subject: str, claims: Json, ttl: int) -> str:
        """A token for `ttl` seconds. `claims` are additional: iss, aud, sub, iat and exp cannot be among them."""
        ...

    async def verify(self, token: str, audience: str, leeway: int = 0) -> Json:
        """All its claims. Raises Unauthenticated for anything that is not our valid token for `audience`.

        `leeway`: seconds that clocks may have jumped, for tokens that something else ends in time.
        """
        ...

    async def jwks(self) -> Json:
        """The public keys as a JWK set."""
        ...


@dataclass(frozen=True, slots=True)
class Repository:
    """A hosted Git repository."""

    full_name: str
    html_url: str
    clone_url: str
    default_branch: str


@dataclass(frozen=True, slots=True)
class GitToken:
    """A short-lived credential for one repository: user `x-access-token`, this password."""

    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file of a comparison; `patch` is a unified diff without headers, None for binary or huge files."""

    path: str
    status: str
    additions: int
    deletions: int
    patch: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `head` has that `base` has not."""

    commits: int
    head_sha: str
    files: tuple[FileChange, ...]


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A proposal to merge one branch into another."""

    number: int
    html_url: str


class Repositories(Protocol):
    """The Git hosting service. Every call is ensure-style: repeating it changes nothing more."""

    async def ensure(
        self, name: str, description: str, template: str | None = None, *, empty: bool = False
    ) -> Repository:
        """Our private repository `name`, made when missing: from `template` (`owner/name`), or with a first commit.

        `description` tells whose it is: one with another description is not adopted. `empty`: without any commit,
        ready for an import. Raises Conflict when the name is taken, Unavailable while a template is still being copied.
        """
        ...

    async def remove(self, name: str, description: str) -> bool:
        """Delete our repository `name` with all it holds. False when it stays: it has another description. One that is
        gone is fine. Conflict for one that was renamed since."""
        ...

    async def get(self, full_name: str) -> Repository | None: ...

    async def protect(self, full_name: str, branch: str) -> None:
        """Changes reach `branch` by pull request only; direct pushes are refused to everyone."""
        ...

    async def token(self, full_name: str) -> GitToken:
        """Read and write contents of this one repository, for at most an hour."""
        ...

    async def platform_token(self, full_name: str) -> GitToken:
        """All the platform may do, in this one repository: for an import, before `protect`.

        An empty repository takes the first branch pushed as its default: push that one before the others.
        """
        ...

    async def branch_sha(self, full_name: str, branch: str) -> str | None: ...

    async def compare(self, full_name: str, base: str, head: str) -> Comparison: ...

    async def ensure_pull_request(self, full_name: str, base: str, head: str, title: str, body: str) -> PullRequest:
        """The open pull request of the branch `head` into `base`, opened when there is none.

        One that is open already keeps its title and body. Raises Forbidden without the permission, NotFound, or Invalid
        for branches that cannot be merged, such as a `head` without commits of its own.
        """
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a job or service may use."""

    memory_mb: int = 4096
    pids: int = 512
    cpus: float = 2.0


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Work that ends. `command` is a Python module of the agent image and its arguments.

    `env` may hold secrets: it reaches the program, and no list, log or description. `outbound`: it may reach more than
    the platform.
    """

    name: str
    team_id: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    time_limit: int = 1800
    outbound: bool = False
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """Work that stays. `command` is as a job's; where `image` names another image, it is what that image runs.

    The team's containers reach it as `alias`. `health` is a command whose exit code 0 means healthy. `volumes` are the
    team's, each with its folder inside, which the agent's image may write; a process finds the folder in VOLUME_<NAME>.
    """

    name: str
    team_id: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False, default_factory=dict[str, str])
    image: str = ""
    alias: str = ""
    health: tuple[str, ...] = ()
    volumes: Mapping[str, str] = field(default_factory=dict[str, str])
    outbound: bool = False
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What became of a job. `log_tail` holds the last lines it printed, and why the host ended it."""

    name: str
    status: Literal["running", "exited"]
    exit_code: int | None = None
    log_tail: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """How a service is. `health` is None when its spec names no way to tell."""

    name: str
    status: Literal["running", "exited"]
    health: Literal["starting", "healthy", "unhealthy"] | None = None
    exit_code: int | None = None
    log_tail: str = ""


@dataclass(frozen=True, slots=True)
class Hosted:
    """One line of what a host holds for this platform."""

    name: str
    team_id: str
    kind: Literal["job", "service"]
    status: Literal["running", "exited"]


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Some output. Reading on after `cursor` gives what follows it."""

    cursor: str
    text: str


class ContainerHost(Protocol):
    """Where a team's jobs and services run. Names are unique on a host. Every call may raise Unavailable."""

    driver: str
    isolated: bool

    async def start_job(self, spec: JobSpec) -> Job:
        """Starts it; a job of that name that is there already, running or over, is adopted. Many may try at once."""
        ...

    async def start_service(self, spec: ServiceSpec) -> Service:
        """Makes it run as `spec` says: one of that name is adopted when its spec is the same, else replaced."""
        ...

    async def job(self, name: str) -> Job | None: ...

    async def service(self, name: str) -> Service | None: ...

    async def stop_job(self, name: str) -> None:
        """Ends it and all its processes, with some seconds to finish; a missing one is fine."""
        ...

    async def stop_service(self, name: str) -> None:
        """Ends it as a job; it stays ended until it is started again."""
        ...

    async def kill(self, name: str) -> None:
        """Ends a job or service at once; a missing one is fine."""
        ...

    async def remove(self, name: str) -> None:
        """Ends and forgets a job or service, its log included; a missing one is fine. Volumes stay."""
        ...

    def logs(self, name: str, after: str = "") -> AsyncGenerator[LogChunk]:
        """Its output from the start, or after a chunk's cursor, until it ends. Close it when you stop reading.

        Raises NotFound, or Unavailable when the host went away: read on after the last cursor, nothing is lost.
        """
        ...

    async def hosted(self, team_id: str | None = None) -> list[Hosted]:
        """Everything this platform has here, known to its store or not."""
        ...

    async def ensure_team(self, team_id: str) -> None:
        """The team's network, where the driver has networks."""
        ...

    async def remove_team(self, team_id: str) -> None:
        """Everything of the team: jobs, services, networks, volumes. Safe to repeat."""
        ...

    async def close(self) -> None:
        """Ends what cannot outlive this process."""
        ...


class WebhookSender(Protocol):
    """POSTs a signed body to a subscriber."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The HTTP status. Raises Unavailable when nobody answered within 15 s."""
        ...


class WebhookSigner(Protocol):
    """Standard Webhooks: id, timestamp and HMAC-SHA256 over them and the body."""

    def headers(self, secret: str, message_id: str, moment: datetime, body: bytes) -> dict[str, str]: ...

    def verify(self, secret: str, headers: Mapping[str, str], body: bytes) -> str:
        """The message id. Raises Unauthenticated for a bad, missing or stale signature. Replays pass: dedupe by id."""
        ...
