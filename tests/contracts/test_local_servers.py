"""Servers of the local cloud start ready, keep what they are given, and never outlive who started them."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest
import redis.asyncio as redis
from azure.storage.queue.aio import QueueClient

from local import azurite, valkey
from local.azurite import Azurite, AzuriteMissing, AzuritePorts
from local.child import Child, ChildFailed, accepts_connections
from local.free_ports import free_port
from local.valkey import Valkey
from tests.requires import require
from tests.waiting import until

ROOT = Path(__file__).parents[2]
ENV = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
SERVE = "import http.server, sys; http.server.test(port=int(sys.argv[1]), bind='127.0.0.1')"
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
print(grandchild.pid, flush=True)
time.sleep(120)
"""
PARENT = """
import asyncio, os, sys
from pathlib import Path
from local.child import Child

async def main():
    argv = [sys.executable, "-c", "import time; time.sleep(120)"]
    async with Child("sleeper", argv, dict(os.environ), Path("child.log")) as child:
        print(child.pid, flush=True)
        await asyncio.sleep(120)

asyncio.run(main())
"""


async def ended(pid: int, seconds: float = 5) -> bool:
    """Whether the process is gone, or a zombie nobody has collected yet."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                try:
                    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                except FileNotFoundError:
                    return True
                if state == "Z":
                    return True
                await asyncio.sleep(0.02)
    return False


class TestChild:
    async def test_it_is_ready_when_entered_and_gone_when_left(self, tmp_path: Path):
        port = free_port()
        argv = [sys.executable, "-c", SERVE, str(port)]
        async with Child("web", argv, ENV, tmp_path / "web.log", lambda: accepts_connections(port)) as child:
            assert await accepts_connections(port)
            assert child.returncode is None
        assert not await accepts_connections(port)
        assert child.returncode == -signal.SIGTERM

    async def test_a_failing_start_tells_the_last_log_lines(self, tmp_path: Path):
        argv = [sys.executable, "-c", "import sys; sys.exit('no such database')"]
        with pytest.raises(ChildFailed, match=r"(?s)exit code 1 while starting.*no such database"):
            async with Child("web", argv, ENV, tmp_path / "web.log", lambda: accepts_connections(1)):
                pass

    async def test_a_program_that_the_system_does_not_start_is_reported(self, tmp_path: Path):
        child = Child("web", [sys.executable], ENV, tmp_path / "web.log", cwd=tmp_path / "gone")
        with pytest.raises(ChildFailed, match=r"web cannot be started: .*gone"):
            await child.start()

    async def test_a_missing_program_is_named(self, tmp_path: Path):
        with pytest.raises(ChildFailed, match="cannot run no-such-program"):
            async with Child("web", ["no-such-program"], ENV, tmp_path / "web.log", lambda: accepts_connections(1)):
                pass

    async def test_a_server_that_never_becomes_ready_is_ended(self, tmp_path: Path):
        argv = [sys.executable, "-c", "import time; time.sleep(120)"]
        child = Child("web", argv, ENV, tmp_path / "web.log", lambda: accepts_connections(1), start_timeout=0.5)
        with pytest.raises(ChildFailed, match=r"not ready within 0\.5 s"):
            await child.start()
        assert child.returncode == -signal.SIGTERM

    async def test_a_stubborn_child_and_its_own_children_are_killed(self, tmp_path: Path):
        log = tmp_path / "web.log"

        async def printed() -> bool:
            return b"\n" in log.read_bytes()

        async with Child("web", [sys.executable, "-c", STUBBORN], ENV, log, printed, grace=0.5) as child:
            grandchild = int(log.read_text())
        assert child.returncode == -signal.SIGKILL
        assert await ended(grandchild)

    async def test_one_that_is_kept_runs_again_and_says_why_it_ended(self, tmp_path: Path):
        port, said = free_port(), list[str]()
        argv = [sys.executable, "-c", SERVE, str(port)]
        async with Child("web", argv, ENV, tmp_path / "web.log", lambda: accepts_connections(port)) as child:
            keeping = asyncio.create_task(child.keep(said.append))
            first = child.pid
            os.kill(first, signal.SIGKILL)
            await until(lambda: len(said) == 2)
            assert child.pid != first
            assert await accepts_connections(port)
            assert said[0].startswith("web ended by itself (signal 9). Its log")
            assert said[1] == "web runs again."
            keeping.cancel()

    async def test_one_that_ends_again_at_once_is_given_up(self, tmp_path: Path):
        argv = [sys.executable, "-c", "import sys, time; time.sleep(0.3); sys.exit('no space left')"]
        async with Child("web", argv, ENV, tmp_path / "web.log") as child:
            said: list[str] = []
            with pytest.raises(ChildFailed, match=r"(?s)ended by itself \(exit code 1\).*no space left"):
                await child.keep(said.append)
            assert len(said) == 2

    @pytest.mark.skipif(sys.platform != "linux", reason="Only Linux can tie a process to its parent.")
    async def test_it_ends_with_its_parent_even_when_that_is_killed(self, tmp_path: Path):
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE, env=ENV, cwd=tmp_path
        )
        assert parent.stdout is not None
        pid = int(await asyncio.wait_for(parent.stdout.readline(), 15))
        parent.kill()
        await parent.wait()
        assert await ended(pid)


class TestAzurite:
    async def test_messages_survive_a_restart_in_the_same_folder(self, tmp_path: Path):
        require(not azurite.missing(), azurite.missing())
        async with (
            Azurite(tmp_path) as first,
            QueueClient.from_connection_string(first.connection_string, "kept") as queue,
        ):
            await queue.create_queue()
            await queue.send_message("hello")
        async with (
            Azurite(tmp_path) as second,
            QueueClient.from_connection_string(second.connection_string, "kept") as queue,
        ):
            (message,) = await queue.peek_messages()
            assert message.content == "hello"

    async def test_what_it_acknowledged_survives_a_kill(self, tmp_path: Path):
        require(not azurite.missing(), azurite.missing())
        async with (
            Azurite(tmp_path) as server,
            QueueClient.from_connection_string(server.connection_string, "kept") as queue,
        ):
            await queue.create_queue()
            for number in range(40):
                await queue.send_message(f"number {number}")
            taken = await queue.receive_message()
            assert taken is not None
            await queue.delete_message(taken)
            await server.child.kill()
            await server.child.start()
            kept = [message.content async for message in queue.receive_messages(messages_per_page=32)]
        assert kept == [f"number {number}" for number in range(1, 40)]

    async def test_a_port_in_use_is_an_error_with_its_number(self):
        require(not azurite.missing(), azurite.missing())
        async with Azurite() as first:
            ports = AzuritePorts(blob=free_port(), queue=free_port(), table=first.ports.table)
            with pytest.raises(ChildFailed, match=f"azurite cannot use port {ports.table}"):
                async with Azurite(ports=ports):
                    pass

    async def test_missing_packages_are_an_error_that_says_what_to_run(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("PATH", "")
        with pytest.raises(AzuriteMissing, match=r"Install Node\.js"):
            async with Azurite():
                pass


class TestValkey:
    async def test_keys_survive_a_restart_in_the_same_folder(self, tmp_path: Path):
        async with Valkey(tmp_path) as first, redis.from_url(first.url) as client:
            await client.set("kept", "1")
        async with Valkey(tmp_path) as second, redis.from_url(second.url) as client:
            assert await client.get("kept") == b"1"

    async def test_without_a_folder_nothing_is_kept_and_scripts_run(self):
        async with Valkey() as server, redis.from_url(server.url) as client:
            assert await client.eval("return redis.call('incr', KEYS[1])", 1, "n") == 1
            assert await client.config_get("appendonly") == {"appendonly": "no"}

    async def test_a_port_in_use_is_an_error_with_its_number(self):
        async with Valkey() as first:
            with pytest.raises(ChildFailed, match=f"valkey cannot use port {first.port}"):
                async with Valkey(port=first.port):
                    pass

    async def test_it_listens_on_the_loopback_only(self):
        async with Valkey() as server, redis.from_url(server.url) as client:
            assert (await client.config_get("bind"))["bind"] == "127.0.0.1"

    def test_its_server_is_an_executable_file(self):
        assert os.access(valkey.server_binary(), os.X_OK)
