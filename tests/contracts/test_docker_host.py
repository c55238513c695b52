"""What the Docker driver promises beside the contract of container hosts: walls, outages, three ways to an engine."""

import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from local.child import Child, accepts_connections
from shared.core.errors import Conflict, Invalid, Unavailable
from shared.core.ports import ContainerHost, Limits
from tests.contracts import container_jobs
from tests.contracts.hosts import DockerHarness, ended, job, printed, service, waiting
from tests.engine import Engine, SshServer, require_sshd
from tests.relay import Relay
from tests.requires import require
from tests.waiting import until

pytestmark = pytest.mark.timeout(900)

IMPATIENT = 2
"""Seconds; on a busy machine an engine takes a part of one to answer."""


class TestWalls:
    async def test_a_job_has_no_rights_and_writes_to_its_home_only(self, docker: DockerHarness) -> None:
        await docker.host.start_job(job("rights", "show_rights"))
        await docker.host.start_job(
            job("files", "write", "/home/agent", "/tmp", "/", "/etc", "/opt/agent", "/run/kanban")
        )
        rights = (await ended(docker.host, "rights")).log_tail.splitlines()
        assert {"Uid: 10001 10001 10001 10001", "Gid: 10001 10001 10001 10001", "NoNewPrivs: 1"} <= set(rights)
        assert {"CapEff: 0000000000000000", "CapBnd: 0000000000000000", "Seccomp: 2"} <= set(rights)
        assert (await ended(docker.host, "files")).log_tail.splitlines() == [
            "/home/agent written",
            "/tmp written",
            "/ OSError",
            "/etc OSError",
            "/opt/agent OSError",
            "/run/kanban PermissionError",
        ]

    async def test_a_service_has_no_rights_either(self, docker: DockerHarness) -> None:
        await docker.host.start_service(service("proxy", "be_deaf", volumes={"data": "/data"}))
        found = await docker.inspect("proxy")
        assert (found["Config"]["User"], found["HostConfig"]["ReadonlyRootfs"]) == ("10001:10001", True)
        assert (found["HostConfig"]["CapDrop"], found["HostConfig"]["CapAdd"]) == (["ALL"], None)
        assert found["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
        assert not found["HostConfig"]["Privileged"]

    async def test_a_job_s_secrets_reach_its_program_and_nothing_else(self, docker: DockerHarness) -> None:
        """Not the engine's memory and disk, not the log, and no process that stays beside the program's."""
        env = {"RUN_TOKEN": "tok-12345", "TWO_LINES": "a'b\n$c \\ \"d"}
        await docker.host.start_job(job("quiet", "count_until", "/tmp/x", env=env))
        await printed(docker.host, "quiet", "0")
        assert "tok-12345" not in json.dumps(await docker.inspect("quiet"))
        seen = await asyncio.to_thread(
            docker.run_in, "quiet", ["sh", "-c", "ls -A /run/kanban/job; cat /proc/1/environ"]
        )
        assert "PATH=" in seen
        assert "tok-12345" not in seen
        on_disk = [path for path in docker.engine.data.glob("containers/*/*") if path.is_file()]
        on_disk += [path for path in docker.engine.data.glob("volumes/*/_data/**/*") if path.is_file()]
        assert on_disk
        assert not [path for path in on_disk if b"tok-12345" in path.read_bytes()]
        await docker.host.start_job(job("told", "show_environment", env=env))
        log = (await ended(docker.host, "told")).log_tail
        assert "RUN_TOKEN=tok-12345\n" in log
        assert "TWO_LINES=a'b\n$c \\ \"d\n" in log

    async def test_others_in_the_container_see_no_secret(self, docker: DockerHarness) -> None:
        """What stays beside the agent's own process, which hides itself, was started without."""
        await docker.host.start_job(job("spy", "show_all_environments", env={"RUN_TOKEN": "tok-12345"}))
        log = (await ended(docker.host, "spy")).log_tail
        assert "1 PATH=" in log
        assert "tok-12345" not in log

    async def test_a_container_of_somebody_else_is_left_alone(self, docker: DockerHarness) -> None:
        other = docker.another("http://elsewhere.test")
        await other.start_job(job("run", "be_deaf", team_id="t9"))
        assert await docker.host.hosted() == []
        for act in (docker.host.stop_job, docker.host.kill, docker.host.remove, docker.host.job):
            with pytest.raises(Conflict, match="not ours"):
                await act("run")
        with pytest.raises(Conflict, match="not ours"):
            await docker.host.start_job(job("run", "be_deaf"))
        await docker.host.remove_team("t9")
        assert [each.name for each in await other.hosted()] == ["run"]

    async def test_an_image_that_is_not_there_is_named(self, docker: DockerHarness) -> None:
        docker.image = "no-such-image:1"
        with pytest.raises(Conflict, match="no-such-image:1 is not on the container host"):
            await docker.another().start_job(waiting(docker))
        assert await docker.host.hosted() == []

    async def test_an_image_that_is_no_agent_s_says_so_in_the_log(self, docker: DockerHarness, engine: Engine) -> None:
        docker.image = await engine.base_image()
        await docker.another().start_job(waiting(docker))
        found = await ended(docker.host, "run_t0_a")
        assert (found.exit_code, "/opt/agent/run failed: No such file" in found.log_tail) == (127, True)

    async def test_limits_that_no_engine_has_are_refused_and_leave_nothing(self, docker: DockerHarness) -> None:
        with pytest.raises(Invalid, match="CPUs"):
            await docker.host.start_job(job("run", "be_deaf", limits=Limits(cpus=1000)))
        assert docker.engine.api().containers(all=True) == []

    async def test_half_made_containers_are_never_shown(self, docker: DockerHarness) -> None:
        """As a host leaves one that was killed between making and naming it."""
        await docker.host.start_job(job("whole", "be_deaf"))
        api = docker.engine.api()
        labels = (await docker.inspect("whole"))["Config"]["Labels"] | {"kanban.name": "half"}
        made = api.create_container(docker.image, ["x"], name="kanban-half.0a1b2c3d", labels=labels)
        assert [each.name for each in await docker.host.hosted()] == ["whole"]
        assert await docker.host.job("half") is None
        await docker.host.start_job(waiting(docker, "half"))
        assert sorted(each.name for each in await docker.host.hosted()) == ["half", "whole"]
        await docker.host.remove_team("t0")
        assert made["Id"] not in {each["Id"] for each in api.containers(all=True)}


class TestNetworks:
    @pytest.fixture
    async def outside(self, engine: Engine, tmp_path: Path) -> AsyncGenerator[str]:
        """Host and port of a server beyond the engine's machine, which forwards to it."""
        async with beyond(tmp_path) as address:
            yield address

    async def test_a_job_reaches_its_team_and_the_machine_of_its_engine_only(
        self, docker: DockerHarness, outside: str
    ) -> None:
        await docker.host.start_service(service("web", "serve", "8000", alias="app"))
        await docker.host.start_service(service("their-web", "serve", "8000", team_id="t1", alias="theirs"))
        await printed(docker.host, "web", "serving")
        await printed(docker.host, "their-web", "serving")
        networks = (await docker.inspect("their-web"))["NetworkSettings"]["Networks"]
        theirs = f"{next(iter(networks.values()))['IPAddress']}:8000"
        with socket.create_server(("0.0.0.0", 0)) as platform:
            machine = f"host.docker.internal:{platform.getsockname()[1]}"
            seen: list[list[str]] = []
            # One after the other: while it makes a network, an engine is without its walls for a moment.
            for reach in (
                job("outbound", "reach", machine, outside, theirs, outbound=True),
                job("inside", "reach", "app:8000", machine, theirs, "theirs:8000", outside),
            ):
                await docker.host.start_job(reach)
                seen.append((await ended(docker.host, reach.name)).log_tail.splitlines())
        outbound, inside = seen
        assert inside == [
            *_told("reached", "app:8000", machine),
            *_told("out of reach", theirs, "theirs:8000", outside),
        ]
        assert outbound == [*_told("reached", machine, outside), *_told("out of reach", theirs)]

    async def test_parallel_starts_share_one_network_of_the_given_range(self, docker: DockerHarness) -> None:
        hosts = [docker.another() for _ in range(4)]
        await asyncio.gather(*(host.ensure_team("fresh") for host in hosts for _ in range(2)))
        api = docker.engine.api()
        found = api.networks(names=["kanban-fresh"])
        assert len(found) == 1
        subnet = ip_network(found[0]["IPAM"]["Config"][0]["Subnet"])
        assert subnet.subnet_of(ip_network(docker.engine.subnets))  # type: ignore[arg-type]
        await docker.host.remove_team("fresh")
        assert api.networks(names=["kanban-fresh"]) == []

    async def test_a_range_that_is_full_is_unavailable(self, docker: DockerHarness) -> None:
        first = ip_network(docker.engine.subnets)
        narrow = docker.another(subnets=f"{first.network_address + 4096}/26")
        await narrow.ensure_team("narrow-1")
        with pytest.raises(Unavailable, match="CONTAINER_SUBNETS"):
            await narrow.ensure_team("narrow-2")
        await narrow.remove_team("narrow-1")

    @pytest.mark.parametrize("subnets", ["10.0.0.0/27", "nonsense"])
    async def test_a_range_of_no_use_is_refused(self, docker: DockerHarness, subnets: str) -> None:
        with pytest.raises(Invalid, match="CONTAINER_SUBNETS"):
            docker.another(subnets=subnets)


class TestEngineOutage:
    async def test_everything_is_unavailable_meanwhile_and_a_job_survives(self, docker: DockerHarness) -> None:
        engine, host = docker.engine, docker.host
        await host.start_job(job("run", "count_until", "/tmp/enough"))
        await printed(host, "run", "5\n")
        numbers, cursor = "", ""
        async with asyncio.timeout(60):
            with pytest.raises(Unavailable, match=r"cut off|does not answer"):  # noqa: PT012 - the stream is what breaks
                async for chunk in host.logs("run"):
                    numbers, cursor = numbers + chunk.text, chunk.cursor
                    if numbers.endswith("\n9\n"):
                        await engine.kill()
        for call in _every_call(host):
            with pytest.raises(Unavailable, match="does not answer"):
                await call()
        await asyncio.sleep(1)
        await engine.start()
        found = await host.job("run")
        assert found
        assert found.status == "running"
        await docker.put("run", "enough", "")
        numbers += "".join([chunk.text async for chunk in host.logs("run", cursor)])
        *counted, last = numbers.splitlines()
        assert [int(number) for number in counted] == list(range(len(counted)))
        assert last == f"last {len(counted)}"
        assert len(counted) > 50, "it went on counting meanwhile"
        assert (await ended(host, "run")).exit_code == 0

    async def test_an_engine_without_live_restore_ends_all_and_it_can_be_started_again(
        self, docker: DockerHarness
    ) -> None:
        proxy = service("proxy", "remember", volumes={"data": "/data"})
        await docker.host.start_job(job("run", "count_until", "/tmp/enough"))
        await docker.host.start_service(proxy)
        await printed(docker.host, "run", "1\n")
        await printed(docker.host, "proxy", "start 1")
        await docker.engine.restart(live_restore=False)
        assert (await ended(docker.host, "run")).exit_code == 143
        assert "".join([chunk.text async for chunk in docker.host.logs("run")]).startswith("0\n1\n2\n")
        assert (await docker.host.start_job(job("run", "count_until", "/tmp/enough"))).exit_code == 143
        await docker.host.start_service(proxy)
        await printed(docker.host, "proxy", "start 2")
        await docker.engine.restart()

    async def test_a_start_that_meets_an_outage_can_be_repeated(self, docker: DockerHarness) -> None:
        """Killed again and again while it is at it: in the end there is one job, and it runs."""
        for pause in (0.05, 0.2, 0.4):
            start = asyncio.create_task(docker.host.start_job(waiting(docker)))
            await asyncio.sleep(pause)
            await docker.engine.kill()
            await asyncio.wait({start})
            if error := start.exception():
                assert isinstance(error, Unavailable)
            await docker.engine.start()
            assert (await docker.host.start_job(waiting(docker))).status == "running"
            assert [each.name for each in await docker.host.hosted()] == ["run_t0_a"]
            await docker.finish("run_t0_a", 4, "done")
            assert (await ended(docker.host, "run_t0_a")).exit_code == 4
            await docker.host.remove("run_t0_a")


async def whole_life(docker: DockerHarness, host: ContainerHost) -> None:
    """Starts, streams, lists, stops, removes, and leaves no thread behind that listens."""
    await host.ensure_team("t0")
    await asyncio.gather(*(host.start_job(waiting(docker, f"run_{number}")) for number in range(2)))
    stream = host.logs("run_0")
    assert (await anext(stream)).text == "waiting\n"
    await docker.finish("run_0", 5, "the end")
    assert "".join([chunk.text async for chunk in stream]) == "the end\n"
    assert (await ended(host, "run_0")).exit_code == 5
    left = host.logs("run_1")
    await anext(left)
    await left.aclose()
    await host.stop_job("run_1")
    await host.kill("run_1")
    assert {each.status for each in await host.hosted("t0")} == {"exited"}
    await host.start_service(service("proxy", "remember", volumes={"data": "/data"}))
    await printed(host, "proxy", "start 1")
    await host.remove_team("t0")
    assert await host.hosted() == []

    async def quiet() -> bool:
        return not [thread.name for thread in threading.enumerate() if thread.name.startswith("logs-")]

    await until(quiet, 10)


async def quiet_container(docker: DockerHarness, host: ContainerHost) -> None:
    """`host` has little patience: a job that prints nothing for longer is followed to its end, each line told once."""
    await host.start_job(waiting(docker, "quiet"))
    stream = host.logs("quiet")
    assert (await anext(stream)).text == "waiting\n"
    rest = asyncio.create_task(anext(stream))
    await asyncio.sleep(3.5 * IMPATIENT)
    assert not rest.done()
    await docker.finish("quiet", 5, "the end")
    assert (await rest).text == "the end\n"
    assert [chunk.text async for chunk in stream] == []


async def vanished_machine(docker: DockerHarness, host: ContainerHost, wire: Relay) -> None:
    """`host` has little patience and reaches its engine by the wire."""
    await host.start_job(waiting(docker, "left"))
    stream = host.logs("left")
    assert (await anext(stream)).text == "waiting\n"
    wire.silent = True
    async with asyncio.timeout(15 * IMPATIENT):
        with pytest.raises(Unavailable, match="does not answer"):
            await anext(stream)
        with pytest.raises(Unavailable, match="does not answer"):
            await host.hosted()
    wire.silent = False
    found = await host.job("left")
    assert found
    assert found.status == "running"


class TestUnixSocket:
    async def test_whole_life(self, docker: DockerHarness) -> None:
        await whole_life(docker, docker.host)

    async def test_a_container_may_be_quiet_for_long(self, docker: DockerHarness) -> None:
        await quiet_container(docker, docker.another(patience=IMPATIENT))

    async def test_an_engine_that_is_not_there_is_named(self, docker: DockerHarness, tmp_path: Path) -> None:
        for call in _every_call(docker.another(endpoint=f"unix://{tmp_path}/none.sock")):
            with pytest.raises(Unavailable, match=r"The container engine at unix://.*/none.sock does not answer"):
                await call()

    @pytest.mark.parametrize("endpoint", ["/var/run/docker.sock", "http://127.0.0.1:1", ""])
    async def test_other_addresses_are_refused(self, docker: DockerHarness, endpoint: str) -> None:
        from shared.adapters.docker_engine import DockerEngine

        with pytest.raises(Invalid, match="unix://, tcp://"):
            DockerEngine(endpoint)


class TestTls:
    async def test_whole_life_with_other_authorities_in_the_environment(
        self, docker: DockerHarness, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The function host has REQUESTS_CA_BUNDLE set always."""
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.setenv(name, str(engine.certificates / "stranger" / "ca.pem"))
        await whole_life(docker, docker.another(endpoint=engine.tls_endpoint, certificates=_folder(engine, "client")))

    async def test_a_container_may_be_quiet_for_long(self, docker: DockerHarness, engine: Engine) -> None:
        certificates = _folder(engine, "client")
        host = docker.another(endpoint=engine.tls_endpoint, certificates=certificates, patience=IMPATIENT)
        await quiet_container(docker, host)

    async def test_a_machine_that_vanished_is_noticed(self, docker: DockerHarness, engine: Engine) -> None:
        wire, certificates = Relay(_port(engine.tls_endpoint)), _folder(engine, "client")
        async with wire.open() as port:
            endpoint = f"tcp://127.0.0.1:{port}"
            host = docker.another(endpoint=endpoint, certificates=certificates, patience=IMPATIENT)
            await vanished_machine(docker, host, wire)

    async def test_an_engine_of_another_authority_is_refused(
        self, docker: DockerHarness, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also when the environment would trust it."""
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(engine.certificates / "client" / "ca.pem"))
        folder = _mixed(engine, tmp_path, ca="stranger", cert="client")
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await docker.another(endpoint=engine.tls_endpoint, certificates=folder).hosted()

    async def test_the_engine_demands_a_certificate_of_its_own_authority(
        self, docker: DockerHarness, engine: Engine, tmp_path: Path
    ) -> None:
        folder = _mixed(engine, tmp_path, ca="client", cert="stranger")
        with pytest.raises(Unavailable, match="does not answer"):
            await docker.another(endpoint=engine.tls_endpoint, certificates=folder).hosted()

    async def test_without_certificates_nothing_is_tried(self, engine: Engine, tmp_path: Path) -> None:
        from shared.adapters.docker_engine import DockerEngine

        with pytest.raises(Invalid, match="DOCKER_CERT_PATH"):
            DockerEngine(engine.tls_endpoint)
        (tmp_path / "ca.pem").write_text("")
        with pytest.raises(Invalid, match=r"missing: cert\.pem, key\.pem"):
            DockerEngine(engine.tls_endpoint, str(tmp_path))


class TestSsh:
    @pytest.fixture
    async def ssh(self, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[SshServer]:
        require_sshd()
        async with SshServer(engine, tmp_path / "ssh").running() as server:
            monkeypatch.setenv("HOME", str(server.home))
            monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
            yield server

    async def test_whole_life(self, docker: DockerHarness, ssh: SshServer) -> None:
        await whole_life(docker, docker.another(endpoint=ssh.endpoint))

    @pytest.fixture
    async def wire(self, ssh: SshServer) -> AsyncGenerator[tuple[Relay, str]]:
        """A wire to the server, and its endpoint there."""
        wire, known = Relay(ssh.port), ssh.home / ".ssh/known_hosts"
        async with wire.open() as port:
            known.write_text(known.read_text() + known.read_text().replace(f":{ssh.port}", f":{port}"))
            yield wire, f"ssh://{ssh.user}@127.0.0.1:{port}"

    async def test_a_container_may_be_quiet_for_long(self, docker: DockerHarness, ssh: SshServer) -> None:
        await quiet_container(docker, docker.another(endpoint=ssh.endpoint, patience=IMPATIENT))

    async def test_a_machine_that_vanished_is_noticed(self, docker: DockerHarness, wire: tuple[Relay, str]) -> None:
        await vanished_machine(docker, docker.another(endpoint=wire[1], patience=IMPATIENT), wire[0])

    async def test_a_machine_that_never_answers_is_not_waited_for(
        self, docker: DockerHarness, wire: tuple[Relay, str]
    ) -> None:
        wire[0].silent = True
        async with asyncio.timeout(10 * IMPATIENT):
            with pytest.raises(Unavailable, match="does not answer"):
                await docker.another(endpoint=wire[1], patience=IMPATIENT).hosted()

    async def test_port_user_and_identity_of_the_configuration(self, docker: DockerHarness, ssh: SshServer) -> None:
        identity = ssh.home / "other-name"
        (ssh.home / ".ssh/id_ed25519").rename(identity)
        (ssh.home / ".ssh/config").write_text(
            f"Host farm\n  HostName 127.0.0.1\n  Port {ssh.port}\n  User {ssh.user}\n  IdentityFile {identity}\n"
        )
        await docker.another(endpoint="ssh://farm").start_job(waiting(docker))
        assert [each.name for each in await docker.host.hosted()] == ["run_t0_a"]

    async def test_a_host_whose_key_is_not_known_is_refused(self, docker: DockerHarness, ssh: SshServer) -> None:
        (ssh.home / ".ssh/known_hosts").unlink()
        with pytest.raises(Unavailable, match="not found in known_hosts"):
            await docker.another(endpoint=ssh.endpoint).hosted()

    async def test_a_host_with_another_key_than_known_is_refused(self, docker: DockerHarness, ssh: SshServer) -> None:
        known = ssh.home / ".ssh/known_hosts"
        other = (ssh.home / ".ssh/id_ed25519.pub").read_text().split()[1]
        known.write_text(f"[127.0.0.1]:{ssh.port} ssh-ed25519 {other}\n")
        with pytest.raises(Unavailable, match="does not match"):
            await docker.another(endpoint=ssh.endpoint).hosted()

    async def test_a_stranger_is_refused(self, docker: DockerHarness, ssh: SshServer) -> None:
        (ssh.home / ".ssh/id_ed25519").unlink()
        with pytest.raises(Unavailable, match="does not answer"):
            await docker.another(endpoint=ssh.endpoint).hosted()

    async def test_an_outage_passes(self, docker: DockerHarness, ssh: SshServer) -> None:
        host = docker.another(endpoint=ssh.endpoint)
        await host.start_job(waiting(docker))
        await docker.engine.kill()
        with pytest.raises(Unavailable):
            await host.job("run_t0_a")
        await docker.engine.start()
        found = await host.job("run_t0_a")
        assert found
        assert found.status == "running"


def _every_call(host: ContainerHost) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: host.start_job(job("new", "be_deaf")),
        lambda: host.start_service(service("new-proxy", "be_deaf")),
        lambda: host.job("run"),
        lambda: host.service("run"),
        lambda: host.stop_job("run"),
        lambda: host.kill("run"),
        lambda: host.remove("run"),
        lambda: anext(host.logs("run")),
        lambda: host.hosted(),
        lambda: host.ensure_team("t0"),
        lambda: host.remove_team("t0"),
    ]


@asynccontextmanager
async def beyond(folder: Path) -> AsyncGenerator[str]:
    """A machine of its own, as far as networks go, on the other end of a cable."""
    require(shutil.which("ip"), "Install iproute2 (apt-get install iproute2).")
    name = f"kt{os.getpid()}"
    network = ip_network(f"198.18.{random.randrange(256)}.0/30")
    ours, theirs = (str(address) for address in network.hosts())
    commands = (
        f"ip netns add {name}",
        f"ip link add {name} type veth peer name eth0 netns {name}",
        f"ip addr add {ours}/30 dev {name}",
        f"ip link set {name} up",
        f"ip -n {name} addr add {theirs}/30 dev eth0",
        f"ip -n {name} link set eth0 up",
    )
    try:
        for command in commands:
            await asyncio.to_thread(subprocess.run, command.split(), check=True)
        server = ["ip", "netns", "exec", name, sys.executable, container_jobs.__file__, "serve", "8000"]
        async with Child(
            "beyond", server, os.environ, folder / "beyond.log", lambda: accepts_connections(8000, theirs)
        ):
            yield f"{theirs}:8000"
    finally:
        await asyncio.to_thread(subprocess.run, ["ip", "netns", "delete", name], check=True)


def _told(what: str, *addresses: str) -> list[str]:
    return [f"{address} {what}" for address in addresses]


def _port(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def _folder(engine: Engine, name: str) -> str:
    return str(engine.certificates / name)


def _mixed(engine: Engine, folder: Path, *, ca: str, cert: str) -> str:
    for name, source in (("ca.pem", ca), ("cert.pem", cert), ("key.pem", cert)):
        (folder / name).write_bytes((engine.certificates / source / name).read_bytes())
    return str(folder)
