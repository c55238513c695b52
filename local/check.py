"""`make check`: lint, format, types, architecture, docs, generated files, audits. Exit code 1 for any fault."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WEB = ROOT / "static_web"
BIN = Path(sys.executable).parent
UNREACHABLE = ("could not connect", "connectionerror", "enotfound", "econnrefused", "max retries", "timed out", "403")


type Check = Callable[[], tuple[bool, str]]
"""Whether it passed, and what it has to say."""


@dataclass(frozen=True, slots=True)
class Outcome:
    name: str
    ok: bool
    text: str
    seconds: float


def main() -> int:
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(_timed, CHECKS))
    for outcome in outcomes:
        print(f"{'ok  ' if outcome.ok else 'FAIL'} {outcome.name} ({outcome.seconds:.1f} s)")
        if outcome.text and not outcome.ok:
            print("     " + outcome.text.strip().replace("\n", "\n     "))
        elif outcome.text.startswith("skipped"):
            print(f"     {outcome.text}")
    return 0 if all(outcome.ok for outcome in outcomes) else 1


def _timed(check: tuple[str, Check]) -> Outcome:
    name, act = check
    began = time.monotonic()
    ok, text = act()
    return Outcome(name, ok, text, time.monotonic() - began)


def _command(*argv: str, folder: Path = ROOT) -> tuple[bool, str]:
    done = subprocess.run(argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode == 0, "" if done.returncode == 0 else done.stdout[-8000:]


def _tool(name: str, *arguments: str) -> Check:
    return lambda: _command(str(BIN / name), *arguments)


def _npm(script: str) -> Check:
    return lambda: _command("npm", "run", "--silent", script, folder=WEB)


def _api_types() -> tuple[bool, str]:
    """The committed TypeScript types are what the API describes now."""
    with tempfile.TemporaryDirectory() as folder:
        description, wanted = Path(folder) / "openapi.json", Path(folder) / "schema.d.ts"
        ok, text = _command(sys.executable, "-m", "local.openapi", str(description))
        if ok:
            program = str(WEB / "node_modules" / ".bin" / "openapi-typescript")
            ok, text = _command(program, str(description), "--output", str(wanted))
        if not ok:
            return False, text
        fresh = wanted.read_text() == (WEB / "src" / "api" / "schema.d.ts").read_text()
    return fresh, "" if fresh else "static_web/src/api/schema.d.ts is stale: run `make types`."


def _audit_python() -> tuple[bool, str]:
    argv = [str(BIN / "pip-audit"), "--progress-spinner=off", "--disable-pip", "--no-deps", "-r", "requirements.txt"]
    ok, text = _command(*argv)
    return _unless_unreachable(ok, text)


def _audit_web() -> tuple[bool, str]:
    done = subprocess.run(
        ["npm", "audit", "--omit=dev", "--json"], cwd=WEB, capture_output=True, text=True, timeout=120
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        report = {"error": {"summary": done.stderr or done.stdout}}
    if "error" in report or "message" in report:
        return True, "skipped: the registry gave no answer to an audit"
    high = {name: item["severity"] for name, item in report["vulnerabilities"].items() if item["severity"] != "low"}
    return not high, "" if not high else f"npm audit: {high}"


def _unless_unreachable(ok: bool, text: str) -> tuple[bool, str]:
    if not ok and any(sign in text.lower() for sign in UNREACHABLE):
        return True, "skipped: the vulnerability service gave no answer"
    return ok, text


CHECKS: tuple[tuple[str, Check], ...] = (
    ("types (pyright strict)", _tool("pyright")),
    ("lint (ruff)", _tool("ruff", "check", ".")),
    ("format (ruff)", _tool("ruff", "format", "--check", ".")),
    ("architecture (import-linter)", _tool("lint-imports")),
    ("docs up to date", lambda: _command(sys.executable, "-m", "local.docs", "--check")),
    ("web lint (eslint)", _npm("lint")),
    ("web types (tsc)", _npm("types")),
    ("web types match the API", _api_types),
    ("audit (pip-audit)", _audit_python),
    ("audit (npm)", _audit_web),
)

if __name__ == "__main__":
    sys.exit(main())
