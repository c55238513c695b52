"""REST operations on branches, refs, protection and comparisons."""

from typing import Any

from local.github import git, history, resources
from local.github.call import Answer, Call
from local.github.errors import GitHubError, not_found
from local.github.store import Repo

type Json = dict[str, Any]

_SWITCHES = (
    "required_linear_history",
    "allow_force_pushes",
    "allow_deletions",
    "block_creations",
    "required_conversation_resolution",
    "lock_branch",
    "allow_fork_syncing",
)
_NOT_EMULATED = ("required_status_checks", "required_linear_history", "required_conversation_resolution")
_COMMITS = 250


async def list_branches(call: Call) -> Answer:
    repo = call.repo("contents")
    limit, skip = call.page(100)
    url = call.links.repo(repo)
    found = sorted((await git.branches(repo.path)).items())[skip : skip + limit]
    return 200, [
        {
            "name": name,
            "commit": {"sha": sha, "url": f"{url}/commits/{sha}"},
            "protected": name in repo.protection,
            "protection_url": f"{url}/branches/{name}/protection",
        }
        for name, sha in found
    ]


async def get_branch(call: Call) -> Answer:
    repo, name, sha = await _branch(call)
    (tip,) = await history.log(repo.path, sha, limit=1)
    url, protected = call.links.repo(repo), name in repo.protection
    checks = {"enforcement_level": "off", "contexts": list[str](), "checks": list[Json]()}
    return 200, {
        "name": name,
        "commit": resources.commit(call.links, repo, tip),
        "_links": {
            "self": f"{url}/branches/{name}",
            "html": f"{call.links.web}/{repo.full_name}/tree/{name}",
        },
        "protected": protected,
        "protection": {"enabled": protected, "required_status_checks": checks},
        "protection_url": f"{url}/branches/{name}/protection",
    }


async def get_protection(call: Call) -> Answer:
    repo, name, _ = await _branch(call, "administration")
    if name not in repo.protection:
        raise not_found("Branch not protected")
    return 200, _protection(call, repo, name)


async def put_protection(call: Call) -> Answer:
    repo, name, _ = await _branch(call, "administration", "write")
    for setting in _NOT_EMULATED:
        if call.body.get(setting):
            raise GitHubError(422, f"{setting} is not emulated.", [f"{setting} is not emulated."])
    repo = call.store.save(repo, protection=repo.protection | {name: dict(call.body)})
    return 200, _protection(call, repo, name)


async def delete_protection(call: Call) -> Answer:
    repo, name, _ = await _branch(call, "administration", "write")
    if name not in repo.protection:
        raise not_found("Branch not protected")
    rest = {branch: rule for branch, rule in repo.protection.items() if branch != name}
    call.store.save(repo, protection=rest)
    return 204, None


async def get_ref(call: Call) -> Answer:
    repo = call.repo("contents")
    name = f"refs/{call.params['ref']}"
    found = (await git.refs(repo.path, name)).get(name) if git.is_ref(name) else None
    if found is None:
        raise not_found()
    return 200, resources.reference(call.links, repo, name, *found)


async def create_ref(call: Call) -> Answer:
    repo = call.repo("contents", "write")
    name, sha = call.body["ref"], call.body["sha"]
    if not name.startswith(("refs/heads/", "refs/tags/")) or not git.is_ref(name):
        raise GitHubError(422, "Reference name must start with 'refs/heads/' or 'refs/tags/' and be valid.", [])
    if not git.is_sha(sha) or await git.resolve(repo.path, sha) is None:
        raise GitHubError(422, "Object does not exist", [])
    if name in await git.refs(repo.path, name):
        raise GitHubError(422, "Reference already exists", [])
    try:
        await git.run(repo.path, "update-ref", name, sha, "0" * 40)
    except git.GitFailed:
        raise GitHubError(422, "Reference already exists", []) from None
    return 201, resources.reference(call.links, repo, name, "commit", sha)


async def delete_ref(call: Call) -> Answer:
    repo = call.repo("contents", "write")
    name = f"refs/{call.params['ref']}"
    if not git.is_ref(name) or name not in await git.refs(repo.path, name):
        raise GitHubError(422, "Reference does not exist", [])
    branch = name.removeprefix("refs/heads/")
    if branch == repo.default_branch or branch in repo.protection:
        raise GitHubError(422, "Cannot delete the default branch or a protected branch", [])
    await git.run(repo.path, "update-ref", "-d", name)
    return 204, None


