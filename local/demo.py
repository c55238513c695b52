"""`make demo`: the main job through the HTTP API, on a fresh local cloud, with live progress.

Exit code 0 only when the repository's branch holds the run's commit.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local.agent_image import Tell
from local.azurite import AzuriteMissing
from local.child import ChildFailed
from local.client import ApiError, Client
from local.cloud import ORG, ROOT, LocalCloud
from local.engine import EngineMissing
from local.ports import CloudPorts, PortsTaken
from shared.core.log import to_stderr

EXAMPLE = ROOT / "local" / "example"
PERSON = "ada@contoso.test"
PATIENCE = 1800


class DemoFailed(RuntimeError):
    """The demo did not reach its end; the text says why."""


@dataclass(frozen=True, slots=True)
class CardText:
    title: str
    body: str


def main() -> int:
    arguments = argparse.ArgumentParser(prog="make demo", description=__doc__)
    arguments.add_argument("--repo", help="path or URL of a git repository; default: a small example")
    arguments.add_argument("--card", type=Path, help="markdown file of the card; default: the example's")
    options = arguments.parse_args()
    console = Console(highlight=False)
    to_stderr("WARNING")
    try:
        with tempfile.TemporaryDirectory(prefix="kanban-demo-") as folder:
            return asyncio.run(_demo(Path(folder), options.repo, options.card, console))
    except (DemoFailed, ApiError, PortsTaken, ChildFailed, AzuriteMissing, EngineMissing) as error:
        console.print(f"[red]The demo failed:[/red] {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        return 130


async def _demo(folder: Path, repo: str | None, card_file: Path | None, console: Console) -> int:
    began = time.monotonic()
    card = read_card(card_file or EXAMPLE / "card.md")
    source = source_url(repo) if repo else example_repository(folder / "example")
    ports = CloudPorts.free()
    console.print(f"Starting a local cloud of its own in {folder} ...")
    tell: Tell = lambda text: console.print(f"  {escape(text)}")  # noqa: E731
    async with LocalCloud(folder / "data", ports, tell=tell) as cloud, Client(cloud.api_url) as client:
        console.print(f"  running after {time.monotonic() - began:.1f} s")
        console.print(f"  agents: {escape(', '.join(cloud.containers.described()))}")
        session = await client.sign_in(PERSON)
        console.print(f"Signed in as [bold]{escape(session['user']['name'])}[/bold]")
        workspace = await _workspace(client, source, console)
        run = await _run(client, workspace, card, console)
        _report(run, time.monotonic() - began, console)
        if run["status"] != "succeeded":
            raise DemoFailed(run["reason"] or f"the run ended {run['status']}")
        _verify(cloud, workspace, run)
        console.print(
            f"[green]Branch {run['result']['branch']} of {workspace['repository']['full_name']} "
            f"holds commit {run['result']['commit'][:10]}.[/green]"
        )
    return 0


def read_card(path: Path) -> CardText:
    """The first heading is the title, the rest the body; without a heading the file's name is the title."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DemoFailed(f"The card {path} cannot be read: {error}.") from None
    first, _, rest = text.lstrip().partition("\n")
    if first.startswith("#"):
        return CardText(first.lstrip("#").strip()[:200] or path.stem, rest.strip() + "\n")
    return CardText(path.stem.replace("-", " ").replace("_", " ").capitalize()[:200], text)


def source_url(repo: str) -> str:
    """A URL as it is; a path as a file URL. A path that is no git repository is an error."""
    if urlsplit(repo).scheme in ("http", "https", "file"):
        return repo
    path = Path(repo).expanduser().resolve()
    if _git(path, "rev-parse", "--git-dir") is None:
        raise DemoFailed(f"{path} is not a git repository. Give a path or URL of one (git init && git commit).")
    return path.as_uri()


def example_repository(folder: Path) -> str:
    """The example that ships with the project, as a git repository of its own."""
    import shutil

    shutil.copytree(EXAMPLE / "repository", folder)
    author = ("-c", "user.name=Example", "-c", "user.email=example@example.invalid")
    for command in (("init", "-q", "-b", "main"), ("add", "-A"), (*author, "commit", "-q", "-m", "Start")):
        if _git(folder, *command) is None:
            raise DemoFailed(f"git {command[0]} failed in {folder}.")
    return folder.as_uri()


def _git(folder: Path, *command: str) -> str | None:
    """Its output, or None when it failed."""
    if not folder.is_dir():
        return None
    done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


async def _workspace(client: Client, source: str, console: Console) -> dict[str, Any]:
    name = Path(urlsplit(source).path).name.removesuffix(".git") or "demo"
    started = await client.post("/api/workspaces", {"name": f"{name} demo"[:60], "import_url": source})
    console.print(f"\n[bold]Workspace {escape(started['workspace']['name'])}[/bold] from {escape(source)}")
    shown: dict[str, str] = {}
    while True:
        task = await client.get(f"/api/tasks/{started['task_id']}")
        for step in task["steps"]:
            _show_step(step, shown, console)
        if task["status"] == "succeeded":
            return await client.get(f"/api/workspaces/{started['workspace']['id']}")
        if task["status"] not in ("pending", "running"):
            raise DemoFailed(task["error"] or f"creating the workspace ended {task['status']}")
        await asyncio.sleep(0.1)


