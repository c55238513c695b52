"""Programs that the container host's contract runs as jobs: `python -m tests.contracts.container_jobs NAME ARGS...`."""

import os
import subprocess
import sys
import time
from pathlib import Path


def wait_for(path: str) -> None:
    """Until the file holds `<exit code> <text>`: prints the text and exits with the code."""
    print("waiting", flush=True)
    while not Path(path).exists():
        time.sleep(0.02)
    code, _, text = Path(path).read_text().partition(" ")
    print(text)
    sys.exit(int(code))


def show_environment() -> None:
    for name in sorted(os.environ):
        print(f"{name}={os.environ[name]}")
    print(f"cwd={Path.cwd()}")
    print(f"umask={os.umask(0):03o}")


def print_lines(count: str) -> None:
    for number in range(int(count)):
        print(f"line {number} {'.' * 90}")


def breed(path: str, stubborn: str = "") -> None:
    """Leaves a grandchild in a session of its own, says all ids, and sleeps; `stubborn` ignores SIGTERM."""
    trap = "trap '' TERM; " if stubborn else ""
    grandchild = subprocess.Popen(
        ["bash", "-c", f"{trap}sleep 300 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert grandchild.stdout
    sleeper = int(grandchild.stdout.readline())
    if stubborn:
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    draft = Path(path + ".draft")
    draft.write_text(f"{os.getpid()} {grandchild.pid} {sleeper}")
    draft.replace(path)
    time.sleep(300)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
