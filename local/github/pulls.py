"""REST operations on pull requests: opened, listed, read. Figures are read from git at each request."""

from typing import Any

from local.github import git, history, resources
from local.github.call import Answer, Call
from local.github.errors import GitHubError, invalid, not_found
from local.github.store import Repo
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
    return 201, await _show(call, repo, pull)


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
    return 200, [await _show(call, repo, pull) for pull in chosen[skip : skip + limit]]


async def get(call: Call) -> Answer:
    repo = call.repo("pull_requests")
    for pull in repo.pulls:
        if pull["number"] == call.params["pull_number"]:
            return 200, await _show(call, repo, pull)
    raise not_found()


async def _show(call: Call, repo: Repo, pull: Json) -> Json:
    base, head = [await git.resolve(repo.path, pull[end]) or pull[f"{end}_sha"] for end in ("base", "head")]
    fork = await history.merge_base(repo.path, base, head)
    files = await history.changes(repo.path, fork, head, limit=3000)
    url, web = call.links.repo(repo), f"{call.links.web}/{repo.full_name}/pull/{pull['number']}"
    api, issue = f"{url}/pulls/{pull['number']}", f"{url}/issues/{pull['number']}"
    links = {
        "self": api,
        "html": web,
        "issue": issue,
        "comments": f"{issue}/comments",
        "review_comments": f"{api}/comments",
        "review_comment": f"{url}/pulls/comments{{/number}}",
        "commits": f"{api}/commits",
        "statuses": f"{url}/statuses/{head}",
    }
    return {
        "id": repo.id + pull["number"],
        "node_id": resources.node_id(f"PullRequest:{repo.id}:{pull['number']}"),
        "number": pull["number"],
        "state": pull["state"],
        "title": pull["title"],
        "body": pull["body"],
        "draft": pull["draft"],
        "url": api,
        "html_url": web,
        "diff_url": f"{web}.diff",
        "patch_url": f"{web}.patch",
        "_links": {name: {"href": href} for name, href in links.items()},
        "issue_url": issue,
        **{
            f"{name}_url": links[name]
            for name in ("comments", "review_comments", "review_comment", "commits", "statuses")
        },
        "user": resources.account(call.links, f"{call.config.app_slug}[bot]", "Bot"),
        "base": _end(call, repo, pull["base"], base),
        "head": _end(call, repo, pull["head"], head),
        "created_at": pull["created_at"],
        "updated_at": pull["updated_at"],
        **dict.fromkeys(("closed_at", "merged_at", "merge_commit_sha", "merged_by", "mergeable"), None),
        **dict.fromkeys(("assignee", "milestone", "auto_merge"), None),
        **dict.fromkeys(("locked", "merged", "maintainer_can_modify"), False),
        "assignees": [],
        "labels": [],
        "requested_reviewers": [],
        "requested_teams": [],
        "mergeable_state": "unknown",
        "author_association": "NONE",
        "comments": 0,
        "review_comments": 0,
        "commits": await history.count(repo.path, f"{base}..{head}"),
        "additions": sum(change.additions for change in files),
        "deletions": sum(change.deletions for change in files),
        "changed_files": len(files),
    }


def _end(call: Call, repo: Repo, branch: str, sha: str) -> Json:
    return {
        "label": f"{repo.owner}:{branch}",
        "ref": branch,
        "sha": sha,
        "user": resources.account(call.links, repo.owner),
        "repo": resources.repository(call.links, repo),
    }
