"""Makes this checkout ready to run: environment, packages, web app. Needs git, any Python 3.9+ and Node 20+.

Run by `make`; steps whose inputs have not changed since last time are skipped. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = "Scripts" if os.name == "nt" else "bin"
UV = ROOT / ".tools" / BIN / "uv"
PYTHON = ROOT / ".venv" / BIN / "python"
WEB = ROOT / "static_web"
AZURITE = ROOT / "local" / "azurite"
# Agents may write no bytecode: without this each of them would compile the SDK anew, for seconds.
_WHAT_AGENTS_IMPORT = "import agent_container.loop, anthropic; anthropic.AsyncAnthropic(api_key='-').beta.messages"


class Failed(Exception):
    """Set-up cannot go on; the text says what to do."""


def main() -> int:
    began = time.time()
    try:
        _require_node()
        with ThreadPoolExecutor(3) as pool:
            jobs = [pool.submit(job) for job in (_python, _azurite, _web)]
            done = [name for job in jobs for name in job.result()]
    except Failed as error:
        print(f"Set-up failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if done:
        print(f"Set up {', '.join(done)} in {time.time() - began:.1f} s.", flush=True)
    return 0


def _require_node() -> None:
    for name in ("git", "node", "npm"):
        if shutil.which(name) is None:
            raise Failed(f"{name} is not installed. This project needs git, Python and Node.js 20 or newer.")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0] or 0) < 20:
        raise Failed(f"Node.js is {version}; 20 or newer is needed.")


def _python() -> list[str]:
    def install() -> None:
        if not UV.exists():
            _run([sys.executable, "-m", "venv", str(ROOT / ".tools")])
            _run([str(UV.with_name("python")), "-m", "pip", "install", "-q", "--disable-pip-version-check", "uv"])
        if not PYTHON.exists():
            _run([str(UV), "venv", "-q", str(ROOT / ".venv")])
        _run([str(UV), "pip", "sync", "-q", "-p", str(PYTHON), "requirements-dev.txt"])
        _run([str(PYTHON), "-c", _WHAT_AGENTS_IMPORT])

    inputs = [ROOT / "requirements-dev.txt", ROOT / ".python-version"]
    return _step("Python packages", ROOT / ".venv" / ".stamp", inputs, install, PYTHON)


def _azurite() -> list[str]:
    def install() -> None:
        _run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(AZURITE)])

    inputs = [AZURITE / "package-lock.json"]
    return _step("Azurite", AZURITE / "node_modules" / ".stamp", inputs, install)


def _web() -> list[str]:
    def install() -> None:
        _run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(WEB)])

    def build() -> None:
        _run(["npm", "run", "--silent", "build", "--prefix", str(WEB)])

    done = _step("web packages", WEB / "node_modules" / ".stamp", [WEB / "package-lock.json"], install)
    sources = [path for path in WEB.glob("*.*") if path.is_file() and path.name != "openapi.json"]
    sources += [path for folder in ("src", "public") for path in (WEB / folder).rglob("*") if path.is_file()]
    return done + _step("the web app", WEB / "dist" / ".stamp", sources, build)


def _step(
    name: str, stamp: Path, inputs: Iterable[Path], act: Callable[[], None], product: Path | None = None
) -> list[str]:
    """Act unless the stamp holds the inputs' digest; returns the name when it acted."""
    digest = hashlib.sha256()
    for path in sorted(inputs):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    wanted = digest.hexdigest()
    if stamp.exists() and stamp.read_text() == wanted and (product is None or product.exists()):
        return []
    print(f"Installing {name} ..." if name != "the web app" else "Building the web app ...", flush=True)
    act()
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(wanted)
    return [name]


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Failed(f"`{' '.join(argv)}` ended with code {done.returncode}:\n{done.stdout[-4000:]}")


if __name__ == "__main__":
    sys.exit(main())
