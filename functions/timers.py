"""Timers: what was left lying is taken up again. They read the `open/` partitions and nothing else."""

import azure.functions as func

from functions.platform import platform
from shared.bootstrap import Platform

WATCHDOG = "*/15 * * * * *"
SWEEPER = "*/10 * * * * *"


async def watch(here: Platform) -> None:
    await here.runner.watch()
    await here.lifecycle.watch()
    await here.webhooks.watch()
    await here.teams.watch()
    await here.books.reconcile()


async def sweep(here: Platform) -> None:
    await here.store.sweep()


def register(app: func.FunctionApp) -> None:
    @app.function_name("watchdog")
    @app.timer_trigger(schedule=WATCHDOG, arg_name="timer", run_on_startup=True)
    async def watchdog(timer: func.TimerRequest) -> None:
        await watch(platform())

    @app.function_name("outbox_sweeper")
    @app.timer_trigger(schedule=SWEEPER, arg_name="timer", run_on_startup=True)
    async def sweep_outbox(timer: func.TimerRequest) -> None:
        await sweep(platform())
