import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent_container.api import Platform
from agent_container.config import Config
from agent_container.redact import Redactor
from agent_container.run import Run
from tests.agent.platform_api import RUN_ID, PlatformApi, make_repository
from tests.serving import base_url, listening_socket, serve


@dataclass
class Agent:
    """Starts the agent against a platform, in this process or as the container would."""

    api: PlatformApi
    home: Path

    def env(self) -> dict[str, str]:
        return {
            "API_URL": self.api.base_url,
            "RUN_ID": RUN_ID,
            "RUN_TOKEN": self.api.run_token,
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
        }

    @property
    def checkout(self) -> Path:
        return self.home / "work" / "checkout"

    async def run(self, terminate: asyncio.Event | None = None) -> int:
        config = Config.take(self.env())
        async with Platform(config.api_url, config.run_id, config.run_token, patience=20) as platform:
            return await Run(config, platform, Redactor(config.run_token), terminate or asyncio.Event()).execute()

    async def start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "agent_container",
            cwd=Path(__file__).parents[2],
            env=self.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@pytest.fixture
async def api(tmp_path: Path) -> AsyncGenerator[PlatformApi]:
    api = PlatformApi(tmp_path / "repositories")
    make_repository(api.repository, files={"README.md": "# Site\n"})
    sock = listening_socket()
    api.base_url = base_url(sock)
    async with serve(api.app(), sock):
        yield api


@pytest.fixture
def agent(api: PlatformApi, tmp_path: Path) -> Agent:
    home = tmp_path / "home"
    home.mkdir()
    return Agent(api, home)


def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
