"""`python -m tests.with_engine COMMAND...`: runs it with a Docker engine of its own, which has the agent's image.

With KANBAN_TEST_ENGINE_DATA the images are kept for the next time, so `true` is a command that makes them.
"""

import asyncio
import os
import sys

from tests.engine import running_engine


async def main(command: list[str]) -> int:
    async with running_engine() as engine:
        image = await engine.agent_image()
        print(f"Docker engine at {engine.endpoint} with {image}", flush=True)
        env = os.environ | {"DOCKER_HOST": engine.endpoint, "CONTAINER_SUBNETS": engine.subnets}
        process = await asyncio.create_subprocess_exec(*command, env=env)
        return await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