async def compare(call: Call) -> Answer:
    """What head has that base has not, since they parted. Files come with the first page of commits only."""
    repo = call.repo("contents")
    base_name, dots, head_name = call.params["basehead"].partition("...")
    base, head = [await git.resolve(repo.path, _here(repo, name)) for name in (base_name, head_name)]
    if not dots or base is None or head is None:
        raise not_found()
    fork = await history.merge_base(repo.path, base, head)
    if fork is None:
        raise not_found(f"No common ancestor between {base_name} and {head_name}.")
    ahead, behind = [await history.count(repo.path, span) for span in (f"{base}..{head}", f"{head}..{base}")]
    limit, skip = call.page(_COMMITS)
    taken = max(0, min(limit, ahead - skip))
    # Oldest first, as GitHub pages them; log counts from the newest.
    commits = await history.log(repo.path, f"{base}..{head}", limit=taken, skip=max(0, ahead - skip - taken))
    files = await history.changes(repo.path, fork, head) if skip == 0 else []
    (base_commit,), (fork_commit,) = [await history.log(repo.path, sha, limit=1) for sha in (base, fork)]
    url, web = call.links.repo(repo), f"{call.links.web}/{repo.full_name}/compare/{base_name}...{head_name}"
    return 200, {
        "url": f"{url}/compare/{base_name}...{head_name}",
        "html_url": web,
        "permalink_url": f"{call.links.web}/{repo.full_name}/compare/{base}...{head}",
        "diff_url": f"{web}.diff",
        "patch_url": f"{web}.patch",
        "base_commit": resources.commit(call.links, repo, base_commit),
        "merge_base_commit": resources.commit(call.links, repo, fork_commit),
        "status": _status(ahead, behind),
        "ahead_by": ahead,
        "behind_by": behind,
        "total_commits": ahead,
        "commits": [resources.commit(call.links, repo, item) for item in reversed(commits)],
        "files": [_file(call, repo, head, change) for change in files],
    }


def _here(repo: Repo, name: str) -> str:
    """`owner:branch` and `owner:repo:branch` name this repository too; there are no forks."""
    owner, colon, branch = name.rpartition(":")
    mine = owner.lower() in {repo.owner.lower(), f"{repo.owner}:{repo.name}".lower()}
    return branch if colon and mine else name


def _status(ahead: int, behind: int) -> str:
    if ahead and behind:
        return "diverged"
    return "ahead" if ahead else "behind" if behind else "identical"


def _file(call: Call, repo: Repo, head: str, change: history.Change) -> Json:
    web = f"{call.links.web}/{repo.full_name}"
    entry: Json = {
        "sha": change.sha,
        "filename": change.path,
        "status": change.status,
        "additions": change.additions,
        "deletions": change.deletions,
        "changes": change.additions + change.deletions,
        "blob_url": f"{web}/blob/{head}/{change.path}",
        "raw_url": f"{web}/raw/{head}/{change.path}",
        "contents_url": f"{call.links.repo(repo)}/contents/{change.path}?ref={head}",
    }
    entry |= {"patch": change.patch} if change.patch is not None else {}
    return entry | ({"previous_filename": change.previous} if change.previous else {})


def _protection(call: Call, repo: Repo, branch: str) -> Json:
    rule, url = repo.protection[branch], f"{call.links.repo(repo)}/branches/{branch}/protection"
    shown: Json = {
        "url": url,
        "enforce_admins": {"url": f"{url}/enforce_admins", "enabled": bool(rule["enforce_admins"])},
    }
    shown |= {switch: {"enabled": bool(rule.get(switch))} for switch in _SWITCHES}
    reviews = rule["required_pull_request_reviews"]
    if reviews is not None:
        shown["required_pull_request_reviews"] = {
            "url": f"{url}/required_pull_request_reviews",
            "dismiss_stale_reviews": reviews.get("dismiss_stale_reviews", False),
            "require_code_owner_reviews": reviews.get("require_code_owner_reviews", False),
            "require_last_push_approval": reviews.get("require_last_push_approval", False),
            "required_approving_review_count": reviews.get("required_approving_review_count", 1),
        }
    if rule["restrictions"] is not None:
        links = {f"{kind}_url": f"{url}/restrictions/{kind}" for kind in ("users", "teams", "apps")}
        nobody: Json = {kind: [] for kind in ("users", "teams", "apps")}
        shown["restrictions"] = {"url": f"{url}/restrictions"} | links | nobody
    return shown


async def _branch(call: Call, permission: str = "contents", level: str = "read") -> tuple[Repo, str, str]:
    repo, name = call.repo(permission, level), call.params["branch"]
    sha = (await git.branches(repo.path)).get(name)
    if sha is None:
        raise not_found("Branch not found")
    return repo, name, sha
