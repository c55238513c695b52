"""Serves the demo model by itself: `python -m local.model --port 8089`."""

import argparse

import uvicorn

from local.model.app import create_app
from local.serving import IDLE_SECONDS


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=8089)
    arguments.add_argument("--delay", type=float, default=0.015, help="seconds before each streamed piece")
    options = arguments.parse_args()
    uvicorn.run(
        create_app(options.delay),
        host=options.host,
        port=options.port,
        log_level="warning",
        timeout_keep_alive=IDLE_SECONDS,
    )


if __name__ == "__main__":
    main()
