"""The platform's side of a run, as its contract says: the run's HTTP API, and git over smart HTTP."""

import asyncio
import base64
import secrets
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from tests.agent.scripted_model import ScriptedModel

type Json = dict[str, Any]

RUN_ID = "run_t0123456789_abc"
REPOSITORY = "acme/site"


@dataclass
class PlatformApi:
    """One run and one repository. Tests change the public fields to shape what the run meets."""

    root: Path
    base_url: str = ""
    run_token: str = field(default_factory=lambda: "run-" + secrets.token_hex(16))
    card: Json = field(default_factory=lambda: {"title": "Greet", "body": "Say hello in hello.txt.", "comments": []})
    limits: Json = field(default_factory=lambda: {"turns": 20, "seconds": 60, "tokens": 100_000})
    branch: str = "kanban/greet-1"
    previous: Json | None = None
    model_name: str = "scripted-1"
    model: ScriptedModel = field(default_factory=ScriptedModel)
    events: list[Json] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    completions: list[Json] = field(default_factory=list)
    git_tokens: list[str] = field(default_factory=list)
    human_comments: list[Json] = field(default_factory=list)
    stop: bool = False
    taken: bool = False
    failures: int = 0
    """How many of the next calls are answered with 503."""
    before_push: Callable[[], Awaitable[None]] | None = None
    """Runs once, just before a push is looked at."""

    @property
    def repository(self) -> Path:
        return self.root / f"{REPOSITORY}.git"

    @property
    def clone_url(self) -> str:
        return f"{self.base_url}/git/{REPOSITORY}.git"

    @property
    def completion(self) -> Json:
        assert len(self.completions) == 1, self.completions
        return self.completions[0]

    def of_kind(self, kind: str) -> list[Json]:
        return [event for event in self.events if event["kind"] == kind]

    def app(self, model_app: ASGIApp | None = None) -> Starlette:
        """`model_app` serves the Messages API in place of the script."""
        actions: dict[str, Callable[[Json], Response]] = {
            "start": self._start,
            "events": self._events,
            "git-credentials": self._git_credentials,
            "comments": self._comment,
            "complete": self._complete,
        }

        async def act(request: Request) -> Response:
            if refusal := self._refusal(request):
                return refusal
            action = actions.get(request.path_params["action"])
            if action is None or request.path_params["run"] != RUN_ID:
                return _problem(404, "There is no such run.")
            return action(await request.json())

        async def model(request: Request) -> Response:
            return self._refusal(request) or await self.model.endpoint(request)

        return Starlette(
            routes=[
                Route("/api/runs/{run}/{action}", act, methods=["POST"]),
                Mount("/api", model_app) if model_app else Route("/api/v1/messages", model, methods=["POST"]),
                Route("/git/{path:path}", self._git, methods=["GET", "POST"]),
            ]
        )

    def _refusal(self, request: Request) -> Response | None:
        if self.failures:
            self.failures -= 1
            return _problem(503, "Starting.")
        if request.headers.get("authorization") != f"Bearer {self.run_token}":
            return _problem(401, "The token of this run is not valid.")
        return None

    def _start(self, _body: Json) -> Response:
        if self.taken:
            return _problem(409, "Another container works on this run.")
        self.taken = True
        return JSONResponse(
            {
                "run_id": RUN_ID,
                "card": {"id": "card_1", "labels": [], "checklist": [], **self.card},
                "repository": {"full_name": REPOSITORY, "clone_url": self.clone_url, "default_branch": "main"},
                "branch": self.branch,
                "model": self.model_name,
                "limits": self.limits,
                "previous": self.previous,
            }
        )

    def _events(self, body: Json) -> Response:
        known = {event["id"] for event in self.events}
        self.events += [event for event in body["events"] if event["id"] not in known]
        told, self.human_comments = self.human_comments, []
        return JSONResponse({"stop": self.stop, "comments": told})

    def _git_credentials(self, _body: Json) -> Response:
        self.git_tokens.append("git-" + secrets.token_hex(16))
        return JSONResponse(
            {"username": "x-access-token", "password": self.git_tokens[-1], "expires_at": "2030-01-01T00:00:00Z"}
        )

    def _comment(self, body: Json) -> Response:
        self.comments.append(body["body"])
        return JSONResponse({"id": f"comment_{len(self.comments)}"}, 201)

    def _complete(self, body: Json) -> Response:
        self.completions.append(body)
        return JSONResponse({})

    async def _git(self, request: Request) -> Response:
        allowed = {_basic(token) for token in self.git_tokens}
        if request.headers.get("authorization") not in allowed:
            return Response("Sign in.", 401, {"WWW-Authenticate": 'Basic realm="git"'})
        if self.before_push and request.url.path.endswith("/git-receive-pack"):
            hook, self.before_push = self.before_push, None
            await hook()
        return await _http_backend(self.root, request)


def make_repository(path: Path, *, files: dict[str, str] | None = None) -> None:
    """A bare repository whose `main` holds one commit of `files`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    git(path.parent, "init", "--quiet", "--bare", "--initial-branch=main", str(path))
    git(path, "config", "http.receivepack", "true")
    if files is not None:
        push_files(path, "main", files)


def push_files(repository: Path, branch: str, files: dict[str, str], start: str | None = None) -> str:
    """Commits `files` on `branch` of a bare repository as another person would; returns the commit."""
    work = repository.parent / f"work-{secrets.token_hex(4)}"
    git(repository.parent, "clone", "--quiet", str(repository), str(work))
    has = subprocess.run(["git", "rev-parse", "-q", "--verify", f"origin/{branch}"], cwd=work, capture_output=True)
    base = f"origin/{branch}" if has.returncode == 0 else start
    git(work, "checkout", "--quiet", "-B", branch, *([base] if base else []))
    for name, text in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--message", f"Add {', '.join(files)}")
    git(work, "push", "--quiet", "origin", branch)
    return git(work, "rev-parse", "HEAD")


def git(cwd: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    done = subprocess.run(["git", *identity, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def _http_backend(root: Path, request: Request) -> Response:
    """Git's own CGI program."""
    process = await asyncio.create_subprocess_exec(
        "git",
        "http-backend",
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "GIT_PROJECT_ROOT": str(root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": "/" + request.path_params["path"],
            "REQUEST_METHOD": request.method,
            "QUERY_STRING": request.url.query,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
            "REMOTE_USER": "agent",
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(await request.body())
    head, _, body = output.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    status = int(headers.pop("Status", "200").split()[0])
    return Response(body, status, headers)


def _basic(token: str) -> str:
    return "Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()


def _problem(status: int, detail: str) -> Response:
    return JSONResponse({"type": "about:blank", "status": status, "detail": detail}, status)
