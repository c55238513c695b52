"""A Docker engine of the tests' own, beside any other on this machine: unix socket, TLS, ssh, killed and started again.

KANBAN_TEST_ENGINE_DATA names a folder that outlives a session: its images are made once. It needs a short path, and
serves one session at a time.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Generator, Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import trustme
from docker import APIClient
from docker.errors import APIError, DockerException

from local import agent_image, base_image
from local.child import Child, accepts_connections
from local.free_ports import free_port
from tests.requires import require

_START_SECONDS, _GRACE_SECONDS = 90, 40
_CALL_SECONDS = 300
_CHAINS = ("filter", "nat")


def require_engine() -> None:
    """Skips where no engine can run."""
    require(os.geteuid() == 0, "A Docker engine is started by root: run these tests as root.")
    require(shutil.which("dockerd"), "Install a Docker engine (apt-get install docker.io).")
    require(shutil.which("iptables"), "Install iptables (apt-get install iptables).")


def require_sshd() -> None:
    require(shutil.which("sshd") or Path("/usr/sbin/sshd").exists(), "Install sshd (apt-get install openssh-server).")
    require(shutil.which("docker"), "Install Docker's command, which ssh needs (apt-get install docker.io).")


class Engine:
    """`folder` holds its data, sockets and log; `subnets` is a range of addresses for its networks alone.

    Like any engine it leaves the machine forwarding between networks, for containers only.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.socket = folder / "docker.sock"
        self.endpoint = f"unix://{self.socket}"
        self.subnets = str(IPv4Network((f"10.{random.randrange(128, 250)}.{random.randrange(16) * 16}.0", 20)))
        self._tls_port = free_port()
        self.tls_endpoint = f"tcp://127.0.0.1:{self._tls_port}"
        self.certificates = folder / "certificates"
        self._prefix = f"KT{hashlib.sha256(bytes(folder)).hexdigest()[:6]}"
        self._dockerd: Child | None = None

    async def start(self, *, live_restore: bool = True) -> None:
        """Running containers outlive its death with `live_restore`; without, the next start ends them."""
        self._prepare()
        tls = [f"--tls{name}={self.certificates / 'server' / file}" for name, file in _TLS_FILES]
        argv = ["dockerd", f"--data-root={self.data}", f"--exec-root={self.folder / 'run'}", "--bridge=none"]
        argv += [f"--pidfile={self.folder / 'pid'}", f"--default-address-pool=base={self.subnets},size=26"]
        argv += [f"--host={self.endpoint}", f"--host={self.tls_endpoint}", "--tlsverify", *tls]
        argv += [f"--live-restore={json.dumps(live_restore)}", "--containerd="]
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin"
        self._dockerd = Child(
            "dockerd",
            argv,
            dict(os.environ) | {"PATH": path},
            self.folder / "dockerd.log",
            self.answers,
            start_timeout=_START_SECONDS,
            grace=_GRACE_SECONDS,
        )
        await self._dockerd.start()

    async def kill(self) -> None:
        """As a power cut of the engine alone; containers go on."""
        assert self._dockerd
        await self._dockerd.kill()
        async with asyncio.timeout(_GRACE_SECONDS):
            while list(self._containerds(b"containerd.toml")):
                await asyncio.sleep(0.02)

    async def restart(self, *, live_restore: bool = True) -> None:
        """Kills it and starts it again on the same data."""
        await self.kill()
        await self.start(live_restore=live_restore)

    async def stop(self) -> None:
        """Ends everything that it started. Images stay in `data`."""
        try:
            if not await self.answers():
                await self.start()
            await self.clear()
        finally:
            if self._dockerd:
                await self._dockerd.stop()
            self._end_shims()
            self._unmount()
            self._forget_rules()

    async def clear(self, *, networks: bool = True) -> None:
        """Removes every container and volume, and every network."""
        await asyncio.to_thread(_clear, self.endpoint, networks=networks)

    async def answers(self) -> bool:
        try:
            await asyncio.to_thread(_ping, self.endpoint)
        except (DockerException, OSError):
            return False
        return True

    def api(self) -> APIClient:
        return APIClient(self.endpoint, version="auto", timeout=_CALL_SECONDS)

    async def base_image(self) -> str:
        """The base image's name, made by debootstrap when the data holds none."""
        require(not base_image.missing() or (self.folder / "images").is_dir(), base_image.missing())
        return await asyncio.to_thread(base_image.ensure, self.api(), self.folder / "images")

    async def agent_image(self) -> str:
        """The agent image's name, built when the data holds none of these sources."""
        return await asyncio.to_thread(agent_image.ensure, self.api(), await self.base_image())

    def _prepare(self) -> None:
        """Certificates, and the engine's own chains of firewall rules: a starting engine empties those it finds."""
        # Of one that is dead, whose status perhaps nobody has taken: dockerd would wait for it.
        (self.folder / "run/containerd/containerd.pid").unlink(missing_ok=True)
        if not self.certificates.exists():
            _issue_certificates(self.certificates)
        iptables = self.folder / "bin" / "iptables"
        iptables.parent.mkdir(exist_ok=True)
        real = shutil.which("iptables", path="/usr/sbin:/sbin:/usr/bin")
        iptables.write_text(_IPTABLES.format(prefix=self._prefix, iptables=real))
        iptables.chmod(0o755)

    def _end_shims(self) -> None:
        """Of containers that the engine could not end."""
        for entry in self._containerds(b""):
            with contextlib.suppress(OSError):
                for child in (entry / "task" / entry.name / "children").read_text().split():
                    os.kill(int(child), signal.SIGKILL)
                os.kill(int(entry.name), signal.SIGKILL)

    def _containerds(self, argument: bytes) -> Iterator[Path]:
        """Folders in /proc of this engine's containerd and shims, those with `argument` in their arguments."""
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                told = (entry / "cmdline").read_bytes()
                program = told.partition(b"\0")[0]
                if b"containerd" in program and str(self.folder).encode() in told and argument in told:
                    yield entry

    def _unmount(self) -> None:
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in reversed(points):
            if point.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", point], check=False)

    def _forget_rules(self) -> None:
        for table in _CHAINS:
            rules = _iptables(table, "-S").splitlines()
            ours = [rule.split() for rule in rules if self._prefix in rule]
            for _, *rule in (rule for rule in ours if rule[0] == "-A" and not rule[1].startswith(self._prefix)):
                _iptables(table, "-D", *rule)
            for flag in ("-F", "-X"):
                for _, chain in (rule for rule in ours if rule[0] == "-N"):
                    _iptables(table, flag, chain)


