"""REST operations on the App, the organisation and its repositories."""

from pathlib import Path

from local.github import git, resources
from local.github.auth import expiry
from local.github.call import Answer, Call
from local.github.errors import GitHubError, forbidden, not_found, unauthenticated
from local.github.store import Repo


async def get_app(call: Call) -> Answer:
    call.require_app()
    return 200, resources.app(call.links, call.config)


async def get_installation(call: Call) -> Answer:
    call.require_app()
    if call.params["installation_id"] != call.config.installation_id:
        raise not_found()
    return 200, resources.installation(call.links, call.config)


async def create_token(call: Call) -> Answer:
    call.require_app()
    token, expires, actor = call.credentials.issue(call.params["installation_id"], call.body)
    ids = actor.repository_ids
    answer = {"token": token, "expires_at": expiry(expires), "permissions": dict(actor.permissions)}
    if ids is None:
        return 201, answer | {"repository_selection": "all"}
    chosen = [repo for repo in call.store.of_owner(call.config.org) if repo.id in ids]
    listed = [resources.repository(call.links, repo) for repo in chosen]
    return 201, answer | {"repository_selection": "selected", "repositories": listed}


async def get_organization(call: Call) -> Answer:
    return 200, resources.organization(call.links, _organization(call, call.params["org"]))


async def create_repository(call: Call) -> Answer:
    org, name, description = _creator(call, call.params["org"]), call.body["name"], call.body.get("description")
    private = call.body.get("visibility", "private" if call.body.get("private") else "public") == "private"

    async def readme(path: Path) -> None:
        text = f"# {name}\n" + (f"\n{description}\n" if description else "")
        tree = await git.write_tree(path, {"README.md": (text.encode(), False)})
        await git.commit_tree(path, tree, "Initial commit", "main")

    fill = readme if call.body.get("auto_init") else None
    template = call.body.get("is_template", False)
    repo = await call.store.create(org, name, description, private=private, template=template, fill=fill)
    return 201, resources.repository(call.links, repo)


async def generate(call: Call) -> Answer:
    """A new repository whose one commit holds the template's files, without its history."""
    template = call.store.read(call.params["template_owner"], call.params["template_repo"])
    call.actor.require(template, "contents", "read")
    if call.body.get("include_all_branches"):
        raise GitHubError(422, "include_all_branches is not emulated.", [])
    branch = template.default_branch
    source = await git.resolve(template.path, branch)
    if not template.state["template"] or source is None:
        raise GitHubError(422, f"{template.full_name} is not a template repository with a commit.", [])
    tree = await git.text(template.path, "rev-parse", f"{source}^{{tree}}")

    async def copy(path: Path) -> None:
        await git.copy_tree(template.path, tree, path)
        await git.run(path, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
        await git.commit_tree(path, tree, "Initial commit", branch)

    org, private = _creator(call, call.body.get("owner", call.config.org)), call.body.get("private", False)
    repo = await call.store.create(org, call.body["name"], call.body.get("description"), private=private, fill=copy)
    return 201, resources.repository(call.links, repo)


async def get_repository(call: Call) -> Answer:
    return 200, resources.repository(call.links, call.repo())


async def delete_repository(call: Call) -> Answer:
    repo: Repo = call.repo("administration", "write")
    call.store.delete(repo)
    return 204, None


def _organization(call: Call, login: str) -> str:
    if login.lower() != call.config.org.lower():
        raise not_found()
    return call.config.org


def _creator(call: Call, login: str) -> str:
    """The organisation, when the caller may create repositories in it: a token limited to some may not."""
    if call.actor.kind == "nobody":
        raise unauthenticated("Requires authentication")
    org = _organization(call, login)
    if call.actor.repository_ids is not None or call.actor.permissions.get("administration") != "write":
        raise forbidden()
    return org
