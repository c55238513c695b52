"""Programs that the container hosts' contract runs as jobs: `python -m tests.contracts.container_jobs NAME ARGS...`.

Standard library only: in a container they are all there is of this repository.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

_ANSWER_SECONDS = 2


def wait_for(path: str) -> None:
    """Until the file holds `<exit code> <text>`: prints the text and exits with the code."""
    print("waiting", flush=True)
    while not Path(path).exists():
        time.sleep(0.02)
    code, _, text = Path(path).read_text().partition(" ")
    print(text)
    sys.exit(int(code))


def count_until(path: str) -> None:
    """Prints 0, 1, 2, ... and the last number again with `last` when the file is there."""
    number = 0
    while not Path(path).exists():
        print(number, flush=True)
        number += 1
        time.sleep(0.02)
    print(f"last {number}")


def show_environment() -> None:
    for name in sorted(os.environ):
        print(f"{name}={os.environ[name]}")
    print(f"cwd={Path.cwd()}")
    print(f"umask={os.umask(0):03o}")


def show_all_environments() -> None:
    """Of every process that this one may look at but itself, whose environment an agent hides."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes() if int(process.name) != os.getpid() else b""
        except OSError:
            continue
        print(process.name, environment.replace(b"\0", b" ").decode())


def print_lines(count: str) -> None:
    for number in range(int(count)):
        print(f"line {number} {'ü' * 90}")


def exit_with(code: str) -> None:
    sys.exit(int(code))


def end_by(number: str) -> None:
    os.kill(os.getpid(), int(number))


def say_goodbye() -> None:
    """Ends well when it is told to stop."""

    def leave(*_: object) -> None:
        print("goodbye")
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    print("ready", flush=True)
    time.sleep(300)


def be_deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready", flush=True)
    time.sleep(300)


def eat(megabytes: str) -> None:
    eaten = bytearray(int(megabytes) * 2**20)
    eaten[::4096] = b"x" * len(eaten[::4096])
    time.sleep(5)
    print("full")


def fork(count: str) -> None:
    try:
        children = [subprocess.Popen(["sleep", "30"]) for _ in range(int(count))]
    except BlockingIOError:
        print("no more processes")
        sys.exit(9)
    time.sleep(5)
    print(f"all {len(children)}")


def show_rights() -> None:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.split(":")[0] in ("Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"):
            print(" ".join(line.split()))


def write(*folders: str) -> None:
    for folder in folders:
        try:
            Path(folder, "probe").write_text("x")
            print(f"{folder} written")
        except OSError as error:
            print(f"{folder} {type(error).__name__}")


def reach(*addresses: str) -> None:
    for address in addresses:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), _ANSWER_SECONDS).close()
            print(f"{address} reached")
        except OSError:
            print(f"{address} out of reach")


def serve(port: str) -> None:
    with socket.create_server(("0.0.0.0", int(port))) as server:
        print("serving", flush=True)
        while True:
            server.accept()[0].close()


def exists(path: str) -> None:
    sys.exit(0 if Path(path).exists() else 1)


def remember(greeting: str = "") -> None:
    """Says how often it was started with this volume, and stays."""
    starts = Path(os.environ["VOLUME_DATA"], "starts")
    with starts.open("a") as stream:
        stream.write(f"{greeting}\n")
    print(f"start {len(starts.read_text().splitlines())} {greeting}", flush=True)
    time.sleep(300)


def breed(path: str, stubborn: str = "") -> None:
    """Leaves a grandchild in a session of its own, says all ids, and sleeps; `stubborn` ignores SIGTERM."""
    trap = "trap '' TERM; " if stubborn else ""
    grandchild = subprocess.Popen(
        ["bash", "-c", f"{trap}sleep 300 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert grandchild.stdout
    sleeper = int(grandchild.stdout.readline())
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    draft = Path(path + ".draft")
    draft.write_text(f"{os.getpid()} {grandchild.pid} {sleeper}")
    draft.replace(path)
    time.sleep(300)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
