"""Container host `docker`: jobs and services on a Docker engine, each with as few rights as it can work with."""

from __future__ import annotations

import io
import re
import tarfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from shared.adapters import docker_containers as containers
from shared.adapters import docker_logs
from shared.adapters.docker_containers import KIND, MEMORY, NAME, PLATFORM, SPEC, TEAM, TIME_LIMIT
from shared.adapters.docker_engine import DockerEngine
from shared.adapters.docker_networks import TeamNetworks
from shared.adapters.process_job import EXIT_TIME_LIMIT
from shared.core.errors import Conflict, Invalid, NotFound, Unavailable
from shared.core.log import Log
from shared.core.ports import Hosted, Job, JobSpec, Limits, LogChunk, Service, ServiceSpec

if TYPE_CHECKING:
    from docker import APIClient

log = Log(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_TAIL_LINES, _TAIL_BYTES = 200, 16_384
_KEPT_SECONDS = 2 * 24 * 3600
_REAP_SECONDS = 3600
_ENDED = ("exited", "dead")
type Found = dict[str, Any]


class DockerHost:
    """Containers outlive this process. `platform` names whose they are: several may share an engine."""

    driver = "docker"
    isolated = True

    def __init__(
        self,
        engine: DockerEngine,
        platform: str,
        image: str,
        subnets: str,
        limits: Limits | None = None,
        *,
        outbound: bool = False,
    ) -> None:
        """`image` is the agent's. `outbound`: every job may reach more than the engine's own machine."""
        self._engine, self._platform, self._image = engine, platform, image
        self._networks = TeamNetworks(platform, subnets)
        self._limits, self._outbound = limits or Limits(), outbound
        self._reaped_at = 0.0

    async def start_job(self, spec: JobSpec) -> Job:
        _check(spec.name)
        await self._reap()
        await self._engine.call(lambda api: self._start_job(api, spec))
        job = await self.job(spec.name)
        if job is None:
            raise Unavailable(f"The job {spec.name} could not be started.")
        return job

    async def start_service(self, spec: ServiceSpec) -> Service:
        _check(spec.name)
        await self._engine.call(lambda api: self._start_service(api, spec))
        service = await self.service(spec.name)
        if service is None:
            raise Unavailable(f"The service {spec.name} could not be started.")
        return service

    async def job(self, name: str) -> Job | None:
        _check(name)
        found = await self._engine.call(lambda api: self._look(api, name, "job"))
        if found is None:
            return None
        state, tail = found
        return Job(name, _status(state), _exit_code(state), tail)

    async def service(self, name: str) -> Service | None:
        _check(name)
        found = await self._engine.call(lambda api: self._look(api, name, "service"))
        if found is None:
            return None
        state, tail = found
        health = state["State"].get("Health", {}).get("Status")
        told = health if health in ("starting", "healthy", "unhealthy") and _status(state) == "running" else None
        return Service(name, _status(state), told, _exit_code(state), tail)

    async def stop_job(self, name: str) -> None:
        _check(name)
        await self._engine.call(lambda api: self._on(api, name, _stop))

    async def stop_service(self, name: str) -> None:
        await self.stop_job(name)

    async def kill(self, name: str) -> None:
        _check(name)
        await self._engine.call(lambda api: self._on(api, name, _kill))

    async def remove(self, name: str) -> None:
        _check(name)
        await self._engine.call(lambda api: self._on(api, name, _remove))

    async def logs(self, name: str, after: str = "") -> AsyncGenerator[LogChunk]:
        _check(name)
        found = await self._engine.call(lambda api: self._find(api, name))
        if found is None:
            raise NotFound(f"{name} is not on this host.")
        async for chunk in docker_logs.follow(self._engine, found["Id"], name, after):
            yield chunk

    async def hosted(self, team_id: str | None = None) -> list[Hosted]:
        return await self._engine.call(lambda api: [_hosted(each) for each in self._ours(api, team_id)])

    async def ensure_team(self, team_id: str) -> None:
        await self._engine.call(lambda api: self._networks.ensure(api, team_id, outbound=self._outbound))

    async def remove_team(self, team_id: str) -> None:
        await self._engine.call(lambda api: self._remove_team(api, team_id))

    async def close(self) -> None:
        await self._engine.close()

    # -- inside a thread ------------------------------------------------------------------------

    def _start_job(self, api: APIClient, spec: JobSpec) -> None:
        found = self._find(api, spec.name)
        if found is None:
            limits = spec.limits or self._limits
            network = self._networks.ensure(api, spec.team_id, outbound=spec.outbound or self._outbound)
            options = containers.job_options(spec, self._image, {PLATFORM: self._platform}, limits, network)
            found = self._create(api, spec.name, options)
        if found["State"]["Status"] == "created":
            _start(api, found["Id"])

    def _start_service(self, api: APIClient, spec: ServiceSpec) -> None:
        limits = spec.limits or self._limits
        wanted = containers.spec_hash(spec, self._image, limits)
        found = self._find(api, spec.name)
        if found and found["Config"]["Labels"].get(SPEC) != wanted:
            _remove(api, found)
            found = None
        if found is None:
            network = self._networks.ensure(api, spec.team_id, outbound=spec.outbound or self._outbound)
            self._ensure_volumes(api, spec)
            labels = {PLATFORM: self._platform, SPEC: wanted}
            options = containers.service_options(spec, self._image, labels, limits, network)
            found = self._create(api, spec.name, options)
            if not spec.image:
                _own_volumes(api, found["Id"], spec.volumes)
        if found["State"]["Status"] not in ("running", "restarting"):
            _start(api, found["Id"])

    def _create(self, api: APIClient, name: str, options: Any) -> Found:
        """The new container, or the one that somebody else made at the same time."""
        from docker.errors import APIError, ImageNotFound

        host, endpoint = options.pop("host"), options.pop("endpoint")
        network = host["network_mode"]
        networking = api.create_networking_config({network: api.create_endpoint_config(**endpoint)})
        try:
            api.create_container(**options, host_config=api.create_host_config(**host), networking_config=networking)
        except ImageNotFound:
            image = options["image"]
            raise Conflict(f"The image {image} is not on the container host: build or pull it there.") from None
        except APIError as error:
            if error.status_code != 409:
                raise
        found = self._find(api, name)
        if found is None:
            raise Unavailable(f"{name} was removed while it was being made.")
        return found

    def _ensure_volumes(self, api: APIClient, spec: ServiceSpec) -> None:
        for name in spec.volumes:
            _check(name)
            labels = {PLATFORM: self._platform, TEAM: spec.team_id, KIND: "volume"}
            api.create_volume(containers.volume_name(spec.team_id, name), labels=labels)

    def _find(self, api: APIClient, name: str) -> Found | None:
        from docker.errors import NotFound as Gone

        try:
            found: Found = api.inspect_container(containers.container_name(name))
        except Gone:
            return None
        if (found["Config"]["Labels"] or {}).get(PLATFORM) != self._platform:
            raise Conflict(f"A container that is not ours has the name {containers.container_name(name)}.")
        return found

    def _look(self, api: APIClient, name: str, kind: str) -> tuple[Found, str] | None:
        """None also for one that was made but never started: starting it again finishes that."""
        from docker.errors import NotFound as Gone

        found = self._find(api, name)
        if found is None or found["Config"]["Labels"][KIND] != kind or found["State"]["Status"] == "created":
            return None
        try:
            printed = api.logs(found["Id"], tail=_TAIL_LINES)
        except Gone:
            return None
        return found, _tail(printed) + _why(found)

    def _on(self, api: APIClient, name: str, act: Callable[[APIClient, Found], None]) -> None:
        found = self._find(api, name)
        if found:
            act(api, found)

    def _ours(self, api: APIClient, team_id: str | None = None, **filters: Any) -> list[Found]:
        labels = [f"{PLATFORM}={self._platform}"] + ([f"{TEAM}={team_id}"] if team_id else [])
        return api.containers(all=True, filters={"label": labels, **filters})

    def _remove_team(self, api: APIClient, team_id: str) -> None:
        from docker.errors import NotFound as Gone

        for each in self._ours(api, team_id):
            _remove(api, each)
        self._networks.remove(api, team_id)
        labels = [f"{PLATFORM}={self._platform}", f"{TEAM}={team_id}"]
        for volume in api.volumes(filters={"label": labels})["Volumes"] or ():
            try:
                api.remove_volume(volume["Name"])
            except Gone:
                continue

    async def _reap(self) -> None:
        """Forgets jobs that ended long ago."""
        if time.monotonic() - self._reaped_at < _REAP_SECONDS and self._reaped_at:
            return
        self._reaped_at = time.monotonic()
        await self._engine.call(self._remove_old)

    def _remove_old(self, api: APIClient) -> None:
        for each in self._ours(api, status=list(_ENDED)):
            if each["Labels"][KIND] == "job" and time.time() - each["Created"] > _KEPT_SECONDS:
                _remove(api, each)


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} cannot be the name of a job or service.")


