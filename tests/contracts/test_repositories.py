"""Contract of Repositories: the fake, and GitHub's adapter with the real PyGithub against the emulator."""

import asyncio
import subprocess
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from local.github import GitHubConfig, create_app, seed_template
from shared.adapters.github import GitHubRepositories
from shared.core.clock import ManualClock, SystemClock
from shared.core.errors import Conflict, Forbidden, Invalid, NotFound, PlatformError, Unavailable
from shared.core.ports import GitToken, PullRequest, Repositories
from tests.fakes.repositories import FakeRepositories
from tests.serving import serve

TEMPLATE = {"README.md": "# App\n", "src/app.py": "print('hello')\n"}
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
PUBLIC = (
    KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
)


class Host(Protocol):
    """A place with repositories, and a way to push to them."""

    @property
    def repositories(self) -> Repositories: ...

    async def push(self, full_name: str, branch: str, files: Mapping[str, str], token: GitToken) -> str:
        """The new commit's SHA. Raises Forbidden when it is refused."""
        ...

    async def merge(self, full_name: str, number: int) -> None:
        """As a person does with the button."""
        ...


@dataclass
class FakeHost:
    repositories: FakeRepositories

    async def push(self, full_name: str, branch: str, files: Mapping[str, str], token: GitToken) -> str:
        return self.repositories.push(full_name, branch, files, token)

    async def merge(self, full_name: str, number: int) -> None:
        self.repositories.merge(full_name, number)


@dataclass
class EmulatedHost:
    repositories: GitHubRepositories
    url: str
    folder: Path
    clones: int = field(default=0)

    async def push(self, full_name: str, branch: str, files: Mapping[str, str], token: GitToken) -> str:
        return await asyncio.to_thread(self._push, full_name, branch, files, token)

    async def merge(self, full_name: str, number: int) -> None:
        async with httpx.AsyncClient(base_url=self.url) as http:
            token = await self.repositories.platform_token(full_name)
            headers = {"authorization": f"Bearer {token.token}"}
            (await http.put(f"/repos/{full_name}/pulls/{number}/merge", headers=headers)).raise_for_status()

    def _push(self, full_name: str, branch: str, files: Mapping[str, str], token: GitToken) -> str:
        self.clones += 1
        clone = self.folder / f"clone-{self.clones}"
        address = self.url.replace("http://", f"http://x-access-token:{token.token}@")
        _git(self.folder, "clone", "-q", f"{address}/{full_name}.git", str(clone))
        pushed = _git(clone, "for-each-ref", "--format=%(refname)", f"refs/remotes/origin/{branch}")
        _git(clone, "checkout", "-q", "-B", branch, *pushed.splitlines())
        if _git(clone, "ls-files"):
            _git(clone, "rm", "-rq", ".")
        for path, text in files.items():
            (clone / path).parent.mkdir(parents=True, exist_ok=True)
            (clone / path).write_text(text)
        _git(clone, "add", "-A")
        _git(clone, "commit", "-q", "-m", "Change")
        _git(clone, "push", "-q", "origin", branch)
        return _git(clone, "rev-parse", "HEAD")