def _show_step(step: dict[str, Any], shown: dict[str, str], console: Console) -> None:
    mark = {"succeeded": "[green]✓[/green]", "failed": "[red]✗[/red]", "running": "…"}.get(step["status"], "")
    note = f"  {step['note']}" if step["note"] and step["status"] == "running" else ""
    line = f"  {mark} " + escape(f"{step['title']}{note}{'  ' + step['error'] if step['error'] else ''}")
    if step["status"] != "pending" and shown.get(step["name"]) != line and (note or mark != "…"):
        shown[step["name"]] = line
        console.print(line)


async def _run(client: Client, workspace: dict[str, Any], card: CardText, console: Console) -> dict[str, Any]:
    board = (await client.get(f"/api/boards/{workspace['board_id']}"))["board"]
    start = next(column for column in board["columns"] if column["kind"] == "start")
    created = await client.post(f"/api/boards/{board['id']}/cards", {"title": card.title, "body": card.body})
    moved = await client.post(
        f"/api/cards/{created['id']}/move", {"column_id": start["id"], "expected_column": created["column_id"]}
    )
    console.print(f"\n[bold]Card[/bold] {escape(moved['title'])} -> {escape(start['name'])}")
    run_id = await _until(lambda: _run_id(client, created["id"]), "no run started for the card")
    after = 0
    while True:
        run = await client.get(f"/api/runs/{run_id}")
        page = await client.get(f"/api/runs/{run_id}/events", after=after)
        for event in page["items"]:
            after = event["sequence"]
            _show_event(event, console)
        if run["status"] in ("succeeded", "failed", "cancelled") and after >= page["last"]:
            await asyncio.sleep(0.5)  # the last usage figures are on their way
            return await client.get(f"/api/runs/{run_id}")
        await asyncio.sleep(0.2)


async def _run_id(client: Client, card_id: str) -> str | None:
    runs = (await client.get(f"/api/cards/{card_id}/runs"))["items"]
    return runs[0]["id"] if runs else None


async def _until(look: Callable[[], Any], complaint: str, patience: float = 60) -> Any:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if (found := await look()) is not None:
            return found
        await asyncio.sleep(0.1)
    raise DemoFailed(f"{complaint} within {patience:.0f} s")


def _show_event(event: dict[str, Any], console: Console) -> None:
    data = event["data"]
    if event["type"] != "agent.progress":
        if event["type"].startswith("agent."):
            console.print(f"  [cyan]{data['run']['status']}[/cyan]")
        return
    match data["kind"]:
        case "status" | "text":
            line = f"[dim]{escape(data['text'].strip())}[/dim]"
        case "tool_use":
            line = f"[yellow]{data['name']}[/yellow] {escape(_brief(data['input']))}"
        case "tool_result":
            line = f"  [red]{escape(_first_line(data['output']))}[/red]" if data.get("is_error") else ""
        case "turn":
            used = data.get("usage", {})
            line = f"turn {data['turn']}: {_input_tokens(used)} in, {used.get('output_tokens', 0)} out"
        case "commit":
            line = f"[green]commit[/green] {data['sha'][:10]} {escape(data['message'])}"
        case _:
            line = f"[green]push[/green] {escape(data['branch'])}"
    if line:
        console.print(f"    {line}")


def _input_tokens(usage: dict[str, Any]) -> int:
    """All of the input, however it was billed; the model's names and the platform's differ."""
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(usage.get(name) or 0 for name in (*names, "cache_read_tokens", "cache_write_tokens"))


def _brief(data: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_first_line(str(value))[:60]}" for name, value in data.items())


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]


def _report(run: dict[str, Any], seconds: float, console: Console) -> None:
    result, usage = run["result"] or {}, run["usage"]
    table = Table(title="Result", title_justify="left", show_header=False)
    rows = [
        ("Status", run["status"] + (f": {run['reason']}" if run["reason"] else "")),
        ("Branch", result.get("branch", "-")),
        ("Commit", result.get("commit", "-")),
        ("Diffstat", _diffstat(result)),
        ("Turns", str(run["turns"])),
        (
            "Tokens",
            f"{_input_tokens(usage)} in ({usage['cache_read_tokens']} from cache), {usage['output_tokens']} out",
        ),
        ("Cost", _usd(usage["cost_usd"]) + (" (notional: demo model)" if run["demo_model"] else "")),
        ("Seconds", f"{seconds:.1f}"),
    ]
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def _usd(amount: float) -> str:
    return f"${amount:.4f}" if amount >= 0.0001 or amount == 0 else f"${Decimal(f'{amount:.2g}'):f}"


def _diffstat(result: dict[str, Any]) -> str:
    if not result:
        return "-"
    files = result["files_changed"]
    return f"{files} {'file' if files == 1 else 'files'}, +{result['additions']} -{result['deletions']}"


def _verify(cloud: LocalCloud, workspace: dict[str, Any], run: dict[str, Any]) -> None:
    """Ask git itself, not the platform."""
    url = workspace["repository"]["clone_url"]
    bare = next((cloud.data / "github").rglob(f"{ORG}/{Path(urlsplit(url).path).name}"), None)
    held = _git(bare, "rev-parse", "--verify", f"refs/heads/{run['result']['branch']}") if bare else None
    if held != run["result"]["commit"]:
        raise DemoFailed(f"branch {run['result']['branch']} holds {held}, not commit {run['result']['commit']}")


if __name__ == "__main__":
    sys.exit(main())
