"""Timers: what was left lying is taken up again. They read the `open/` partitions and nothing else."""

import azure.functions as func

from functions.context import platform

WATCHDOG = "*/15 * * * * *"
SWEEPER = "*/10 * * * * *"


def register(app: func.FunctionApp) -> None:
    @app.function_name("watchdog")
    @app.timer_trigger(schedule=WATCHDOG, arg_name="timer", run_on_startup=True)
    async def watchdog(timer: func.TimerRequest) -> None:
        await platform().runner.watch()
        await platform().lifecycle.watch()
        await platform().webhooks.watch()
        await platform().teams.watch()

    @app.function_name("outbox_sweeper")
    @app.timer_trigger(schedule=SWEEPER, arg_name="timer", run_on_startup=True)
    async def sweep_outbox(timer: func.TimerRequest) -> None:
        await platform().store.sweep()
