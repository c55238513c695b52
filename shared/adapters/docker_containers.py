"""What a job or service is to a Docker engine: names, labels, and a container that may do as little as possible."""

import hashlib
import io
import json
import secrets
import shlex
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shared.adapters.process_job import GRACE_SECONDS
from shared.core.ports import JobSpec, Limits, ServiceSpec

USER = "10001:10001"
HOME = "/home/agent"
RUN = "/opt/agent/run"
"""The agent image's way to run a Python module within TIME_LIMIT seconds (CONTRACT.md)."""
HANDOVER = "/run/kanban"
"""A job's environment is handed over in a file here: what the engine is told, it shows and keeps."""
GATEWAY = "host.docker.internal"
STOP_SECONDS = int(GRACE_SECONDS) + 1

PLATFORM, TEAM, KIND, NAME = "kanban.platform", "kanban.team", "kanban.kind", "kanban.name"
SPEC, TIME_LIMIT, MEMORY = "kanban.spec", "kanban.time_limit", "kanban.memory_mb"

_OWNER = tuple(int(part) for part in USER.split(":"))
_SECOND = 1_000_000_000
_LAYOUT = 2
"""Raised when a container of the same spec would be made differently."""


@dataclass(frozen=True, slots=True)
class Network:
    """A team's network, and the address under which its containers find the engine's machine."""

    id: str
    gateway: str
    internal: bool


def container_name(name: str) -> str:
    return f"kanban-{name}"


def draft_name(name: str) -> str:
    """Of a container that is still being made; it gets its own name when it is whole."""
    return f"{container_name(name)}.{secrets.token_hex(4)}"


def spec_hash(spec: JobSpec | ServiceSpec, image: str, limits: Limits) -> str:
    text = json.dumps([_LAYOUT, image, asdict(limits), asdict(spec)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def job_options(spec: JobSpec, image: str, labels: Mapping[str, str], limits: Limits, network: Network) -> Any:
    """Arguments of `create_container`; `host` and `endpoint` are the arguments of its two configurations."""
    marks = {KIND: "job", TIME_LIMIT: str(spec.time_limit), MEMORY: str(limits.memory_mb)}
    return {
        **_common(spec, image, {**labels, **marks}),
        "entrypoint": [RUN],
        "user": USER,
        "environment": {"TIME_LIMIT": str(spec.time_limit)},
        "volumes": [HANDOVER],
        "host": _hardened(limits, network, agent_image=True),
        "endpoint": {},
    }


def handover(env: Mapping[str, str]) -> bytes:
    """An archive for HANDOVER: a shell script that sets `env`, in a folder whose owner can remove it."""
    script = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items()).encode()
    folder, file = tarfile.TarInfo("job"), tarfile.TarInfo("job/environment")
    folder.type, folder.mode, file.mode, file.size = tarfile.DIRTYPE, 0o700, 0o400, len(script)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for member, content in ((folder, None), (file, io.BytesIO(script))):
            member.uid, member.gid = _OWNER
            archive.addfile(member, content)
    return stream.getvalue()


def owner_options(spec: ServiceSpec, image: str, labels: Mapping[str, str]) -> Any:
    """A container that gives the service's volumes to its user: new ones belong to root."""
    return {
        "image": image,
        "name": draft_name(spec.name),
        "entrypoint": ["chown", USER],
        "command": list(spec.volumes.values()),
        "labels": {**labels, KIND: "service", NAME: spec.name, TEAM: spec.team_id},
        "user": "0:0",
        "volumes": list(spec.volumes.values()),
        "host": {
            "read_only": True,
            "cap_drop": ["ALL"],
            "cap_add": ["CHOWN"],
            "security_opt": ["no-new-privileges"],
            "network_mode": "none",
            "binds": _binds(spec),
        },
    }


def service_options(spec: ServiceSpec, image: str, labels: Mapping[str, str], limits: Limits, network: Network) -> Any:
    ours = not spec.image
    told = {f"VOLUME_{name.upper().replace('-', '_')}": folder for name, folder in spec.volumes.items()}
    marks = {KIND: "service", MEMORY: str(limits.memory_mb)}
    options = {
        **_common(spec, spec.image or image, {**labels, **marks}),
        "environment": dict(spec.env) | told,
        "volumes": list(spec.volumes.values()),
        "host": _hardened(limits, network, agent_image=ours)
        | {"restart_policy": {"Name": "unless-stopped"}, "binds": _binds(spec)},
        "endpoint": {"aliases": [spec.alias]} if spec.alias else {},
    }
    if ours:
        options |= {"entrypoint": [RUN], "user": USER}
    if spec.health:
        test = ["CMD", *([RUN] if ours else []), *spec.health]
        options["healthcheck"] = {"test": test, "interval": 2 * _SECOND, "timeout": 5 * _SECOND, "retries": 3}
    return options


def volume_name(team_id: str, name: str) -> str:
    return f"kanban-{team_id}-{name}"


def _binds(spec: ServiceSpec) -> dict[str, Any]:
    return {volume_name(spec.team_id, name): {"bind": path, "mode": "rw"} for name, path in spec.volumes.items()}


def _common(spec: JobSpec | ServiceSpec, image: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "image": image,
        "name": draft_name(spec.name),
        "command": list(spec.command),
        "labels": {**labels, NAME: spec.name, TEAM: spec.team_id},
        "hostname": "agent",
        "stop_timeout": STOP_SECONDS,
    }


def _hardened(limits: Limits, network: Network, *, agent_image: bool) -> dict[str, Any]:
    """What is written lies in memory, so the memory limit is the disk limit too."""
    home, temporary = limits.memory_mb // 2, limits.memory_mb // 8
    tmpfs = {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={temporary}m"}  # noqa: S108 - inside the container
    if agent_image:
        tmpfs[HOME] = f"rw,exec,nosuid,nodev,uid=10001,gid=10001,mode=0700,size={home}m"
    return {
        "init": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "tmpfs": tmpfs,
        "mem_limit": f"{limits.memory_mb}m",
        "memswap_limit": f"{limits.memory_mb}m",
        "pids_limit": limits.pids,
        "nano_cpus": int(limits.cpus * _SECOND),
        "network_mode": network.id,
        "extra_hosts": {GATEWAY: network.gateway},
        # Without a way out, names of the outside need no answer, and questions could carry something away.
        "dns": ["127.0.0.1"] if network.internal else None,
        "log_config": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
    }
