"""Benchmark results: a table on the terminal and `bench/results/<name>.json`.

`python -m bench.report NAME` prints what was kept as Markdown, for docs/benchmarks.md.
"""

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).with_name("results")
OURS = "ours"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `subject` is `ours` or a peer or limit with its version; `value` None with `unit` saying why."""

    case: str
    subject: str
    metric: str
    value: float | None
    unit: str


def report(name: str, rows: list[Row]) -> None:
    """Print and keep. Each case is also shown as a ratio to the first other subject, since machines are noisy."""
    RESULTS.mkdir(exist_ok=True)
    entry = {
        "name": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "rows": [asdict(row) for row in rows],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(entry, indent=1) + "\n")
    table = Table(title=f"{name} ({entry['machine']}, {entry['date']})", title_justify="left")
    for column in ("Case", "Subject", "Metric", "Value", "Ours / this"):
        table.add_column(column)
    for row in rows:
        value = f"{row.value:,.3g} {row.unit}" if row.value is not None else f"not measured: {row.unit}"
        table.add_row(row.case, row.subject, row.metric, value, _ratio(rows, row))
    Console().print(table)


def _ratio(rows: list[Row], row: Row) -> str:
    if row.subject == OURS or not row.value:
        return ""
    ours = next((r for r in rows if r.subject == OURS and (r.case, r.metric) == (row.case, row.metric)), None)
    return f"{ours.value / row.value:.2f}" if ours and ours.value else ""


def markdown(name: str) -> str:
    """A table with a line for each case and metric, and a column for each subject that was measured."""
    entry = json.loads((RESULTS / f"{name}.json").read_text())
    rows = [Row(**row) for row in entry["rows"]]
    subjects = list(dict.fromkeys(row.subject for row in rows if row.value is not None))
    found = {(row.case, row.metric, row.unit, row.subject): row.value for row in rows if row.value is not None}
    lines = [f"{entry['date'][:10]}, {entry['machine']}:", ""]
    lines += [f"| Case | | {' | '.join(subjects)} |", "|---" * (len(subjects) + 2) + "|"]
    for case, metric, unit in dict.fromkeys(key[:3] for key in found):
        values = [found.get((case, metric, unit, subject)) for subject in subjects]
        shown = " | ".join("" if value is None else f"{value:,.3g}" for value in values)
        lines.append(f"| {case} | {metric}, {unit} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(sys.argv[1]))
