"""GitHub's JSON for an organisation, a repository, a branch, a commit: complete, so that any client can read it."""

import base64
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from local.github.config import GitHubConfig
from local.github.history import Commit
from local.github.store import Repo

type Json = dict[str, Any]

_EPOCH = "2020-01-01T00:00:00Z"
_USER_LINKS = {
    "followers_url": "/followers",
    "following_url": "/following{/other_user}",
    "gists_url": "/gists{/gist_id}",
    "starred_url": "/starred{/owner}{/repo}",
    "subscriptions_url": "/subscriptions",
    "organizations_url": "/orgs",
    "repos_url": "/repos",
    "events_url": "/events{/privacy}",
    "received_events_url": "/received_events",
}
_REPO_LINKS = {
    "archive_url": "/{archive_format}{/ref}",
    "assignees_url": "/assignees{/user}",
    "blobs_url": "/git/blobs{/sha}",
    "branches_url": "/branches{/branch}",
    "collaborators_url": "/collaborators{/collaborator}",
    "comments_url": "/comments{/number}",
    "commits_url": "/commits{/sha}",
    "compare_url": "/compare/{base}...{head}",
    "contents_url": "/contents/{+path}",
    "contributors_url": "/contributors",
    "deployments_url": "/deployments",
    "downloads_url": "/downloads",
    "events_url": "/events",
    "forks_url": "/forks",
    "git_commits_url": "/git/commits{/sha}",
    "git_refs_url": "/git/refs{/sha}",
    "git_tags_url": "/git/tags{/sha}",
    "hooks_url": "/hooks",
    "issue_comment_url": "/issues/comments{/number}",
    "issue_events_url": "/issues/events{/number}",
    "issues_url": "/issues{/number}",
    "keys_url": "/keys{/key_id}",
    "labels_url": "/labels{/name}",
    "languages_url": "/languages",
    "merges_url": "/merges",
    "milestones_url": "/milestones{/number}",
    "notifications_url": "/notifications{?since,all,participating}",
    "pulls_url": "/pulls{/number}",
    "releases_url": "/releases{/id}",
    "stargazers_url": "/stargazers",
    "statuses_url": "/statuses/{sha}",
    "subscribers_url": "/subscribers",
    "subscription_url": "/subscription",
    "tags_url": "/tags",
    "teams_url": "/teams",
    "trees_url": "/git/trees{/sha}",
}
_COUNTS = ("forks", "forks_count", "open_issues", "open_issues_count", "watchers", "watchers_count")
_MORE_COUNTS = ("stargazers_count", "network_count", "subscribers_count", "size")


@dataclass(frozen=True)
class Links:
    """Where this emulator answers: `api` for programs, `web` for people and git. No trailing slash."""

    api: str
    web: str

    @classmethod
    def of(cls, request: Request, config: GitHubConfig) -> "Links":
        origin = f"{request.url.scheme}://{request.url.netloc}"
        prefix = "/api/v3" if request.url.path.startswith("/api/v3/") else ""
        return cls(origin + prefix, config.web_url.rstrip("/") or origin)

    def repo(self, repo: Repo) -> str:
        return f"{self.api}/repos/{repo.full_name}"


