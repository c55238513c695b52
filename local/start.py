"""`make start`: the local cloud until Ctrl-C."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local.agent_image import Tell
from local.azurite import AzuriteMissing
from local.child import ChildFailed
from local.cloud import LocalCloud
from local.engine import EngineMissing
from local.ports import PortsTaken
from shared.core.log import to_stderr

STARTED_AT = "KANBAN_STARTED_AT"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, default=Path("data"))
    console = Console()
    to_stderr("WARNING")
    try:
        return asyncio.run(_run(LocalCloud(arguments.parse_args().data, tell=_teller(console)), console))
    except (PortsTaken, ChildFailed, AzuriteMissing, EngineMissing) as error:
        console.print(f"[red]{escape(str(error))}[/red]", highlight=False)
        return 1


async def _run(cloud: LocalCloud, console: Console) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    starting = asyncio.create_task(cloud.__aenter__())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        return 130
    await starting
    try:
        _report(cloud, console)
        return await _until_stopped(cloud, stopping, console)
    finally:
        console.print("Stopping ...")
        await cloud.__aexit__(None, None, None)
        console.print("Stopped.")


async def _until_stopped(cloud: LocalCloud, stopping: "asyncio.Task[bool]", console: Console) -> int:
    functions = cloud.functions
    if functions is None:
        raise ChildFailed("The function host was not started.")
    ended = asyncio.create_task(functions.wait())
    await asyncio.wait([stopping, ended], return_when=asyncio.FIRST_COMPLETED)
    if stopping.done():
        ended.cancel()
        return 0
    console.print(f"[red]The function host ended by itself. Its log ({functions.log_path}) ends with:[/red]")
    console.print(functions.last_log_lines(), markup=False, highlight=False)
    return 1


def _teller(console: Console) -> Tell:
    return lambda text: console.print(text, style="dim", markup=False, highlight=False)


def _report(cloud: LocalCloud, console: Console) -> None:
    table = Table(title="Kanban Platform, local cloud", title_justify="left")
    for column in ("Service", "Address", "What"):
        table.add_column(column)
    for service in cloud.services():
        table.add_row(service.name, service.address, service.what)
    console.print(table)
    console.print(f"Data and logs: {cloud.data}")
    began = float(os.environ.get(STARTED_AT) or 0)
    if began:
        console.print(f"Ready {time.time() - began:.1f} s after the command was typed. Ctrl-C stops everything.")
    console.print(f"Open {cloud.web_url}", style="bold")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
