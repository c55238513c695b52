"""Cold start: importing the function app, beside the packages it cannot do without and beside every SDK."""

import statistics
import subprocess
import sys
from pathlib import Path

from bench.report import OURS, Row, report

ROOT = Path(__file__).parents[1]
TRIES = 7
BUILD = (
    "import function_app; from functions.api import create_api; from shared.bootstrap import adapters, build; "
    "from shared.core.settings import Settings; s = Settings(); create_api(build(s, adapters(s)))"
)
FLOOR = "import azure.functions, fastapi, azurefunctions.extensions.http.fastapi, aiohttp"
EAGER = f"{BUILD}; import anthropic, msgraph, github, docker, redis, msal, azure.identity"


def main() -> None:
    rows: list[Row] = []
    subjects = {OURS: BUILD, "limit: functions + fastapi + aiohttp": FLOOR, "peer: every SDK imported eagerly": EAGER}
    for code in subjects.values():
        _measure(code)  # bytecode and file cache
    samples = {subject: [_measure(code) for _ in range(TRIES)] for subject, code in subjects.items()}
    for subject, found in samples.items():
        rows.append(Row("import and build", subject, "seconds", statistics.median(s for s, _ in found), "s"))
        rows.append(Row("import and build", subject, "memory", statistics.median(m for _, m in found), "MB"))
    report("coldstart", rows)


def _measure(code: str) -> tuple[float, float]:
    """Seconds and peak resident MB of one fresh interpreter."""
    program = (
        f"import time; t = time.perf_counter(); {code}; import resource; "
        "print(time.perf_counter() - t, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, memory = done.stdout.split()[-2:]
    return float(seconds), float(memory)


if __name__ == "__main__":
    main()
