"""A second process on the same event log, for the tests that kill it or race it."""

import asyncio
import sys
from itertools import count
from pathlib import Path

from shared.adapters.jsonl_events import JsonlEvents
from shared.adapters.table_events import TableEvents
from shared.core.ports import EventLog

RUN = "run/run_t0123456789_1"


async def main(name: str, log: EventLog, rounds: int) -> None:
    """Appends three events at a time and prints the last sequence; for ever when `rounds` is 0."""
    for n in range(rounds) if rounds else count():
        ballast = "x" * (10 if rounds else 50_000)
        sequences = await log.append(RUN, [{"id": f"{name}-{n}-{part}", "ballast": ballast} for part in "abc"])
        print(sequences[-1], flush=True)


def events(place: str) -> EventLog:
    """`place` is a data folder, or a connection string and a table, joined by `|`."""
    connection, _, table = place.partition("|")
    return TableEvents(connection, table) if table else JsonlEvents(Path(place))


asyncio.run(main(sys.argv[1], events(sys.argv[2]), int(sys.argv[3])))
