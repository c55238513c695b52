"""Plain pages behind the links in GitHub's answers, so that a person can look at a repository."""

from collections.abc import Awaitable, Callable
from html import escape
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from local.github import git, history
from local.github.auth import NOBODY
from local.github.config import GitHubConfig
from local.github.errors import GitHubError
from local.github.merging import Merges
from local.github.pull_resource import Json, tip
from local.github.resources import Links
from local.github.store import Repo, Store

type Page = Callable[[Request, Repo], Awaitable[Response]]

_FILES = 1000
_LARGEST_FILE = 500_000
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}
_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d0d7de, #30363d); --soft: light-dark(#f6f8fa, #161b22);
  --add: light-dark(#dafbe1, #12361f); --del: light-dark(#ffebe9, #47191c); --link: light-dark(#0969da, #58a6ff); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  background: light-dark(#fff, #0d1117); color: light-dark(#1f2328, #e6edf3); }
a { color: var(--link); text-decoration: none } a:hover { text-decoration: underline }
h1 { font-size: 1.4rem } h2 { font-size: 1rem; margin-top: 2rem }
ul { list-style: none; padding: 0; border: 1px solid var(--line); border-radius: 6px }
li { padding: .4rem .8rem; border-top: 1px solid var(--line) } li:first-child { border-top: 0 }
form { display: inline } button { font: inherit; color: #fff; background: #1f883d; border: 0; border-radius: 6px;
  padding: .3rem .9rem; margin: 0 .5rem; cursor: pointer }
small, .soft { opacity: .7 } code, pre { font: 13px/1.45 ui-monospace, monospace }
pre { overflow-x: auto; background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .6rem 0;
  margin: 0 }
pre span { display: block; padding: 0 .8rem; white-space: pre; min-height: 1.45em }
.add { background: var(--add) } .del { background: var(--del) } .hunk { opacity: .6 }
"""


class Pages:
    """Private repositories are shown only when the emulator is `browsable`: nobody signs in here."""

    def __init__(self, config: GitHubConfig, store: Store, merges: Merges) -> None:
        self._config = config
        self._store = store
        self._merges = merges

    def routes(self) -> list[Route]:
        pages: dict[str, Page] = {
            "": _tree,
            "/tree/{branch:path}": _tree,
            "/blob/{revision}/{path:path}": _blob,
            "/commit/{sha}": _commit,
            "/compare/{basehead:path}": _compare,
            "/pull/{number:int}": _pull,
        }
        shown = [Route("/{owner}/{repo}" + path, self._page(page), methods=["GET"]) for path, page in pages.items()]
        merge = Route("/{owner}/{repo}/pull/{number:int}/merge", self._page(self._merge), methods=["POST"])
        return [Route("/", self._index, methods=["GET"]), *shown, merge]

    async def _index(self, request: Request) -> Response:
        repos = [repo for repo in self._store.of_owner(self._config.org) if self._visible(repo)]
        links = [f'<a href="/{escape(repo.full_name)}">{escape(repo.full_name)}</a>' for repo in repos]
        return _html(self._config.org, _list(links, "No repositories yet."))

    def _page(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def show(request: Request) -> Response:
            name = request.path_params["repo"].removesuffix(".git")
            repo = self._store.find(request.path_params["owner"], name)
            return await page(request, repo) if repo and self._visible(repo) else _missing()

        return show

    async def _merge(self, request: Request, repo: Repo) -> Response:
        """Asked for by the button of our own page only: another site's page could post here too."""
        number = request.path_params["number"]
        try:
            if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
                raise GitHubError(403, "Use the button on the page of the pull request.")
            await self._merges.merge(Links.of(request, self._config), repo, number, {})
        except GitHubError as error:
            return _html("Not merged", f"{_home(repo)}<p>{escape(error.message)}</p>", error.status)
        return RedirectResponse(_at(repo, "pull", str(number)), 303)

    def _visible(self, repo: Repo) -> bool:
        return self._config.browsable or NOBODY.may(repo, "contents", "read")


async def _tree(request: Request, repo: Repo) -> Response:
    branch = request.path_params.get("branch", repo.default_branch)
    names, sha = sorted(await git.branches(repo.path)), await git.resolve(repo.path, branch)
    if sha is None:
        address = escape(f"{request.base_url}{repo.full_name}.git")
        empty = f"<p>This repository is empty. Push to <code>{address}</code></p>"
        return _html(repo.full_name, empty) if not names and "branch" not in request.path_params else _missing()
    listing = await git.run(repo.path, "ls-tree", "-r", "-z", "--name-only", sha)
    files = listing.decode(errors="replace").split("\0")[:-1]
    shown = [f'<a href="{_at(repo, "blob", sha, path)}">{escape(path)}</a>' for path in files[:_FILES]]
    more = f"<p class=soft>and {len(files) - _FILES} more</p>" if len(files) > _FILES else ""
    commits = [_entry(repo, item) for item in await history.log(repo.path, sha, limit=20)]
    tree = _list(shown, "No files.") + more
    parts = f"<h2>Branches</h2>{_branches(repo, names, branch)}<h2>Files</h2>{tree}<h2>Commits</h2>{_list(commits, '')}"
    return _html(f"{repo.full_name} at {branch}", parts)


async def _blob(request: Request, repo: Repo) -> Response:
    sha, path = await git.resolve(repo.path, request.path_params["revision"]), request.path_params["path"]
    try:
        size = int(await git.text(repo.path, "cat-file", "-s", f"{sha}:{path}"))
        content = await git.run(repo.path, "cat-file", "blob", f"{sha}:{path}") if size <= _LARGEST_FILE else b"\0"
    except git.GitFailed:
        return _missing()
    lines = content.decode(errors="replace").splitlines() if b"\0" not in content else [f"{size} bytes, not shown"]
    text = "".join(f"<span>{escape(line)}</span>" for line in lines)
    return _html(f"{repo.full_name}: {path}", f"{_home(repo)}<pre>{text}</pre>")


async def _commit(request: Request, repo: Repo) -> Response:
    sha = await git.resolve(repo.path, request.path_params["sha"])
    if sha is None:
        return _missing()
    (item,) = await history.log(repo.path, sha, limit=1)
    changes = await history.changes(repo.path, item.parents[0] if item.parents else None, sha)
    who = f"<p class=soft>{escape(item.author)}, {item.authored_at}</p>"
    about = f"<p style='white-space: pre-line'>{escape(item.message)}</p>{who}"
    return _html(f"{repo.full_name}: {sha[:10]}", _home(repo) + about + _diff(changes))


async def _compare(request: Request, repo: Repo) -> Response:
    base_name, _, head_name = request.path_params["basehead"].partition("...")
    base, head = [await git.resolve(repo.path, name) for name in (base_name, head_name)]
    fork = await history.merge_base(repo.path, base, head) if base and head else None
    if base is None or head is None or fork is None:
        return _missing()
    commits = [_entry(repo, item) for item in await history.log(repo.path, f"{base}..{head}", limit=100)]
    changes = await history.changes(repo.path, fork, head)
    title = f"{repo.full_name}: {base_name} ... {head_name}"
    return _html(title, f"{_home(repo)}<h2>Commits</h2>{_list(commits, 'Nothing to compare.')}{_diff(changes)}")


async def _pull(request: Request, repo: Repo) -> Response:
    pull = next((pull for pull in repo.pulls if pull["number"] == request.path_params["number"]), None)
    if pull is None:
        return _missing()
    changes, commits = await _proposed(repo, pull)
    title = f"{pull['title']} #{pull['number']}"
    ends = f"<code>{escape(pull['head'])}</code> into <code>{escape(pull['base'])}</code>"
    about = f"<p style='white-space: pre-line'>{escape(pull['body'] or '')}</p>"
    lines = _list([_entry(repo, item) for item in commits], "")
    return _html(
        title, f"{_home(repo)}<p>{_standing(repo, pull)} {ends}</p>{about}<h2>Commits</h2>{lines}{_diff(changes)}"
    )


async def _proposed(repo: Repo, pull: Json) -> tuple[list[history.Change], list[history.Commit]]:
    base, head = [await tip(repo, pull, end) for end in ("base", "head")]
    fork = await history.merge_base(repo.path, base, head)
    return await history.changes(repo.path, fork, head), await history.log(repo.path, f"{base}..{head}", limit=100)


def _standing(repo: Repo, pull: Json) -> str:
    if pull["state"] != "open":
        return f"<b>Merged</b> <small>{pull['merged_at']}</small>"
    action = _at(repo, "pull", str(pull["number"]), "merge")
    return f"<form method=post action='{action}'><b>Open</b> <button>Merge pull request</button></form>"


def _home(repo: Repo) -> str:
    return f'<p><a href="/{escape(repo.full_name)}">{escape(repo.full_name)}</a></p>'


def _branches(repo: Repo, names: list[str], current: str) -> str:
    marks = {repo.default_branch: " <small>default</small>"}
    lines: list[str] = []
    for name in names:
        mark = marks.get(name, "") + (" <small>protected</small>" if name in repo.protection else "")
        other = name != repo.default_branch
        diff = f' · <a href="{_at(repo, "compare", f"{repo.default_branch}...{name}")}">compare</a>' if other else ""
        label = f"<b>{escape(name)}</b>" if name == current else escape(name)
        lines.append(f'<a href="{_at(repo, "tree", name)}">{label}</a>{mark}{diff}')
    return _list(lines, "")


def _entry(repo: Repo, item: history.Commit) -> str:
    subject = escape(item.message.partition("\n")[0])
    link = f'<a href="{_at(repo, "commit", item.sha)}"><code>{item.sha[:10]}</code></a>'
    return f"{link} {subject} <small>{escape(item.author)}, {item.authored_at}</small>"


def _diff(changes: list[history.Change]) -> str:
    added, removed = sum(c.additions for c in changes), sum(c.deletions for c in changes)
    parts = [f"<h2>{len(changes)} files, +{added} −{removed}</h2>"]
    for change in changes:
        title = f"{change.previous} → {change.path}" if change.previous else change.path
        parts.append(f"<h2><code>{escape(title)}</code> <small>{change.status}</small></h2>")
        lines = (change.patch or " no text to show").split("\n")
        parts.append("<pre>" + "".join(f"<span{_kind(line)}>{escape(line)}</span>" for line in lines) + "</pre>")
    return "".join(parts)


def _kind(line: str) -> str:
    return {"+": " class=add", "-": " class=del", "@": " class=hunk"}.get(line[:1], "")


def _list(items: list[str], none: str) -> str:
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>" if items else f"<p class=soft>{none}</p>"


def _at(repo: Repo, *parts: str) -> str:
    return escape(f"/{repo.full_name}/" + "/".join(quote(part) for part in parts))


def _missing() -> Response:
    return _html("Not found", "<p>There is no such page, or it is private.</p>", 404)


def _html(title: str, body: str, status: int = 200) -> Response:
    page = '<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">'
    page += f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>{body}</html>"
    return HTMLResponse(page, status, headers=_HEADERS)
