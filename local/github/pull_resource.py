"""GitHub's JSON for a pull request."""

from typing import Any

from local.github import git, history, resources
from local.github.config import GitHubConfig
from local.github.errors import not_found
from local.github.resources import Links
from local.github.store import Repo

type Json = dict[str, Any]


def numbered(repo: Repo, number: int) -> Json:
    """As it is kept. Raises 404."""
    for pull in repo.pulls:
        if pull["number"] == number:
            return pull
    raise not_found()


async def pull_request(links: Links, config: GitHubConfig, repo: Repo, pull: Json) -> Json:
    """Its figures are read from git: those of the branches while it is open, else as it was merged."""
    base, head = [await tip(repo, pull, end) for end in ("base", "head")]
    fork = await history.merge_base(repo.path, base, head)
    files = await history.changes(repo.path, fork, head, limit=3000)
    url, web = links.repo(repo), f"{links.web}/{repo.full_name}/pull/{pull['number']}"
    api, issue = f"{url}/pulls/{pull['number']}", f"{url}/issues/{pull['number']}"
    addresses = {
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
        "_links": {name: {"href": href} for name, href in addresses.items()},
        "issue_url": issue,
        **{
            f"{name}_url": addresses[name]
            for name in ("comments", "review_comments", "review_comment", "commits", "statuses")
        },
        "user": resources.account(links, f"{config.app_slug}[bot]", "Bot"),
        "base": _end(links, repo, pull["base"], base),
        "head": _end(links, repo, pull["head"], head),
        "created_at": pull["created_at"],
        "updated_at": pull["updated_at"],
        "closed_at": pull.get("merged_at"),
        "merged_at": pull.get("merged_at"),
        "merge_commit_sha": pull.get("merge_commit_sha"),
        "merged": "merged_at" in pull,
        "merged_by": resources.account(links, repo.owner) if "merged_at" in pull else None,
        "mergeable": None,
        **dict.fromkeys(("assignee", "milestone", "auto_merge"), None),
        **dict.fromkeys(("locked", "maintainer_can_modify"), False),
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


def _end(links: Links, repo: Repo, branch: str, sha: str) -> Json:
    return {
        "label": f"{repo.owner}:{branch}",
        "ref": branch,
        "sha": sha,
        "user": resources.account(links, repo.owner),
        "repo": resources.repository(links, repo),
    }


async def tip(repo: Repo, pull: Json, end: str) -> str:
    """The commit at its `base` or `head`: of an open one the branch's, else what was merged."""
    kept = pull[f"{end}_sha"]
    return kept if pull["state"] == "closed" else await git.resolve(repo.path, pull[end]) or kept