class SshServer:
    """Lets the holder of `home`/.ssh/id_ed25519 reach an engine by ssh, as the user who runs this."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.port = free_port()
        self.user = "root"
        self.home = folder / "home"
        self._folder = folder
        self._engine = engine
        self.endpoint = f"ssh://{self.user}@127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator["SshServer"]:
        keys = self.home / ".ssh"
        keys.mkdir(parents=True, mode=0o700)
        for path in (keys / "id_ed25519", self._folder / "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        (self._folder / "sshd_config").write_text(self._config(keys))
        public = (self._folder / "host_key.pub").read_text().split()
        (keys / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public[0]} {public[1]}\n")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        argv = [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", str(self._folder / "sshd_config")]
        log = self._folder / "sshd.log"
        async with Child("sshd", argv, os.environ, log, lambda: accepts_connections(self.port)):
            yield self

    def _config(self, keys: Path) -> str:
        return (
            f"ListenAddress 127.0.0.1:{self.port}\n"
            f"HostKey {self._folder / 'host_key'}\n"
            f"AuthorizedKeysFile {keys / 'id_ed25519.pub'}\n"
            f"SetEnv DOCKER_HOST={self._engine.endpoint}\n"
            "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
            "MaxSessions 100\nMaxStartups 100\n"
        )


@contextlib.asynccontextmanager
async def running_engine() -> AsyncGenerator[Engine]:
    """Skips where none can run."""
    require_engine()
    with _engine_folder() as folder:
        engine = Engine(folder)
        try:
            await engine.start()
            await engine.clear()
            yield engine
        finally:
            await engine.stop()


_TLS_FILES = (("cacert", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem"))
_IPTABLES = """#!/bin/sh
# The engine's chains under another prefix.
for argument; do
  case "$argument" in DOCKER*) argument="{prefix}${{argument#DOCKER}}" ;; esac
  set -- "$@" "$argument"
  shift
done
exec {iptables} "$@"
"""


def _issue_certificates(folder: Path) -> None:
    """`server` is the engine's, `client` may use it, `stranger` is of another authority."""
    ca, other = trustme.CA(), trustme.CA()
    issued = {"server": ca.issue_cert("127.0.0.1", "localhost"), "client": ca.issue_cert("client@kanban.test")}
    issued["stranger"] = other.issue_cert("client@kanban.test")
    for name, certificate in issued.items():
        (folder / name).mkdir(parents=True)
        (other if name == "stranger" else ca).cert_pem.write_to_path(str(folder / name / "ca.pem"))
        certificate.private_key_pem.write_to_path(str(folder / name / "key.pem"))
        for part in certificate.cert_chain_pems:
            part.write_to_path(str(folder / name / "cert.pem"), append=True)


@contextlib.contextmanager
def _engine_folder() -> Generator[Path]:
    kept = os.environ.get("KANBAN_TEST_ENGINE_DATA")
    if not kept:
        folder = Path(tempfile.mkdtemp(prefix="kanban-engine-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    folder = Path(kept).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _ping(endpoint: str) -> None:
    with contextlib.closing(APIClient(endpoint, version="auto", timeout=_CALL_SECONDS)) as api:
        api.ping()


def _clear(endpoint: str, *, networks: bool) -> None:
    with contextlib.closing(APIClient(endpoint, version="auto", timeout=_CALL_SECONDS)) as api:
        for container in api.containers(all=True):
            with contextlib.suppress(APIError):
                api.remove_container(container["Id"], force=True, v=True)
        for network in api.networks(filters={"type": "custom"}) if networks else ():
            api.remove_network(network["Id"])
        volumes: list[dict[str, Any]] = api.volumes()["Volumes"] or []
        for volume in volumes:
            api.remove_volume(volume["Name"], force=True)


def _iptables(table: str, *arguments: str) -> str:
    argv = [shutil.which("iptables", path="/usr/sbin:/sbin:/usr/bin") or "iptables", "--wait", "-t", table, *arguments]
    return subprocess.run(argv, check=False, capture_output=True, text=True).stdout