def _start(api: APIClient, container: str) -> None:
    """One that cannot be started is not left behind half made."""
    from docker.errors import APIError

    try:
        api.start(container)
    except APIError:
        api.remove_container(container, v=True, force=True)
        raise


def _stop(api: APIClient, found: Found) -> None:
    if found["State"]["Status"] == "created":
        _remove(api, found)
    else:
        api.stop(found["Id"], timeout=containers.STOP_SECONDS)


def _kill(api: APIClient, found: Found) -> None:
    from docker.errors import APIError

    if found["State"]["Status"] == "created":
        return _remove(api, found)
    try:
        return api.kill(found["Id"])
    except APIError as error:
        if error.status_code != 409:  # it has ended
            raise


def _remove(api: APIClient, found: Found) -> None:
    from docker.errors import APIError
    from docker.errors import NotFound as Gone

    try:
        api.remove_container(found["Id"], v=True, force=True)
    except Gone:
        return
    except APIError as error:
        if error.status_code != 409:  # somebody else is removing it
            raise


def _own_volumes(api: APIClient, container: str, volumes: Mapping[str, str]) -> None:
    """A new volume belongs to root; the agent's user could not write to it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        folder = tarfile.TarInfo(".")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o700
        folder.uid, folder.gid = (int(part) for part in containers.USER.split(":"))
        archive.addfile(folder)
    for path in volumes.values():
        api.put_archive(container, path, stream.getvalue())


def _status(found: Found) -> Literal["running", "exited"]:
    return "exited" if found["State"]["Status"] in _ENDED else "running"


def _exit_code(found: Found) -> int | None:
    return found["State"]["ExitCode"] if _status(found) == "exited" else None


def _hosted(listed: Found) -> Hosted:
    labels = listed["Labels"]
    kind = "service" if labels[KIND] == "service" else "job"
    return Hosted(labels[NAME], labels[TEAM], kind, "exited" if listed["State"] in _ENDED else "running")


def _tail(printed: bytes) -> str:
    """The last lines, whole ones."""
    if len(printed) > _TAIL_BYTES:
        printed = printed[-_TAIL_BYTES:].partition(b"\n")[2]
    return printed.decode(errors="replace")


def _why(found: Found) -> str:
    """What the host did to it, which the container itself could not print."""
    labels, state = found["Config"]["Labels"], found["State"]
    if _status(found) == "running":
        return ""
    if state.get("OOMKilled"):
        return f"Ended by its memory limit of {labels[MEMORY]} MB.\n"
    if state["ExitCode"] == EXIT_TIME_LIMIT and TIME_LIMIT in labels:
        return f"Stopped after {labels[TIME_LIMIT]} seconds, the time limit of this job.\n"
    return ""
