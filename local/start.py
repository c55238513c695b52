"""`make start` and `make cloud`: the local cloud until Ctrl-C, with its function host or for another one."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local import local_settings
from local.agent_image import Tell
from local.azurite import AzuriteMissing
from local.child import ChildFailed
from local.cloud import PROCESS_SETTINGS, LocalCloud
from local.engine import EngineMissing
from local.host_app import AppInvalid
from local.ports import CloudPorts, PortsTaken
from shared.core.log import to_stderr

STARTED_AT = "KANBAN_STARTED_AT"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--settings", type=Path, help="start no function host: write its settings there, for func")
    parser.add_argument("--free-ports", action="store_true", help="any ports instead of the usual ones")
    arguments = parser.parse_args()
    console = Console()
    to_stderr("WARNING")
    ports = CloudPorts.free() if arguments.free_ports else CloudPorts()
    cloud = LocalCloud(arguments.data, ports, tell=_teller(console, "dim"), with_functions=arguments.settings is None)
    try:
        return asyncio.run(_run(cloud, console, arguments.settings))
    except (PortsTaken, ChildFailed, AzuriteMissing, EngineMissing, AppInvalid) as error:
        console.print(f"[red]{escape(str(error))}[/red]", highlight=False)
        return 1


async def _run(cloud: LocalCloud, console: Console, settings: Path | None) -> int:
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
        if settings:
            local_settings.write(settings, _for_func(cloud.settings), cloud.ports.api)
        _report(cloud, console, settings)
        await _until_stopped(cloud, stopping, console)
        return 0
    finally:
        console.print("Stopping ...")
        await cloud.__aexit__(None, None, None)
        console.print("Stopped.")


async def _until_stopped(cloud: LocalCloud, stopping: "asyncio.Task[bool]", console: Console) -> None:
    """Raises ChildFailed when a part of it ends again and again."""
    keeping = [asyncio.create_task(child.keep(_teller(console, "red"))) for child in cloud.children]
    try:
        await asyncio.wait([stopping, *keeping], return_when=asyncio.FIRST_COMPLETED)
        for task in keeping:
            if task.done():
                await task
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)


def _teller(console: Console, style: str) -> Tell:
    return lambda text: console.print(text, style=style, markup=False, highlight=False)


def _for_func(settings: Mapping[str, str]) -> dict[str, str]:
    """Without what belongs to a process, which the other one has of its own."""
    kept = {name: value for name, value in settings.items() if name not in PROCESS_SETTINGS}
    return {"FUNCTIONS_WORKER_RUNTIME": "python"} | kept


def _report(cloud: LocalCloud, console: Console, settings: Path | None) -> None:
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
    if settings:
        console.print(f"The function app's settings are in {settings}. In another terminal:")
        console.print("  . .venv/bin/activate && func start", style="bold")
        console.print(f"Or without Core Tools: .venv/bin/python -m local.host --settings {settings}")
        console.print(f"Then open {cloud.web_url}")
    else:
        console.print(f"Open {cloud.web_url}", style="bold")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
