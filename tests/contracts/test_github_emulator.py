"""The GitHub emulator under the real git binary, the real PyGithub and plain HTTP. Every answer is validated."""

import asyncio
import gzip
import hmac
import os
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import github
import httpx
import jwt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.github import GitHubConfig, create_app, seed_template
from local.github.description import complaints
from shared.core.clock import SystemClock
from tests.serving import serve

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = (
    KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
)
REVIEWED = {
    "required_status_checks": None,
    "enforce_admins": True,
    "required_pull_request_reviews": {"required_approving_review_count": 0},
    "restrictions": None,
}
OPEN = REVIEWED | {"required_pull_request_reviews": None}


class ShiftedClock(SystemClock):
    shift = timedelta()

    def now(self):
        return super().now() + self.shift


@dataclass
class Result:
    code: int
    out: str
    err: str


@dataclass
class Emulator:
    config: GitHubConfig
    clock: ShiftedClock
    url: str
    http: httpx.AsyncClient
    folder: Path
    headers: dict[str, str] = field(default_factory=dict[str, str])

    def app_jwt(self, key: Any = KEY, algorithm: str = "RS256", **claims: Any) -> str:
        now = int(time.time())
        return jwt.encode({"iat": now - 60, "exp": now + 300, "iss": "4711"} | claims, key, algorithm=algorithm)

    async def token(self, **limits: Any) -> str:
        answer = await self.issue(**limits)
        assert answer.status_code == 201, answer.text
        return answer.json()["token"]

    async def issue(self, **limits: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.app_jwt()}"}
        return await self.http.post("/app/installations/12/access_tokens", json=limits, headers=headers)

    async def rest(self, method: str, path: str, token: str = "", body: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return await self.http.request(method, path, json=body, headers=headers)

    async def create(self, name: str, **options: Any) -> dict[str, Any]:
        body = {"name": name, "private": True, "auto_init": True} | options
        answer = await self.rest("POST", "/orgs/acme/repos", await self.token(), body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def protect(self, name: str, rule: Mapping[str, Any] = REVIEWED, branch: str = "main") -> None:
        path = f"/repos/acme/{name}/branches/{branch}/protection"
        answer = await self.rest("PUT", path, await self.token(), rule)
        assert answer.status_code == 200, answer.text

    def address(self, name: str, token: str = "") -> str:
        host = self.url.replace("http://", f"http://x-access-token:{token}@") if token else self.url
        return f"{host}/acme/{name}.git"

    async def clone(self, name: str, token: str, *options: str) -> Path:
        target = self.folder / f"clone-{name}-{time.monotonic_ns()}"
        done = await git(self.folder, "clone", "-q", *options, self.address(name, token), str(target))
        assert done.code == 0, done.err
        return target


async def git(folder: Path, *arguments: str) -> Result:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
    }
    people = ("-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main")
    process = await asyncio.create_subprocess_exec(
        "git", *people, *arguments, cwd=folder, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return Result(process.returncode or 0, out.decode(), err.decode())


async def ok(folder: Path, *arguments: str) -> str:
    done = await git(folder, *arguments)
    assert done.code == 0, done.err
    return done.out.strip()


async def commit(folder: Path, files: Mapping[str, str | bytes], message: str = "Change") -> str:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    await ok(folder, "add", "-A")
    await ok(folder, "commit", "-q", "-m", message)
    return await ok(folder, "rev-parse", "HEAD")


@pytest.fixture
async def emulator(tmp_path: Path) -> AsyncGenerator[Emulator]:
    clock = ShiftedClock()
    config = GitHubConfig(tmp_path / "github", "acme", "4711", 12, PUBLIC, clock=clock)
    async with serve(create_app(config)) as url, httpx.AsyncClient(base_url=url) as http:
        yield Emulator(config, clock, url, http, tmp_path)


class TestDescription:
    async def test_an_answer_that_is_not_as_github_describes_it_is_noticed(self, emulator: Emulator):
        answer = await emulator.create("shop")
        path = "/repos/{owner}/{repo}"
        assert complaints(path, "get", 200, answer) == []
        assert complaints(path, "get", 200, {k: v for k, v in answer.items() if k != "clone_url"})
        assert complaints(path, "get", 200, answer | {"private": "yes"})
        assert complaints(path, "get", 200, answer | {"owner": None})
        assert complaints(path, "get", 418, {})
        assert complaints(path, "delete", 204, {"message": "gone"})

    async def test_a_request_that_is_not_as_described_is_refused(self, emulator: Emulator):
        token = await emulator.token()
        for body in ({}, {"name": 5}, {"name": "x", "private": "yes"}):
            assert (await emulator.rest("POST", "/orgs/acme/repos", token, body)).status_code == 422
        broken = await emulator.http.post(
            "/orgs/acme/repos", content=b"{", headers={"authorization": f"Bearer {token}"}
        )
        assert broken.status_code == 400

    async def test_every_operation_of_a_repositorys_life_passes(self, emulator: Emulator):
        """Each answer is validated by the emulator itself, which answers 500 when it does not fit."""
        await emulator.create("shop", description="A shop")
        token = await emulator.token()
        app = {"authorization": f"Bearer {emulator.app_jwt()}"}
        assert (await emulator.http.get("/app", headers=app)).json()["id"] == 4711
        assert (await emulator.http.get("/app/installations/12", headers=app)).json()["app_id"] == 4711
        assert (await emulator.http.get("/app/installations/13", headers=app)).status_code == 404
        branch = (await emulator.rest("GET", "/repos/acme/shop/branches/main", token)).json()
        assert (branch["protected"], branch["commit"]["commit"]["message"]) == (False, "Initial commit")
        sha = branch["commit"]["sha"]
        made = {"ref": "refs/heads/agent/card-1", "sha": sha}
        rest = emulator.rest
        assert (await rest("POST", "/repos/acme/shop/git/refs", token, made)).status_code == 201
        assert (await rest("POST", "/repos/acme/shop/git/refs", token, made)).status_code == 422
        found = await rest("GET", "/repos/acme/shop/git/ref/heads/agent/card-1", token)
        assert found.json()["object"]["sha"] == sha
        names = [item["name"] for item in (await rest("GET", "/repos/acme/shop/branches", token)).json()]
        assert names == ["agent/card-1", "main"]
        assert (await rest("GET", "/repos/acme/shop/branches/main/protection", token)).status_code == 404
        await emulator.protect("shop")
        rule = (await rest("GET", "/repos/acme/shop/branches/main/protection", token)).json()
        assert rule["enforce_admins"]["enabled"]
        assert (await rest("DELETE", "/repos/acme/shop/git/refs/heads/main", token)).status_code == 422
        assert (await rest("DELETE", "/repos/acme/shop/branches/main/protection", token)).status_code == 204
        assert (await rest("DELETE", "/repos/acme/shop/git/refs/heads/agent/card-1", token)).status_code == 204
        assert (await rest("DELETE", "/repos/acme/shop", token)).status_code == 204
        assert (await rest("GET", "/repos/acme/shop", token)).status_code == 404

    async def test_it_answers_under_the_enterprise_prefix_too(self, emulator: Emulator):
        await emulator.create("shop")
        answer = (await emulator.rest("GET", "/api/v3/repos/acme/shop", await emulator.token())).json()
        assert answer["url"] == f"{emulator.url}/api/v3/repos/acme/shop"
        assert answer["clone_url"] == f"{emulator.url}/acme/shop.git"

    async def test_what_is_not_emulated_is_not_found_in_githubs_shape(self, emulator: Emulator):
        answer = await emulator.rest("GET", "/repos/acme/shop/actions/runs", await emulator.token())
        assert answer.status_code == 404
        assert answer.json() == {
            "message": "Not Found",
            "documentation_url": "https://docs.github.com/rest",
            "status": "404",
        }


class TestCreate:
    async def test_a_name_taken_is_refused_in_any_case(self, emulator: Emulator):
        await emulator.create("shop")
        answer = await emulator.rest("POST", "/orgs/acme/repos", await emulator.token(), {"name": "Shop"})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["message"] == "name already exists on this account"

    @pytest.mark.parametrize("name", ["..", ".", "../x", "a/b", "x.git", "", "a" * 101, "a\x00b", "%2e%2e"])
    async def test_a_name_that_would_leave_the_folder_is_refused(self, emulator: Emulator, name: str):
        answer = await emulator.rest("POST", "/orgs/acme/repos", await emulator.token(), {"name": name})
        assert answer.status_code == 422

    async def test_from_a_template_the_files_come_without_the_history(self, emulator: Emulator):
        files = emulator.folder / "files"
        (files / "bin").mkdir(parents=True)
        (files / "bin/run").write_text("#!/bin/sh\n")
        (files / "bin/run").chmod(0o755)
        (files / "README.md").write_text("# Template\n")
        await seed_template(emulator.config, "acme", "template", files)
        await seed_template(emulator.config, "acme", "template", files)
        token = await emulator.token()
        body = {"owner": "acme", "name": "shop", "private": True}
        answer = await emulator.rest("POST", "/repos/acme/template/generate", token, body)
        assert answer.status_code == 201, answer.text
        clone = await emulator.clone("shop", token)
        assert (await ok(clone, "rev-list", "--count", "HEAD")) == "1"
        assert (await ok(clone, "ls-files", "-s")).split()[::4] == ["100644", "100755"]
        assert (await git(clone, "fsck", "--strict")).code == 0

    async def test_a_repository_that_is_no_template_is_refused(self, emulator: Emulator):
        await emulator.create("plain")
        answer = await emulator.rest(
            "POST", "/repos/acme/plain/generate", await emulator.token(), {"name": "x", "owner": "acme"}
        )
        assert answer.status_code == 422

    async def test_it_survives_a_restart(self, emulator: Emulator):
        await emulator.create("shop")
        await emulator.protect("shop")
        token = await emulator.token()
        async with serve(create_app(emulator.config)) as url, httpx.AsyncClient(base_url=url) as http:
            headers = {"authorization": f"Bearer {token}"}
            assert (await http.get("/repos/acme/shop/branches/main", headers=headers)).json()["protected"]


class TestApp:
    @pytest.mark.parametrize(
        "claims",
        [{"exp": 1}, {"exp": int(time.time()) + 3600}, {"iat": int(time.time()) + 3600}, {"iss": "4712"}, {"exp": "x"}],
    )
    async def test_a_jwt_that_is_out_of_time_or_anothers_is_refused(self, emulator: Emulator, claims: Any):
        headers = {"authorization": f"Bearer {emulator.app_jwt(**claims)}"}
        assert (await emulator.http.get("/app", headers=headers)).status_code == 401

    async def test_a_jwt_signed_with_another_key_or_not_at_all_is_refused(self, emulator: Emulator):
        for key, algorithm in ((OTHER_KEY, "RS256"), (None, "none"), ("s" * 32, "HS256")):
            headers = {"authorization": f"Bearer {emulator.app_jwt(key, algorithm)}"}
            assert (await emulator.http.get("/app", headers=headers)).status_code == 401

    async def test_an_installation_token_is_not_the_app(self, emulator: Emulator):
        token = await emulator.token()
        assert (await emulator.rest("GET", "/app", token)).status_code == 401
        assert (await emulator.rest("POST", "/app/installations/12/access_tokens", token, {})).status_code == 401

    async def test_pygithubs_own_app_authentication_works(self, emulator: Emulator):
        await emulator.create("shop")
        pem = KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

        def work() -> str:
            auth = github.Auth.AppAuth("4711", pem.decode()).get_installation_auth(12, {"contents": "read"})
            with github.Github(auth=auth, base_url=emulator.url, seconds_between_requests=None, retry=None) as client:
                return client.get_repo("acme/shop").get_branch("main").commit.commit.message

        assert await asyncio.to_thread(work) == "Initial commit"


class TestTokens:
    async def test_one_limited_to_a_repository_cannot_touch_or_see_others(self, emulator: Emulator):
        shop, bank = await emulator.create("shop"), await emulator.create("bank")
        for limit in ({"repositories": ["shop"]}, {"repository_ids": [shop["id"]]}):
            answer = await emulator.issue(permissions={"contents": "write"}, **limit)
            assert [repo["full_name"] for repo in answer.json()["repositories"]] == ["acme/shop"]
            token = answer.json()["token"]
            assert (await emulator.rest("GET", "/repos/acme/shop", token)).status_code == 200
            assert (await emulator.rest("GET", "/repos/acme/bank", token)).status_code == 404
            assert (await emulator.rest("GET", "/repos/acme/bank/branches/main", token)).status_code == 404
            refused = await git(emulator.folder, "ls-remote", emulator.address("bank", token))
            assert "not found" in refused.err
        assert bank["id"] != shop["id"]

    async def test_one_for_contents_cannot_administer(self, emulator: Emulator):
        await emulator.create("shop")
        token = await emulator.token(repositories=["shop"], permissions={"contents": "write"})
        for method, path, body in (
            ("DELETE", "/repos/acme/shop", None),
            ("PUT", "/repos/acme/shop/branches/main/protection", OPEN),
            ("DELETE", "/repos/acme/shop/branches/main/protection", None),
            ("POST", "/orgs/acme/repos", {"name": "more"}),
            ("POST", "/repos/acme/shop/pulls", {"base": "main", "head": "x", "title": "x"}),
        ):
            answer = await emulator.rest(method, path, token, body)
            assert answer.status_code == 403, path
            assert answer.json()["message"] == "Resource not accessible by integration"

    async def test_even_administration_of_one_repository_creates_no_others(self, emulator: Emulator):
        await emulator.create("shop")
        token = await emulator.token(repositories=["shop"])
        assert (await emulator.rest("POST", "/orgs/acme/repos", token, {"name": "more"})).status_code == 403

    async def test_one_for_reading_can_clone_and_not_push(self, emulator: Emulator):
        await emulator.create("shop")
        token = await emulator.token(repositories=["shop"], permissions={"contents": "read"})
        clone = await emulator.clone("shop", token)
        await commit(clone, {"a.txt": "a"})
        assert "403" in (await git(clone, "push", "-q", "origin", "HEAD:refs/heads/work")).err
        sha = await ok(clone, "rev-parse", "HEAD~1")
        body = {"ref": "refs/heads/work", "sha": sha}
        assert (await emulator.rest("POST", "/repos/acme/shop/git/refs", token, body)).status_code == 403

    async def test_one_without_contents_cannot_even_read_them(self, emulator: Emulator):
        await emulator.create("shop")
        token = await emulator.token(permissions={"pull_requests": "read"})
        assert (await emulator.rest("GET", "/repos/acme/shop", token)).status_code == 200
        assert (await emulator.rest("GET", "/repos/acme/shop/branches/main", token)).status_code == 403
        assert (await git(emulator.folder, "ls-remote", emulator.address("shop", token))).code != 0

    @pytest.mark.parametrize(
        "limits",
        [
            {"permissions": {"members": "write"}},
            {"permissions": {"metadata": "write"}},
            {"repositories": ["nothing"]},
            {"repository_ids": [1]},
        ],
    )
    async def test_more_than_the_installation_has_is_refused(self, emulator: Emulator, limits: dict[str, Any]):
        assert (await emulator.issue(**limits)).status_code == 422

    async def test_after_an_hour_it_is_worth_nothing(self, emulator: Emulator):
        await emulator.create("shop")
        token = await emulator.token()
        emulator.clock.shift = timedelta(minutes=59)
        assert (await emulator.rest("GET", "/repos/acme/shop", token)).status_code == 200
        emulator.clock.shift = timedelta(minutes=61)
        assert (await emulator.rest("GET", "/repos/acme/shop", token)).status_code == 401
        assert (await git(emulator.folder, "ls-remote", emulator.address("shop", token))).code != 0

    async def test_a_changed_token_is_refused(self, emulator: Emulator):
        await emulator.create("shop")
        token = await emulator.token()
        head, payload, signature = token.split(".")
        forged = jwt.encode({"exp": 9**10, "installation": 12, "permissions": {}}, "x" * 32)
        for bad in ("ghs_", "ghs_4711_", f"{head}.{payload}x.{signature}", f"ghs_4711_{forged}", "gho_x"):
            assert (await emulator.rest("GET", "/repos/acme/shop", bad)).status_code == 401


class TestVisibility:
    async def test_a_private_repository_asks_git_for_credentials_and_is_hidden_from_rest(self, emulator: Emulator):
        await emulator.create("shop")
        assert (await emulator.rest("GET", "/repos/acme/shop")).status_code == 404
        for name in ("shop", "nothing"):
            answer = await emulator.http.get(f"/acme/{name}.git/info/refs?service=git-upload-pack")
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic")

    async def test_a_public_one_can_be_read_by_everybody_and_pushed_by_nobody(self, emulator: Emulator):
        await emulator.create("shop", private=False)
        assert (await emulator.rest("GET", "/repos/acme/shop")).status_code == 200
        assert (await git(emulator.folder, "clone", "-q", emulator.address("shop"), "public")).code == 0
        answer = await emulator.http.get("/acme/shop.git/info/refs?service=git-receive-pack")
        assert answer.status_code == 401

    @pytest.mark.parametrize(
        "path",
        [
            "/acme/..%2f..%2fetc/info/refs?service=git-upload-pack",
            "/acme/%2e%2e/info/refs?service=git-upload-pack",
            "/..%2facme/shop.git/info/refs?service=git-upload-pack",
            "/repos/acme/..%2fshop",
            "/repos/acme/%2e%2e",
            "/repos/..%2f..%2facme/shop",
            "/repos/acme/shop/branches/..%2f..%2fHEAD",
            "/repos/acme/shop/git/ref/..%2f..%2fHEAD",
            "/repos/acme/shop/compare/main...--output=%2ftmp%2fx",
            "/acme/shop.git/HEAD",
            "/acme/shop.git/github.json",
            "/acme/shop.git/config",
        ],
    )
    async def test_a_path_cannot_leave_its_place(self, emulator: Emulator, path: str):
        await emulator.create("shop")
        token = await emulator.token()
        basic = httpx.BasicAuth("x-access-token", token)
        assert (await emulator.http.get(path, auth=basic)).status_code == 404

    async def test_the_dumb_protocol_and_unknown_services_are_refused(self, emulator: Emulator):
        await emulator.create("shop")
        basic = httpx.BasicAuth("x-access-token", await emulator.token())
        for query in ("", "?service=git-upload-archive", "?service=upload-pack%20--help"):
            assert (await emulator.http.get(f"/acme/shop.git/info/refs{query}", auth=basic)).status_code == 403


class TestGit:
    async def test_what_is_pushed_is_cloned_again(self, emulator: Emulator):
        await emulator.create("shop")
        token = await emulator.token(repositories=["shop"], permissions={"contents": "write"})
        clone = await emulator.clone("shop", token)
        sha = await commit(clone, {"src/a.txt": "a\n"})
        await ok(clone, "push", "-q", "origin", "HEAD:refs/heads/agent/card-1")
        again = await emulator.clone("shop", token, "-b", "agent/card-1")
        assert await ok(again, "rev-parse", "HEAD") == sha

    @pytest.mark.parametrize("options", [("-c", "protocol.version=0"), ("--depth=1",), ("--filter=blob:none",)])
    async def test_older_protocols_shallow_and_partial_clones_work(self, emulator: Emulator, options: tuple[str, ...]):
        await emulator.create("shop")
        token = await emulator.token()
        clone = await emulator.clone("shop", token)
        for number in range(3):
            await commit(clone, {"a.txt": f"{number}\n"})
        await ok(clone, "push", "-q", "origin", "main")
        again = await emulator.clone("shop", token, *options)
        assert (again / "a.txt").read_text() == "2\n"
        assert await ok(again, "rev-list", "--count", "HEAD") == ("1" if "--depth=1" in options else "4")

    async def test_an_agents_push_to_the_protected_default_branch_is_refused_and_says_so(self, emulator: Emulator):
        await emulator.create("shop")
        await emulator.protect("shop")
        token = await emulator.token(repositories=["shop"], permissions={"contents": "write"})
        clone = await emulator.clone("shop", token)
        await commit(clone, {"a.txt": "a\n"})
        refused = await git(clone, "push", "origin", "main", "main:refs/heads/agent/card-1")
        assert refused.code != 0
        assert "remote: error: GH006: Protected branch update failed for refs/heads/main." in refused.err
        assert "remote: error: Changes must be made through a pull request." in refused.err
        assert "[remote rejected] main -> main (hook declined)" in refused.err
        assert "[new branch]      main -> agent/card-1" in refused.err

    async def test_a_protected_branch_cannot_be_deleted_or_rewritten_even_when_pushes_are_open(
        self, emulator: Emulator
    ):
        await emulator.create("shop")
        token = await emulator.token()
        clone = await emulator.clone("shop", token)
        await commit(clone, {"a.txt": "a\n"})
        await ok(clone, "push", "-q", "origin", "main", "main:stable")
        await emulator.protect("shop", OPEN, "stable")
        deleted = await git(clone, "push", "origin", ":stable")
        assert "Cannot delete a protected branch" in deleted.err
        await ok(clone, "commit", "-q", "--amend", "-m", "Rewritten")
        assert "Cannot force-push" in (await git(clone, "push", "-f", "origin", "main:stable")).err
        await ok(clone, "push", "-f", "-q", "origin", "main")
        await ok(clone, "reset", "-q", "--hard", "origin/stable")
        await commit(clone, {"b.txt": "b\n"})
        await ok(clone, "push", "-q", "origin", "HEAD:stable")

    async def test_administrators_pass_reviews_unless_they_are_bound_too(self, emulator: Emulator):
        await emulator.create("shop")
        await emulator.protect("shop", REVIEWED | {"enforce_admins": False})
        agent = await emulator.token(repositories=["shop"], permissions={"contents": "write"})
        clone = await emulator.clone("shop", agent)
        await commit(clone, {"a.txt": "a\n"})
        assert "GH006" in (await git(clone, "push", "origin", "main")).err
        await ok(clone, "push", "-q", emulator.address("shop", await emulator.token()), "main")

    async def test_protection_holds_from_the_moment_it_is_answered(self, emulator: Emulator):
        """The rule is read when the refs are written, not when the push begins."""
        await emulator.create("shop")
        clone = await emulator.clone("shop", await emulator.token())
        await commit(clone, {"big.bin": os.urandom(3_000_000)})
        pushing = asyncio.create_task(git(clone, "push", "origin", "main"))
        await emulator.protect("shop")
        done = await pushing
        found = await emulator.rest("GET", "/repos/acme/shop/branches/main", await emulator.token())
        assert (done.code == 0) == (found.json()["commit"]["sha"] == await ok(clone, "rev-parse", "HEAD"))

    async def test_a_repository_with_branches_and_tags_is_imported_whole(self, emulator: Emulator):
        source = emulator.folder / "source"
        source.mkdir()
        await ok(source, "init", "-q", "-b", "trunk")
        await commit(source, {"a.txt": "a\n"})
        for number in range(60):
            await commit(source, {f"files/{number}.txt": f"{number}\n"})
            await ok(source, "branch", f"feature/{number}")
        await ok(source, "tag", "light")
        await ok(source, "tag", "-a", "v1.0", "-m", "One")
        await emulator.create("shop", auto_init=False)
        address = emulator.address("shop", await emulator.token(repositories=["shop"]))
        await ok(source, "push", "-q", address, "trunk")
        await ok(source, "push", "-q", address, "refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*")
        assert await ok(source, "ls-remote", "--heads", "--tags", address) == await ok(
            source, "ls-remote", "--heads", "--tags", "."
        )
        made = await emulator.rest("GET", "/repos/acme/shop", await emulator.token())
        assert made.json()["default_branch"] == "trunk"
        clone = await emulator.clone("shop", await emulator.token())
        assert await ok(clone, "describe") == "v1.0"

    async def test_twenty_megabytes_go_in_and_come_out(self, emulator: Emulator):
        await emulator.create("shop")
        token = await emulator.token()
        clone = await emulator.clone("shop", token)
        content = os.urandom(20_000_000)
        await commit(clone, {"big.bin": content})
        await ok(clone, "push", "-q", "origin", "main")
        again = await emulator.clone("shop", token)
        assert (again / "big.bin").read_bytes() == content

    async def test_pushes_to_different_branches_at_once_all_arrive(self, emulator: Emulator):
        await emulator.create("shop")
        token = await emulator.token()
        clones = [await emulator.clone("shop", token) for _ in range(6)]
        shas = [await commit(clone, {f"{n}.txt": f"{n}\n"}) for n, clone in enumerate(clones)]
        await asyncio.gather(*(ok(c, "push", "-q", "origin", f"HEAD:refs/heads/b{n}") for n, c in enumerate(clones)))
        found = (await emulator.rest("GET", "/repos/acme/shop/branches", token)).json()
        assert {item["name"]: item["commit"]["sha"] for item in found if item["name"] != "main"} == {
            f"b{n}": sha for n, sha in enumerate(shas)
        }

    async def test_compressed_requests_are_understood_and_broken_ones_change_nothing(self, emulator: Emulator):
        await emulator.create("shop")
        basic = httpx.BasicAuth("x-access-token", await emulator.token())
        command = b"0014command=ls-refs\n0001001bref-prefix refs/heads/\n0000"
        headers = {
            "content-type": "application/x-git-upload-pack-request",
            "git-protocol": "version=2",
            "content-encoding": "gzip",
        }
        url = "/acme/shop.git/git-upload-pack"
        good = await emulator.http.post(url, content=gzip.compress(command), headers=headers, auth=basic)
        assert b"refs/heads/main" in good.content
        bad = await emulator.http.post(url, content=b"this is not gzip", headers=headers, auth=basic)
        assert b"refs/heads/main" not in bad.content

    async def test_a_pusher_who_goes_away_leaves_nothing_behind(self, emulator: Emulator):
        await emulator.create("shop")
        clone = await emulator.clone("shop", await emulator.token())
        await commit(clone, {"big.bin": os.urandom(8_000_000)})
        token = await emulator.token()
        host, port = emulator.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        basic = httpx.BasicAuth("x", token)._auth_header
        writer.write(
            f"POST /acme/shop.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: {basic}\r\n"
            "Content-Type: application/x-git-receive-pack-request\r\nContent-Length: 9000000\r\n\r\n00".encode()
        )
        await writer.drain()
        await asyncio.sleep(0.3)
        assert await _receivers() > 0
        writer.close()
        async with asyncio.timeout(10):
            while await _receivers():
                await asyncio.sleep(0.05)
        assert (await git(clone, "push", "-q", "origin", "HEAD:refs/heads/work")).code == 0


async def _receivers() -> int:
    """receive-pack processes that are children of this one."""
    count = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            command = (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        count += int(parent) == os.getpid() and b"receive-pack" in command
    return count


class TestCompare:
    async def test_its_figures_are_those_of_git_diff(self, emulator: Emulator):
        await emulator.create("shop")
        token = await emulator.token()
        clone = await emulator.clone("shop", token)
        lines = "".join(f"line {n}\n" for n in range(50))
        await commit(
            clone,
            {
                "kept.txt": "same\n",
                "edited.txt": lines,
                "moved.txt": lines * 2,
                "gone.txt": "x\n",
                "picture.bin": bytes(range(256)),
                "turned": "to become a link\n",
                "päth with space.txt": "ü\n",
                "crlf.txt": "a\r\nb\r\n",
            },
        )
        await ok(clone, "push", "-q", "origin", "main")
        (clone / "gone.txt").unlink()
        (clone / "turned").unlink()
        (clone / "turned").symlink_to("kept.txt")
        (clone / "moved.txt").rename(clone / "moved-away.txt")
        edits: dict[str, str | bytes] = {
            "edited.txt": lines.replace("line 7\n", "line seven\nand more\n"),
            "picture.bin": bytes(300),
            "päth with space.txt": "ü\nö\n",
            "crlf.txt": "a\r\nc\r\n",
            "diff.txt": "diff --git a/x b/x\n@@ -1 +1 @@\n",
            "zero.txt": "no newline at the end",
        }
        await commit(clone, edits)
        await commit(clone, {"zero.txt": "changed\n"})
        await ok(clone, "push", "-q", "origin", "HEAD:refs/heads/agent/work")
        found = (await emulator.rest("GET", "/repos/acme/shop/compare/main...agent/work", token)).json()
        assert (found["status"], found["ahead_by"], found["behind_by"], len(found["commits"])) == ("ahead", 2, 0, 2)
        expected = await ok(clone, "-c", "core.quotePath=false", "diff", "--numstat", "-M", "origin/main", "HEAD")
        numbers = {line.split("\t")[2]: line.split("\t")[:2] for line in expected.splitlines()}
        figures = {f["filename"]: [str(f["additions"]), str(f["deletions"])] for f in found["files"]}
        assert numbers.pop("moved.txt => moved-away.txt") == figures.pop("moved-away.txt")
        assert numbers.pop("picture.bin") == ["-", "-"]
        assert figures.pop("picture.bin") == ["0", "0"]
        assert figures == numbers
        files = {f["filename"]: f for f in found["files"]}
        assert files["moved-away.txt"]["previous_filename"] == "moved.txt"
        assert {f["filename"]: f["status"] for f in found["files"] if f["status"] != "modified"} == {
            "diff.txt": "added",
            "gone.txt": "removed",
            "moved-away.txt": "renamed",
            "turned": "changed",
            "zero.txt": "added",
        }
        assert "patch" not in files["picture.bin"]
        assert files["diff.txt"]["patch"] == "@@ -0,0 +1,2 @@\n+diff --git a/x b/x\n+@@ -1 +1 @@"
        assert files["zero.txt"]["patch"].endswith("+changed")
        assert files["päth with space.txt"]["patch"] == "@@ -1 +1,2 @@\n ü\n+ö"

    async def test_commits_come_in_pages_oldest_first(self, emulator: Emulator):
        await emulator.create("shop")
        token = await emulator.token()
        clone = await emulator.clone("shop", token)
        shas = [await commit(clone, {"a.txt": f"{n}\n"}, f"Number {n}") for n in range(5)]
        await ok(clone, "push", "-q", "origin", "HEAD:refs/heads/work")
        path = "/repos/acme/shop/compare/main...work?per_page=2&page="
        pages = [(await emulator.rest("GET", f"{path}{n}", token)).json() for n in (1, 2, 3, 4)]
        assert [[c["sha"] for c in page["commits"]] for page in pages] == [shas[:2], shas[2:4], shas[4:], []]
        assert [len(page["files"]) for page in pages] == [1, 0, 0, 0]

    async def test_branches_without_a_common_ancestor_are_not_found(self, emulator: Emulator):
        await emulator.create("shop")
        token = await emulator.token()
        clone = await emulator.clone("shop", token)
        await ok(clone, "checkout", "-q", "--orphan", "other")
        await commit(clone, {"a.txt": "a\n"})
        await ok(clone, "push", "-q", "origin", "other")
        answer = await emulator.rest("GET", "/repos/acme/shop/compare/main...other", token)
        assert answer.status_code == 404
        assert "No common ancestor" in answer.json()["message"]


class TestPulls:
    async def test_one_is_opened_once_listed_and_read(self, emulator: Emulator):
        await emulator.create("shop")
        token = await emulator.token()
        clone = await emulator.clone("shop", token)
        body = {"title": "Work", "base": "main", "head": "work", "body": "Done."}
        assert (await emulator.rest("POST", "/repos/acme/shop/pulls", token, body)).status_code == 422
        sha = await commit(clone, {"a.txt": "a\nb\n"})
        await ok(clone, "push", "-q", "origin", "HEAD:refs/heads/work")
        made = await emulator.rest("POST", "/repos/acme/shop/pulls", token, body)
        assert made.status_code == 201, made.text
        assert (made.json()["number"], made.json()["additions"], made.json()["head"]["sha"]) == (1, 2, sha)
        again = await emulator.rest("POST", "/repos/acme/shop/pulls", token, body)
        assert again.status_code == 422
        assert "already exists" in again.json()["errors"][0]["message"]
        listed = (await emulator.rest("GET", "/repos/acme/shop/pulls?head=acme:work", token)).json()
        assert [pull["title"] for pull in listed] == ["Work"]
        assert (await emulator.rest("GET", "/repos/acme/shop/pulls/1", token)).json()["changed_files"] == 1
        assert (await emulator.rest("GET", "/repos/acme/shop/pulls/2", token)).status_code == 404


@dataclass
class Hub:
    """Where the App's webhook is delivered to: what came, and with which statuses it answers first."""

    deliveries: list[tuple[dict[str, str], bytes]] = field(default_factory=list[tuple[dict[str, str], bytes]])
    failures: list[int] = field(default_factory=list[int])

    async def receive(self, request: Request) -> Response:
        self.deliveries.append((dict(request.headers), await request.body()))
        return Response(status_code=self.failures.pop(0) if self.failures else 204)


@pytest.fixture
async def hooked(tmp_path: Path) -> AsyncGenerator[tuple[Emulator, Hub]]:
    """A browsable emulator with a repository `shop`, whose pull request 1 proposes a.txt, and its listener."""
    hub = Hub()
    async with serve(Starlette(routes=[Route("/hook", hub.receive, methods=["POST"])])) as address:
        config = GitHubConfig(tmp_path / "github", "acme", "4711", 12, PUBLIC, browsable=True)
        config = replace(config, webhook_url=f"{address}/hook", webhook_secret="tell nobody")
        async with serve(create_app(config)) as url, httpx.AsyncClient(base_url=url) as http:
            emulator = Emulator(config, ShiftedClock(), url, http, tmp_path)
            await emulator.create("shop")
            await emulator.protect("shop")
            await propose(emulator, "work", {"a.txt": "a\n"})
            yield emulator, hub


async def propose(emulator: Emulator, branch: str, files: Mapping[str, str | bytes]) -> Path:
    token = await emulator.token()
    clone = await emulator.clone("shop", token)
    await commit(clone, files)
    await ok(clone, "push", "-q", "origin", f"HEAD:refs/heads/{branch}")
    body = {"title": "Work <b>", "base": "main", "head": branch, "body": "Done."}
    assert (await emulator.rest("POST", "/repos/acme/shop/pulls", token, body)).status_code == 201
    return clone


async def merge(emulator: Emulator, number: int = 1, token: str = "", **body: Any) -> httpx.Response:
    path = f"/repos/acme/shop/pulls/{number}/merge"
    return await emulator.rest("PUT", path, token or await emulator.token(), body)


async def arrived(hub: Hub, count: int = 1) -> None:
    for _ in range(200):
        if len(hub.deliveries) >= count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{len(hub.deliveries)} deliveries arrived")


class TestMerge:
    async def test_it_makes_a_merge_commit_on_the_base_although_that_is_protected(self, hooked: tuple[Emulator, Hub]):
        emulator, _ = hooked
        answer = await merge(emulator)
        assert answer.status_code == 200, answer.text
        clone = await emulator.clone("shop", await emulator.token())
        assert await ok(clone, "rev-parse", "HEAD") == answer.json()["sha"]
        assert await ok(clone, "log", "-1", "--format=%s %an") == "Merge pull request #1 from acme/work GitHub"
        assert len((await ok(clone, "log", "-1", "--format=%P")).split()) == 2
        assert (clone / "a.txt").read_text() == "a\n"
        shown = (await emulator.rest("GET", "/repos/acme/shop/pulls/1", await emulator.token())).json()
        assert (shown["state"], shown["merged"], shown["merge_commit_sha"]) == ("closed", True, answer.json()["sha"])
        assert (shown["merged_at"], shown["additions"], shown["commits"]) == (shown["closed_at"], 1, 1)

    async def test_what_both_sides_changed_apart_is_in_it(self, hooked: tuple[Emulator, Hub]):
        emulator, _ = hooked
        await propose(emulator, "other", {"b.txt": "b\n"})
        assert [(await merge(emulator, number)).status_code for number in (1, 2)] == [200, 200]
        clone = await emulator.clone("shop", await emulator.token())
        assert [(clone / name).exists() for name in ("a.txt", "b.txt", "README.md")] == [True] * 3

    async def test_a_conflict_is_405_and_changes_nothing(self, hooked: tuple[Emulator, Hub]):
        emulator, hub = hooked
        await propose(emulator, "other", {"a.txt": "something else\n"})
        first = (await merge(emulator, 1)).json()["sha"]
        refused = await merge(emulator, 2)
        assert (refused.status_code, refused.json()["message"]) == (405, "Pull Request is not mergeable")
        branch = (await emulator.rest("GET", "/repos/acme/shop/branches/main", await emulator.token())).json()
        assert branch["commit"]["sha"] == first
        await arrived(hub)
        assert len(hub.deliveries) == 1

    async def test_one_that_is_merged_is_405(self, hooked: tuple[Emulator, Hub]):
        assert [(await merge(hooked[0])).status_code for _ in range(2)] == [200, 405]

    async def test_two_at_once_merge_once(self, hooked: tuple[Emulator, Hub]):
        answers = await asyncio.gather(merge(hooked[0]), merge(hooked[0]))
        assert sorted(answer.status_code for answer in answers) == [200, 405]

    async def test_another_head_than_the_caller_saw_is_409(self, hooked: tuple[Emulator, Hub]):
        refused = await merge(hooked[0], sha="0" * 40)
        assert refused.status_code == 409
        assert "Head branch was modified" in refused.json()["message"]

    async def test_who_may_not_write_contents_may_not_merge(self, hooked: tuple[Emulator, Hub]):
        token = await hooked[0].token(permissions={"pull_requests": "write"})
        assert (await merge(hooked[0], token=token)).status_code == 403
        assert (await merge(hooked[0], number=7)).status_code == 404

    async def test_the_app_is_told_with_a_signature(self, hooked: tuple[Emulator, Hub]):
        emulator, hub = hooked
        await merge(emulator)
        await arrived(hub)
        headers, body = hub.deliveries[0]
        expected = hmac.new(b"tell nobody", body, "sha256").hexdigest()
        assert headers["x-hub-signature-256"] == f"sha256={expected}"
        assert headers["x-github-event"] == "pull_request"
        assert headers["x-github-delivery"]
        told = orjson.loads(body)
        assert (told["action"], told["number"], told["repository"]["full_name"]) == ("closed", 1, "acme/shop")
        assert (told["pull_request"]["merged"], told["installation"]["id"]) == (True, 12)
        assert complaints("/repos/{owner}/{repo}/pulls/{pull_number}", "get", 200, told["pull_request"]) == []

    async def test_a_receiver_that_fails_is_told_again(self, hooked: tuple[Emulator, Hub]):
        emulator, hub = hooked
        hub.failures = [503]
        await merge(emulator)
        await arrived(hub, 2)
        assert hub.deliveries[0][1] == hub.deliveries[1][1]
        assert hub.deliveries[0][0]["x-github-delivery"] == hub.deliveries[1][0]["x-github-delivery"]

    async def test_a_person_merges_with_the_button_of_its_page(self, hooked: tuple[Emulator, Hub]):
        emulator, hub = hooked
        page = (await emulator.http.get("/acme/shop/pull/1")).text
        assert "Merge pull request</button>" in page
        assert "Work &lt;b&gt; #1" in page
        foreign = {"sec-fetch-site": "cross-site"}
        assert (await emulator.http.post("/acme/shop/pull/1/merge", headers=foreign)).status_code == 403
        assert (await emulator.http.post("/acme/shop/pull/1/merge")).status_code == 303
        page = (await emulator.http.get("/acme/shop/pull/1")).text
        assert "<b>Merged</b>" in page
        assert "<button" not in page
        assert "a.txt" in page
        assert (await emulator.http.post("/acme/shop/pull/1/merge")).status_code == 405
        await arrived(hub)


class TestPages:
    async def test_a_person_sees_branches_files_commits_and_diffs_and_nothing_runs(self, tmp_path: Path):
        config = GitHubConfig(tmp_path / "github", "acme", "4711", 12, PUBLIC, browsable=True)
        async with serve(create_app(config)) as url, httpx.AsyncClient(base_url=url, follow_redirects=True) as http:
            emulator = Emulator(config, ShiftedClock(), url, http, tmp_path)
            await emulator.create("shop")
            token = await emulator.token()
            clone = await emulator.clone("shop", token)
            evil = "<script>alert(1)</script>"
            sha = await commit(clone, {"<b>x": evil + "\n"}, f"Add {evil}")
            await ok(clone, "push", "-q", "origin", "HEAD:refs/heads/a<i>")
            body = {"title": "Work", "base": "main", "head": "a<i>"}
            assert (await emulator.rest("POST", "/repos/acme/shop/pulls", token, body)).status_code == 201
            pages = {
                path: await http.get(f"/acme/shop{path}")
                for path in ("", "/tree/a%3Ci%3E", f"/commit/{sha}", "/compare/main...a%3Ci%3E", "/pull/1")
            }
            pages["blob"] = await http.get(f"/acme/shop/blob/{sha}/%3Cb%3Ex")
            for path, page in pages.items():
                assert page.status_code == 200, path
                assert "<script" not in page.text
                assert "<i>" not in page.text
                assert "<b>x" not in page.text
                assert "default-src 'none'" in page.headers["content-security-policy"]
            assert "README.md" in pages[""].text
            assert "&lt;script&gt;" in pages[f"/commit/{sha}"].text
            assert "+&lt;script&gt;" in pages["/compare/main...a%3Ci%3E"].text
            assert "acme/shop" in (await http.get("/")).text
            assert (await http.get("/acme/nothing")).status_code == 404
            assert (await http.get(f"/acme/shop/blob/{sha}/../../etc/passwd")).status_code == 404

    async def test_private_repositories_are_hidden_unless_it_is_browsable(self, emulator: Emulator):
        await emulator.create("shop")
        await emulator.create("open", private=False)
        assert (await emulator.http.get("/acme/shop")).status_code == 404
        assert (await emulator.http.get("/acme/open")).status_code == 200
        assert "acme/shop" not in (await emulator.http.get("/")).text

    async def test_an_empty_repository_says_where_to_push(self, tmp_path: Path):
        config = GitHubConfig(tmp_path / "github", "acme", "4711", 12, PUBLIC, browsable=True)
        async with serve(create_app(config)) as url, httpx.AsyncClient(base_url=url) as http:
            await Emulator(config, ShiftedClock(), url, http, tmp_path).create("shop", auto_init=False)
            assert f"{url}/acme/shop.git" in (await http.get("/acme/shop")).text
