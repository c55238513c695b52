"""`make reset`: empties the local cloud's data, unless it is running."""

import shutil
import socket
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data"
API_PORT = 7071


def main() -> int:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", API_PORT)) == 0:
            print("The local cloud is running: stop it with Ctrl-C first.", file=sys.stderr)
            return 1
    shutil.rmtree(DATA, ignore_errors=True)
    print(f"Emptied {DATA}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
