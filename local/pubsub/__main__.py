"""Serves the emulator by itself: `python -m local.pubsub PORT`, with REDIS_URL and WEB_PUBSUB_ACCESS_KEY set."""

import os
import sys

import uvicorn

from local.pubsub.app import create_app


def main() -> None:
    app = create_app(os.environ["REDIS_URL"], os.environ["WEB_PUBSUB_ACCESS_KEY"])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")


if __name__ == "__main__":
    main()
