"""`python -m agent_container`: one run."""

import asyncio
import logging
import os
import signal
import sys

from agent_container.api import Platform
from agent_container.config import BadEnvironment, Config
from agent_container.harden import hide_memory
from agent_container.redact import Redactor
from agent_container.run import Run

EXIT_BAD_ENVIRONMENT = 2


class _RedactingFormatter(logging.Formatter):
    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.text(super().format(record))


def main() -> int:
    hide_memory()
    try:
        config = Config.take(os.environ)
    except BadEnvironment as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BAD_ENVIRONMENT
    redactor = Redactor(config.run_token)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_RedactingFormatter(redactor))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("agent_container").setLevel(logging.INFO)
    return asyncio.run(_run(config, redactor))


async def _run(config: Config, redactor: Redactor) -> int:
    terminate = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, terminate.set)
    async with Platform(config.api_url, config.run_id, config.run_token) as platform:
        return await Run(config, platform, redactor, terminate).execute()


if __name__ == "__main__":
    sys.exit(main())
