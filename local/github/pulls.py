"""REST operations on pull requests: opened, listed, read, merged."""

from typing import Any

from local.github import git, history
from local.github.call import Answer, Call
from local.github.errors import GitHubError, invalid
from local.github.pull_resource import numbered, pull_request
from shared.core.clock import iso

type Json = dict[str, Any]


async def create(call: Call) -> Answer:
    repo = call.repo("pull_requests", "write")
    if call.body.get("issue"):
        raise GitHubError(422, "Turning an issue into a pull request is not emulated.", [])
    base, head = call.body["base"], call.body["head"].rpartition(":")[2]
    tips = [await git.resolve(repo.path, name) for name in (base, head)]
    for field, tip in zip(("base", "head"), tips, strict=True):
        if tip is None:
            raise invalid("PullRequest", field, f"{field} does not exist", "invalid")
    if not await history.count(repo.path, f"{tips[0]}..{tips[1]}"):
        raise invalid("PullRequest", "head", f"No commits between {base} and {head}")
    repo = call.store.read(repo.owner, repo.name)
    if any(pull["state"] == "open" and (pull["base"], pull["head"]) == (base, head) for pull in repo.pulls):
        raise invalid("PullRequest", "head", f"A pull request already exists for {repo.owner}:{head}.")
    now = iso(call.config.clock.now())[:19] + "Z"
    pull: Json = {
        "number": len(repo.pulls) + 1,
        "title": call.body.get("title") or head,
        "body": call.body.get("body"),
        "draft": call.body.get("draft", False),
        "base": base,
        "head": head,
        "base_sha": tips[0],
        "head_sha": tips[1],
        "state": "open",
        "created_at": now,
        "updated_at": now,
    }
    repo = call.store.save(repo, pulls=[*repo.pulls, pull])
    return 201, await pull_request(call.links, call.config, repo, pull)


async def listing(call: Call) -> Answer:
    """Newest first; `state`, `head` and `base` filter as on GitHub."""
    repo = call.repo("pull_requests")
    limit, skip = call.page(100)
    state, base, head = (call.query.get(name) for name in ("state", "base", "head"))
    chosen = [
        pull
        for pull in reversed(repo.pulls)
        if (state or "open") in {"all", pull["state"]}
        and base in {None, pull["base"]}
        and head in {None, f"{repo.owner}:{pull['head']}"}
    ]
    return 200, [await pull_request(call.links, call.config, repo, pull) for pull in chosen[skip : skip + limit]]


async def get(call: Call) -> Answer:
    repo = call.repo("pull_requests")
    return 200, await pull_request(call.links, call.config, repo, numbered(repo, call.params["pull_number"]))


async def merge(call: Call) -> Answer:
    repo = call.repo("contents", "write")
    if call.body.get("merge_method", "merge") != "merge":
        raise GitHubError(405, "Squash and rebase merges are not allowed on this repository.")
    sha = await call.merges.merge(call.links, repo, call.params["pull_number"], call.body)
    return 200, {"sha": sha, "merged": True, "message": "Pull Request successfully merged"}
