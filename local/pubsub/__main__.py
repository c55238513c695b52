"""Serves the emulator by itself: `python -m local.pubsub PORT`, with REDIS_URL and WEB_PUBSUB_ACCESS_KEY set."""

import os
import sys
from typing import Any

import uvicorn

from local.pubsub.app import create_app
from local.serving import IDLE_SECONDS


def main() -> None:
    app = create_app(os.environ["REDIS_URL"], os.environ["WEB_PUBSUB_ACCESS_KEY"])
    port = int(sys.argv[1])
    # Compressing for the loopback would cost more than anything else here.
    sockets: Any = {"ws": "websockets-sansio", "ws_per_message_deflate": False, "timeout_keep_alive": IDLE_SECONDS}
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", **sockets)


if __name__ == "__main__":
    main()