def node_id(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def number_of(login: str) -> int:
    """A stable id for an account, of which only the name is known."""
    return int.from_bytes(login.lower().encode()[:6].ljust(6, b"\0"))


def account(links: Links, login: str, kind: str = "Organization") -> Json:
    url = f"{links.api}/users/{login}"
    return {
        "login": login,
        "id": number_of(login),
        "node_id": node_id(f"User:{login}"),
        "avatar_url": f"{links.web}/{login}.png",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{links.web}/{login}",
        "type": kind,
        "site_admin": False,
    } | {key: url + end for key, end in _USER_LINKS.items()}


def organization(links: Links, login: str) -> Json:
    url = f"{links.api}/orgs/{login}"
    plain = {f"{name}_url": f"{url}/{name}" for name in ("repos", "events", "hooks", "issues")}
    return plain | {
        "login": login,
        "id": number_of(login),
        "node_id": node_id(f"Organization:{login}"),
        "url": url,
        "members_url": f"{url}/members{{/member}}",
        "public_members_url": f"{url}/public_members{{/member}}",
        "avatar_url": f"{links.web}/{login}.png",
        "description": None,
        "html_url": f"{links.web}/{login}",
        "has_organization_projects": True,
        "has_repository_projects": True,
        "public_repos": 0,
        "public_gists": 0,
        "followers": 0,
        "following": 0,
        "type": "Organization",
        "created_at": _EPOCH,
        "updated_at": _EPOCH,
        "archived_at": None,
    }


def app(links: Links, config: GitHubConfig) -> Json:
    return {
        "id": int(config.app_id) if config.app_id.isdigit() else number_of(config.app_id),
        "slug": config.app_slug,
        "node_id": node_id(f"Integration:{config.app_id}"),
        "owner": account(links, config.org),
        "name": config.app_slug,
        "description": None,
        "external_url": links.web,
        "html_url": f"{links.web}/apps/{config.app_slug}",
        "created_at": _EPOCH,
        "updated_at": _EPOCH,
        "permissions": dict(config.permissions),
        "events": [],
    }


def installation(links: Links, config: GitHubConfig) -> Json:
    url = f"{links.api}/app/installations/{config.installation_id}"
    return {
        "id": config.installation_id,
        "account": account(links, config.org),
        "app_id": app(links, config)["id"],
        "app_slug": config.app_slug,
        "target_id": number_of(config.org),
        "target_type": "Organization",
        "repository_selection": "all",
        "access_tokens_url": f"{url}/access_tokens",
        "repositories_url": f"{links.api}/installation/repositories",
        "html_url": f"{links.web}/organizations/{config.org}/settings/installations/{config.installation_id}",
        "permissions": dict(config.permissions),
        "events": [],
        "single_file_name": None,
        "created_at": _EPOCH,
        "updated_at": _EPOCH,
        "suspended_by": None,
        "suspended_at": None,
    }


def repository(links: Links, repo: Repo) -> Json:
    url, web = links.repo(repo), f"{links.web}/{repo.full_name}"
    host = links.web.partition("://")[2]
    flags = {f"has_{name}": True for name in ("issues", "projects", "wiki", "downloads")}
    return {
        **{key: url + end for key, end in _REPO_LINKS.items()},
        **dict.fromkeys((*_COUNTS, *_MORE_COUNTS), 0),
        **flags,
        **{f"has_{name}": False for name in ("pages", "discussions")},
        "id": repo.id,
        "node_id": node_id(f"Repository:{repo.id}"),
        "name": repo.name,
        "full_name": repo.full_name,
        "owner": account(links, repo.owner),
        "private": repo.private,
        "visibility": "private" if repo.private else "public",
        "is_template": repo.state["template"],
        "description": repo.state["description"],
        "default_branch": repo.default_branch,
        "url": url,
        "html_url": web,
        "clone_url": f"{web}.git",
        "git_url": f"git://{host}/{repo.full_name}.git",
        "ssh_url": f"git@{host}:{repo.full_name}.git",
        "svn_url": web,
        "mirror_url": None,
        "homepage": None,
        "language": None,
        "license": None,
        "fork": False,
        "archived": False,
        "disabled": False,
        "open_issues": sum(pull["state"] == "open" for pull in repo.pulls),
        "created_at": repo.state["created_at"],
        "updated_at": repo.state.get("updated_at", repo.state["created_at"]),
        "pushed_at": repo.state["pushed_at"],
    }


def commit(links: Links, repo: Repo, item: Commit) -> Json:
    url, web = links.repo(repo), f"{links.web}/{repo.full_name}"
    people = {
        "author": {"name": item.author, "email": item.author_email, "date": item.authored_at},
        "committer": {"name": item.committer, "email": item.committer_email, "date": item.committed_at},
    }
    git_url = f"{url}/git/commits/{item.sha}"
    return {
        "sha": item.sha,
        "node_id": node_id(f"Commit:{item.sha}"),
        "url": f"{url}/commits/{item.sha}",
        "html_url": f"{web}/commit/{item.sha}",
        "comments_url": f"{url}/commits/{item.sha}/comments",
        "author": None,
        "committer": None,
        "parents": [
            {"sha": sha, "url": f"{url}/commits/{sha}", "html_url": f"{web}/commit/{sha}"} for sha in item.parents
        ],
        "commit": people
        | {
            "url": git_url,
            "message": item.message,
            "comment_count": 0,
            "tree": {"sha": item.tree, "url": f"{url}/git/trees/{item.tree}"},
        },
    }


def reference(links: Links, repo: Repo, name: str, kind: str, sha: str) -> Json:
    url = links.repo(repo)
    return {
        "ref": name,
        "node_id": node_id(f"Ref:{repo.id}:{name}"),
        "url": f"{url}/git/{name}",
        "object": {"type": kind, "sha": sha, "url": f"{url}/git/{kind}s/{sha}"},
    }