def _git(folder: Path, *arguments: str) -> str:
    people = ("-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "protocol.version=2")
    done = subprocess.run(["git", *people, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Forbidden(done.stderr)
    return done.stdout.strip()


@pytest.fixture(params=["fake", "github"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Host]:
    if request.param == "fake":
        yield FakeHost(FakeRepositories("acme", {"acme/template": TEMPLATE}, SystemClock()))
        return
    config = GitHubConfig(tmp_path / "github", "acme", "4711", 12, PUBLIC)
    files = tmp_path / "template"
    for path, text in TEMPLATE.items():
        (files / path).parent.mkdir(parents=True, exist_ok=True)
        (files / path).write_text(text)
    await seed_template(config, "acme", "template", files)
    async with serve(create_app(config)) as url:
        yield EmulatedHost(GitHubRepositories(url, "acme", "4711", 12, PEM), url, tmp_path)


class TestRemove:
    async def test_it_is_gone_and_its_name_free(self, host: Host):
        made = await host.repositories.ensure("shop", "A shop", template="acme/template")
        await host.repositories.protect(made.full_name, "main")
        assert await host.repositories.remove("shop", "A shop")
        assert await host.repositories.get("acme/shop") is None
        await host.repositories.ensure("shop", "Another shop")

    async def test_repeating_it_is_fine(self, host: Host):
        assert await host.repositories.remove("shop", "A shop")
        await host.repositories.ensure("shop", "A shop")
        await asyncio.gather(*(host.repositories.remove("shop", "A shop") for _ in range(3)))
        assert await host.repositories.get("acme/shop") is None

    async def test_a_repository_of_somebody_else_stays(self, host: Host):
        await host.repositories.ensure("shop", "A shop")
        assert not await host.repositories.remove("shop", "Another shop")
        assert await host.repositories.get("acme/shop") is not None


class TestEnsure:
    async def test_a_new_repository_has_a_first_commit_and_addresses(self, host: Host):
        made = await host.repositories.ensure("shop", "A shop")
        assert made.full_name == "acme/shop"
        assert made.default_branch == "main"
        assert made.clone_url.endswith("/acme/shop.git")
        assert made.html_url.endswith("/acme/shop")
        assert await host.repositories.branch_sha("acme/shop", "main")

    async def test_repeating_it_changes_nothing(self, host: Host):
        first = await host.repositories.ensure("shop", "A shop")
        sha = await host.repositories.branch_sha("acme/shop", "main")
        assert await host.repositories.ensure("shop", "A shop") == first
        assert await host.repositories.branch_sha("acme/shop", "main") == sha

    async def test_a_repository_of_somebody_else_is_not_adopted(self, host: Host):
        await host.repositories.ensure("shop", "A shop")
        for template in (None, "acme/template"):
            with pytest.raises(Conflict, match="Choose another name"):
                await host.repositories.ensure("shop", "Another shop", template=template)

    async def test_several_at_once_make_one(self, host: Host):
        made = await asyncio.gather(*(host.repositories.ensure("shop", "A shop") for _ in range(4)))
        assert len(set(made)) == 1

    async def test_from_a_template_it_holds_the_templates_files(self, host: Host):
        await host.repositories.ensure("shop", "A shop", template="acme/template")
        token = await host.repositories.token("acme/shop")
        await host.push("acme/shop", "work", TEMPLATE | {"new.txt": "1\n"}, token)
        found = await host.repositories.compare("acme/shop", "main", "work")
        assert [(file.path, file.status) for file in found.files] == [("new.txt", "added")]

    async def test_an_unknown_template_is_not_found(self, host: Host):
        with pytest.raises(NotFound):
            await host.repositories.ensure("shop", "A shop", template="acme/nothing")

    async def test_an_empty_one_has_no_branch_and_takes_an_import(self, host: Host):
        await host.repositories.ensure("shop", "A shop", empty=True)
        assert await host.repositories.branch_sha("acme/shop", "main") is None
        token = await host.repositories.platform_token("acme/shop")
        sha = await host.push("acme/shop", "main", {"a.txt": "a\n"}, token)
        assert await host.repositories.branch_sha("acme/shop", "main") == sha

    async def test_a_template_for_an_import_is_refused(self, host: Host):
        with pytest.raises(Invalid):
            await host.repositories.ensure("shop", "A shop", template="acme/template", empty=True)

    @pytest.mark.parametrize("name", ["", "..", ".", "../shop", "a/b", "a b", "x%2fy", "ä\n"])
    async def test_a_name_that_is_none_is_refused(self, host: Host, name: str):
        with pytest.raises(Invalid):
            await host.repositories.ensure(name, "A shop")


class TestGet:
    async def test_what_is_there_is_found_in_any_case(self, host: Host):
        made = await host.repositories.ensure("Shop", "A shop")
        assert await host.repositories.get("acme/shop") == made

    @pytest.mark.parametrize("name", ["acme/none", "other/shop", "acme/..", "../../etc", "", "acme"])
    async def test_what_is_not_there_is_none(self, host: Host, name: str):
        assert await host.repositories.get(name) is None


class TestProtect:
    async def test_nobody_pushes_to_a_protected_branch_any_more(self, host: Host):
        await host.repositories.ensure("shop", "A shop")
        before = await host.repositories.branch_sha("acme/shop", "main")
        await host.repositories.protect("acme/shop", "main")
        await host.repositories.protect("acme/shop", "main")
        for token in (await host.repositories.token("acme/shop"), await host.repositories.platform_token("acme/shop")):
            with pytest.raises(Forbidden, match="GH006: Protected branch update failed for refs/heads/main"):
                await host.push("acme/shop", "main", {"a.txt": "a\n"}, token)
        assert await host.repositories.branch_sha("acme/shop", "main") == before

    async def test_other_branches_stay_open(self, host: Host):
        await host.repositories.ensure("shop", "A shop")
        await host.repositories.protect("acme/shop", "main")
        token = await host.repositories.token("acme/shop")
        sha = await host.push("acme/shop", "agent/card-1", {"a.txt": "a\n"}, token)
        assert await host.repositories.branch_sha("acme/shop", "agent/card-1") == sha

    async def test_a_branch_that_is_not_there_is_not_found(self, host: Host):
        await host.repositories.ensure("shop", "A shop", empty=True)
        with pytest.raises(NotFound):
            await host.repositories.protect("acme/shop", "main")


class TestToken:
    async def test_it_lasts_at_most_an_hour(self, host: Host):
        await host.repositories.ensure("shop", "A shop")
        left = (await host.repositories.token("acme/shop")).expires_at - datetime.now(UTC)
        assert timedelta(minutes=50) < left <= timedelta(hours=1)

    async def test_it_opens_its_own_repository_only(self, host: Host):
        await host.repositories.ensure("shop", "A shop")
        await host.repositories.ensure("bank", "A bank")
        token = await host.repositories.token("acme/shop")
        with pytest.raises(Forbidden):
            await host.push("acme/bank", "work", {"a.txt": "a\n"}, token)
        assert await host.repositories.branch_sha("acme/bank", "work") is None

    @pytest.mark.parametrize("name", ["acme/none", "other/shop", "nonsense"])
    async def test_there_is_none_for_what_is_not_ours(self, host: Host, name: str):
        with pytest.raises(NotFound):
            await host.repositories.token(name)
        with pytest.raises(NotFound):
            await host.repositories.platform_token(name)


class TestCompare:
    async def test_it_counts_commits_files_and_lines_since_the_branches_parted(self, host: Host):
        await host.repositories.ensure("shop", "A shop", empty=True)
        token = await host.repositories.platform_token("acme/shop")
        await host.push("acme/shop", "main", {"a.txt": "1\n2\n3\n", "b.txt": "b\n"}, token)
        await host.push("acme/shop", "work", {"a.txt": "1\ntwo\n3\n"}, token)
        await host.push("acme/shop", "main", {"a.txt": "1\n2\n3\n", "b.txt": "b\n", "later.txt": "x\n"}, token)
        found = await host.repositories.compare("acme/shop", "main", "work")
        assert found.commits == 1
        assert found.head_sha == await host.repositories.branch_sha("acme/shop", "work")
        assert [(f.path, f.status, f.additions, f.deletions) for f in found.files] == [
            ("a.txt", "modified", 1, 1),
            ("b.txt", "removed", 0, 1),
        ]
        assert found.files[0].patch == "@@ -1,3 +1,3 @@\n 1\n-2\n+two\n 3"

    async def test_a_branch_without_changes_has_none(self, host: Host):
        await host.repositories.ensure("shop", "A shop")
        found = await host.repositories.compare("acme/shop", "main", "main")
        assert (found.commits, found.files) == (0, ())
        assert found.head_sha == await host.repositories.branch_sha("acme/shop", "main")

    async def test_an_unknown_branch_is_not_found(self, host: Host):
        await host.repositories.ensure("shop", "A shop")
        with pytest.raises(NotFound):
            await host.repositories.compare("acme/shop", "main", "nothing")


class TestEnsurePullRequest:
    async def _pushed(self, host: Host, branch: str = "agent/card-1", text: str = "a\n") -> None:
        await host.repositories.ensure("shop", "A shop")
        await host.repositories.protect("acme/shop", "main")
        token = await host.repositories.token("acme/shop")
        await host.push("acme/shop", branch, {"a.txt": text}, token)

    async def _ensure(self, host: Host, head: str = "agent/card-1", title: str = "Add a") -> PullRequest:
        return await host.repositories.ensure_pull_request("acme/shop", "main", head, title, "Did it.")

    async def test_the_first_is_number_one_and_has_an_address(self, host: Host):
        await self._pushed(host)
        opened = await self._ensure(host)
        assert opened.number == 1
        assert opened.html_url.endswith("/acme/shop/pull/1")

    async def test_an_open_one_of_the_same_branches_is_adopted(self, host: Host):
        await self._pushed(host)
        first = await self._ensure(host)
        await self._pushed(host, text="b\n")
        assert await self._ensure(host, title="Another title") == first

    async def test_several_at_once_open_one(self, host: Host):
        await self._pushed(host)
        opened = await asyncio.gather(*(self._ensure(host) for _ in range(4)))
        assert {pull.number for pull in opened} == {1}

    async def test_another_branch_has_its_own(self, host: Host):
        await self._pushed(host)
        await self._ensure(host)
        await self._pushed(host, "agent/card-2")
        assert (await self._ensure(host, "agent/card-2")).number == 2

    async def test_after_a_merge_new_work_on_the_branch_gets_a_new_one(self, host: Host):
        await self._pushed(host)
        await self._ensure(host)
        await host.merge("acme/shop", 1)
        assert (await host.repositories.compare("acme/shop", "main", "agent/card-1")).commits == 0
        with pytest.raises(Invalid):
            await self._ensure(host)
        await self._pushed(host, text="more\n")
        assert (await self._ensure(host)).number == 2

    async def test_branches_that_are_not_there_or_alike_are_refused(self, host: Host):
        await host.repositories.ensure("shop", "A shop")
        for head in ("nothing", "main"):
            with pytest.raises(Invalid):
                await self._ensure(host, head)

    async def test_a_repository_that_is_not_there_is_not_found(self, host: Host):
        with pytest.raises(NotFound):
            await self._ensure(host)


async def test_an_app_that_may_not_open_pull_requests_is_told_so(tmp_path: Path):
    permissions = {"administration": "write", "contents": "write", "metadata": "read", "pull_requests": "read"}
    config = GitHubConfig(tmp_path / "github", "acme", "4711", 12, PUBLIC, permissions=permissions)
    async with serve(create_app(config)) as url:
        host = EmulatedHost(GitHubRepositories(url, "acme", "4711", 12, PEM), url, tmp_path)
        await host.repositories.ensure("shop", "A shop")
        await host.push("acme/shop", "work", {"a.txt": "a\n"}, await host.repositories.token("acme/shop"))
        with pytest.raises(Forbidden, match="Resource not accessible by integration"):
            await host.repositories.ensure_pull_request("acme/shop", "main", "work", "Work", "")


class TestErrors:
    """What the adapter makes of a GitHub that refuses, limits or fails."""

    async def _refused(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> PlatformError:
        async def answer(request: Request) -> JSONResponse:
            if request.url.path.endswith("/access_tokens"):
                expires = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
                return JSONResponse({"token": "ghs_x", "expires_at": expires}, 201)
            return JSONResponse(body, status, headers)

        async with serve(Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])) as url:
            with pytest.raises(PlatformError) as caught:
                await GitHubRepositories(url, "acme", "1", 2, PEM).get("acme/shop")
        return caught.value

    @pytest.mark.parametrize(
        ("message", "headers", "seconds"),
        [
            ("API rate limit exceeded", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}, 1),
            ("You have exceeded a secondary rate limit", {"retry-after": "17"}, 17),
            ("You have exceeded a secondary rate limit", {}, 60),
        ],
    )
    async def test_a_rate_limit_says_when_to_come_back(self, message: str, headers: dict[str, str], seconds: int):
        error = await self._refused(403, {"message": message}, headers)
        assert isinstance(error, Unavailable)
        assert error.retry_after == seconds

    async def test_a_missing_permission_is_forbidden_and_names_it(self):
        error = await self._refused(403, {"message": "Resource not accessible by integration"})
        assert isinstance(error, Forbidden)
        assert "Resource not accessible by integration" in error.detail

    async def test_a_failing_github_is_unavailable(self):
        assert isinstance(await self._refused(502, {"message": "Bad gateway"}), Unavailable)

    async def test_a_github_that_does_not_answer_is_unavailable(self):
        async with serve(Starlette()) as url:
            pass
        with pytest.raises(Unavailable):
            await GitHubRepositories(url, "acme", "1", 2, PEM).get("acme/shop")

    async def test_a_key_github_does_not_know_is_forbidden_and_says_which_settings(self, tmp_path: Path):
        other = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
        public = other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        async with serve(create_app(GitHubConfig(tmp_path, "acme", "1", 2, public.decode()))) as url:
            with pytest.raises(Forbidden, match="GITHUB_APP_PRIVATE_KEY"):
                await GitHubRepositories(url, "acme", "1", 2, PEM).get("acme/shop")

    async def test_a_key_that_is_none_is_refused(self):
        with pytest.raises(Invalid, match="GITHUB_APP_PRIVATE_KEY"):
            await GitHubRepositories("http://127.0.0.1:1", "acme", "1", 2, "nonsense").get("acme/shop")


@pytest.fixture
async def renamed(tmp_path: Path) -> AsyncGenerator[GitHubRepositories]:
    """`shop`, described as "A shop", is called `shop-of-old` now: GitHub leads on from the old name to the new one."""
    app = create_app(GitHubConfig(tmp_path, "acme", "1", 2, PUBLIC))

    async def leading_on(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] in ("GET", "DELETE") and scope["path"] == "/repos/acme/shop":
            location = str(Request(scope).url.replace(path="/repos/acme/shop-of-old"))
            moved = JSONResponse({"message": "Moved Permanently"}, 301, {"location": location})
            return await moved(scope, receive, send)
        return await app(scope, receive, send)

    async with serve(leading_on) as url:
        repositories = GitHubRepositories(url, "acme", "1", 2, PEM)
        await repositories.ensure("shop-of-old", "A shop")
        yield repositories


class TestRenamed:
    async def test_the_name_that_a_repository_gave_up_is_free(self, renamed: GitHubRepositories):
        made = await renamed.ensure("shop", "Another shop")
        assert made.full_name == "acme/shop"

    async def test_it_stays_when_it_is_to_be_deleted_by_its_old_name(self, renamed: GitHubRepositories):
        with pytest.raises(Conflict, match=r"acme/shop is called acme/shop-of-old now, so it was not deleted"):
            await renamed.remove("shop", "A shop")
        assert not await renamed.remove("shop", "Another shop")
        assert await renamed.get("acme/shop-of-old") is not None
        assert await renamed.remove("shop-of-old", "A shop")


class TestPlatformsOwnToken:
    async def test_it_is_kept_until_shortly_before_it_expires(self, tmp_path: Path):
        asked: list[str] = []
        config = GitHubConfig(tmp_path, "acme", "1", 2, PUBLIC)
        app = create_app(config)

        async def counting(scope: Any, receive: Any, send: Any) -> None:
            asked.append(scope.get("path", ""))
            await app(scope, receive, send)

        clock = ManualClock(datetime.now(UTC))
        async with serve(counting) as url:
            repositories = GitHubRepositories(url, "acme", "1", 2, PEM, clock)
            await repositories.get("acme/shop")
            await repositories.get("acme/shop")
            assert sum(path.endswith("/access_tokens") for path in asked) == 1
            clock.advance(56 * 60)
            await repositories.get("acme/shop")
        assert sum(path.endswith("/access_tokens") for path in asked) == 2
