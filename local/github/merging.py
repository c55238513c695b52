"""Merging a pull request: a merge commit on its base, the pull request closed, the App told."""

from collections.abc import Mapping
from typing import Any

from local.github import git, resources
from local.github.config import GitHubConfig
from local.github.errors import GitHubError
from local.github.pull_resource import numbered, pull_request
from local.github.resources import Links
from local.github.store import Repo, Store
from local.github.webhook import Webhook
from shared.core.clock import iso

type Json = dict[str, Any]

_REFUSED = "Pull Request is not mergeable"


class Merges:
    def __init__(self, config: GitHubConfig, store: Store, webhook: Webhook) -> None:
        self._config, self._store, self._webhook = config, store, webhook

    async def merge(self, links: Links, repo: Repo, number: int, asked: Mapping[str, Any]) -> str:
        """SHA of the merge commit. Raises 404, 405 for what cannot be merged, 409 when `sha` is the head no more."""
        pull = numbered(repo, number)
        base, head = [await git.resolve(repo.path, pull[end]) for end in ("base", "head")]
        if pull["state"] != "open" or base is None or head is None:
            raise GitHubError(405, _REFUSED)
        if asked.get("sha", head) != head:
            raise GitHubError(409, "Head branch was modified. Review and try the merge again.")
        title = asked.get("commit_title") or f"Merge pull request #{number} from {repo.owner}/{pull['head']}"
        message = ("-m", title, "-m", asked.get("commit_message") or pull["title"])
        tree = await _merged_tree(repo, base, head)
        sha = await git.text(repo.path, "commit-tree", tree, "-p", base, "-p", head, *message)
        try:
            await git.run(repo.path, "update-ref", f"refs/heads/{pull['base']}", sha, base)
        except git.GitFailed:
            raise GitHubError(405, "Base branch was modified. Review and try the merge again.") from None
        repo = self._close(repo, number, {"base_sha": base, "head_sha": head, "merge_commit_sha": sha})
        await self._tell(links, repo, number)
        return sha

    def _close(self, repo: Repo, number: int, merged: Json) -> Repo:
        now = iso(self._config.clock.now())[:19] + "Z"
        changes = merged | {"state": "closed", "merged_at": now, "updated_at": now}
        pulls = self._store.read(repo.owner, repo.name).pulls
        changed = [pull | changes if pull["number"] == number else pull for pull in pulls]
        return self._store.save(repo, pulls=changed, pushed_at=now)

    async def _tell(self, links: Links, repo: Repo, number: int) -> None:
        shown = await pull_request(links, self._config, repo, numbered(repo, number))
        installation = self._config.installation_id
        self._webhook.send(
            "pull_request",
            {
                "action": "closed",
                "number": number,
                "pull_request": shown,
                "repository": resources.repository(links, repo),
                "organization": resources.account(links, repo.owner),
                "installation": {"id": installation, "node_id": resources.node_id(f"Installation:{installation}")},
                "sender": resources.account(links, repo.owner),
            },
        )


async def _merged_tree(repo: Repo, base: str, head: str) -> str:
    """git tells conflicts on stdout; what it says on stderr is another trouble, such as a git older than 2.38."""
    try:
        return await git.text(repo.path, "merge-tree", "--write-tree", base, head)
    except git.GitFailed as error:
        raise GitHubError(405, f"{_REFUSED}: {error}" if str(error) else _REFUSED) from None
