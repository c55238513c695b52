"""Container host `process`: each job or service is a local process tree, for machines without a container engine.

No isolation: its commands run as this user. Each has a scrubbed environment and a folder of its own. A service that
ends by itself stays ended until it is started again.
"""

import asyncio
import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from shared.adapters import process_folders, process_job
from shared.adapters.process_job import HEALTHY, HOME, JOB, LOG, SPEC, TMP
from shared.core.errors import Invalid, NotFound, Unavailable
from shared.core.ports import Hosted, Job, JobSpec, Limits, LogChunk, Service, ServiceSpec
from shared.core.threads import in_thread

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_INHERITED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
)
_START_SECONDS = 10.0
_FOLLOW_SECONDS = 0.05
_HEALTH_SECONDS = 5.0
_STARTING_SECONDS = 10.0
type Health = Literal["starting", "healthy", "unhealthy"]


class ProcessHost:
    """Each lives in `<root>/jobs/<name>/`, kept by a process of its own, so they outlive a restart of ours."""

    driver = "process"
    isolated = False

    def __init__(self, root: Path, python_path: Path | None = None, limits: Limits | None = None) -> None:
        """`python_path` is the folder that holds the package `agent_container`."""
        self._jobs = root.resolve() / "jobs"
        self._volumes, self._locks = root.resolve() / "volumes", root.resolve() / "locks"
        self._python_path = python_path or Path(__file__).parents[2]
        self._limits = limits or Limits()
        self._reaped = False
        self._known: set[str] = set()
        self._children: list[subprocess.Popen[bytes]] = []

    async def start_job(self, spec: JobSpec) -> Job:
        folder = self._folder(spec.name)
        await self._reap_once()
        self._known.add(spec.name)
        await in_thread(lambda: self._start_job(folder, spec))
        job = await self.job(spec.name)
        if job is None:
            raise Unavailable(f"The job {spec.name} could not be started.")
        return job

    async def start_service(self, spec: ServiceSpec) -> Service:
        """One that is there runs as another spec says, or has ended: it is replaced."""
        folder = self._folder(spec.name)
        if spec.image:
            raise Invalid(f"{spec.name} needs the image {spec.image}, and the process driver runs no images.")
        await self._reap_once()
        self._known.add(spec.name)
        await in_thread(lambda: self._start_service(folder, spec))
        service = await self.service(spec.name)
        if service is None:
            raise Unavailable(f"The service {spec.name} could not be started.")
        return service

    async def job(self, name: str) -> Job | None:
        return await asyncio.to_thread(process_folders.look, self._folder(name), "job")

    async def service(self, name: str) -> Service | None:
        folder = self._folder(name)
        found = await asyncio.to_thread(process_folders.look, folder, "service")
        about = await asyncio.to_thread(process_folders.read, folder / SPEC)
        if found is None or about is None:
            return None
        health: Health | None = None
        if found.status == "running":
            with contextlib.suppress(FileNotFoundError):  # it is removed while we look
                health = await _health(folder, about, self._python_path)
        return Service(name, found.status, health, found.exit_code, found.log_tail)

    async def stop_job(self, name: str) -> None:
        await asyncio.to_thread(process_folders.stop, self._folder(name))

    async def stop_service(self, name: str) -> None:
        await self.stop_job(name)

    async def kill(self, name: str) -> None:
        await asyncio.to_thread(process_folders.kill, self._folder(name))

    async def remove(self, name: str) -> None:
        await asyncio.to_thread(self._remove, self._folder(name))

    async def logs(self, name: str, after: str = "") -> AsyncGenerator[LogChunk]:
        """A cursor is a place in the log file."""
        folder, place = self._folder(name), int(after or 0)
        while True:
            status = await asyncio.to_thread(process_folders.state, folder)
            if status == "absent":
                raise NotFound(f"{name} is not on this host.")
            data = await asyncio.to_thread(process_folders.read_log, folder / LOG, place, ended=status == "exited")
            if data:
                place += len(data)
                yield LogChunk(str(place), data.decode(errors="replace"))
            elif status == "exited":
                return
            else:
                await asyncio.sleep(_FOLLOW_SECONDS)

    async def hosted(self, team_id: str | None = None) -> list[Hosted]:
        found = await asyncio.to_thread(process_folders.hosted, self._jobs)
        return [each for each in found if team_id in (None, each.team_id)]

    async def ensure_team(self, team_id: str) -> None:
        """Processes have no networks of their own."""

    async def remove_team(self, team_id: str) -> None:
        for each in await self.hosted(team_id):
            await self.remove(each.name)
        await asyncio.to_thread(shutil.rmtree, self._team_volumes(team_id), ignore_errors=True)

    async def close(self) -> None:
        """Stops everything that was started or adopted here."""
        await asyncio.gather(*(self.stop_job(name) for name in self._known))
        for child in self._children:
            child.poll()

    async def reap(self) -> None:
        """Settles jobs whose process is gone, and forgets jobs that ended a week ago. Done before the first start."""
        await asyncio.to_thread(process_folders.reap, self._jobs)

    async def _reap_once(self) -> None:
        if not self._reaped:
            self._reaped = True
            await self.reap()

    def _folder(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise Invalid(f"{name!r} cannot be the name of a job or service.")
        return self._jobs / name

    def _team_volumes(self, team_id: str) -> Path:
        if not _NAME.fullmatch(team_id):
            raise Invalid(f"{team_id!r} cannot be the name of a team.")
        return self._volumes / team_id

    def _volume(self, team_id: str, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise Invalid(f"{name!r} cannot be the name of a volume.")
        return self._team_volumes(team_id) / name

    def _start_job(self, folder: Path, spec: JobSpec) -> None:
        with process_folders.exclusive(self._locks, folder.name):
            self._start(folder, self._job_start(spec))

    def _start_service(self, folder: Path, spec: ServiceSpec) -> None:
        with process_folders.exclusive(self._locks, folder.name):
            start = self._service_start(spec)
            self._replace_other(folder, start)
            self._start(folder, start)

    def _remove(self, folder: Path) -> None:
        with process_folders.exclusive(self._locks, folder.name):
            process_folders.discard(folder)

    def _job_start(self, spec: JobSpec) -> "_Start":
        about = {"kind": "job", "team_id": spec.team_id}
        return _Start(spec.command, spec.env, spec.time_limit, spec.limits or self._limits, about)

    def _service_start(self, spec: ServiceSpec) -> "_Start":
        env = dict(spec.env)
        for name in spec.volumes:
            folder = self._volume(spec.team_id, name)
            folder.mkdir(parents=True, mode=0o700, exist_ok=True)
            env[f"VOLUME_{name.upper().replace('-', '_')}"] = str(folder)
        limits = spec.limits or self._limits
        digest = hashlib.sha256(json.dumps([asdict(spec), asdict(limits)], sort_keys=True).encode()).hexdigest()
        about = {"kind": "service", "team_id": spec.team_id, "spec": digest, "health": list(spec.health)}
        return _Start(spec.command, env, math.inf, limits, about)

    def _replace_other(self, folder: Path, start: "_Start") -> None:
        about = process_folders.read(folder / SPEC)
        if about and about.get("spec") == start.about["spec"] and process_folders.state(folder) == "running":
            return
        process_folders.discard(folder)

    def _start(self, folder: Path, start: "_Start") -> None:
        """Spawns the keeper unless the job is there."""
        try:
            for name in (HOME, TMP):
                (folder / name).mkdir(parents=True, mode=0o700)
        except FileExistsError:
            if process_folders.state(folder) != "absent":
                return
        except OSError as error:
            raise Unavailable(f"The job's folder cannot be made: {error.strerror}.") from error
        os.chmod(folder, 0o700)
        process_job.write_json(folder / SPEC, start.about)
        self._children = [child for child in self._children if child.poll() is None]
        self._children.append(_spawn(folder, start, self._python_path))
        _await_start(folder, self._children[-1])


@dataclass(frozen=True, slots=True)
class _Start:
    """What a job and a service have in common. `about` is kept beside the log; it holds no secret."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    seconds: float
    limits: Limits
    about: Mapping[str, Any]


def _spawn(folder: Path, start: _Start, python_path: Path) -> subprocess.Popen[bytes]:
    bounds = [str(start.seconds), str(start.limits.memory_mb), str(start.limits.pids)]
    command = [sys.executable, "-m", *start.command]
    keeper = [sys.executable, "-I", "-S", process_job.__file__, str(folder), *bounds, *command]
    try:
        with open(os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            return subprocess.Popen(  # noqa: S603 - our own program, arguments as a list
                keeper,
                cwd=folder,
                env=_environment(folder, start.env, python_path),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
            )
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise Unavailable(f"The job could not be started: {error.strerror}.") from error


def _environment(folder: Path, env: Mapping[str, str], python_path: Path) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    own = {"HOME": str(folder / HOME), "TMPDIR": str(folder / TMP), "PYTHONPATH": str(python_path)}
    return inherited | {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"} | dict(env) | own


def _await_start(folder: Path, keeper: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not (folder / JOB).exists():
        if keeper.poll() not in (None, 0) or time.monotonic() > deadline:
            raise Unavailable(f"The job did not start. {process_folders.tail(folder)}".strip())
        time.sleep(0.005)


async def _health(folder: Path, about: Mapping[str, Any], python_path: Path) -> Health | None:
    """Asked anew each time, with the environment of any process here: the service's own is not kept."""
    if not about.get("health"):
        return None
    env = _environment(folder, {}, python_path)
    if not (folder / HOME).is_dir():  # it has just ended
        return "unhealthy"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *about["health"]),
        cwd=folder / HOME,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        code = await asyncio.wait_for(process.wait(), _HEALTH_SECONDS)
    except TimeoutError:
        process.kill()
        code = await process.wait()
    if code == 0:
        (folder / HEALTHY).touch()
        return "healthy"
    young = time.time() - (folder / SPEC).stat().st_mtime < _STARTING_SECONDS
    return "starting" if young and not (folder / HEALTHY).exists() else "unhealthy"
