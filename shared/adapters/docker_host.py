"""Container host `docker`: jobs and services on a Docker engine, each with as few rights as it can work with."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

from shared.adapters import docker_containers as containers
from shared.adapters import docker_logs
from shared.adapters.docker_containers import KIND
from shared.adapters.docker_engine import DockerEngine
from shared.adapters.docker_inventory import CREATED, GOING, Container, Inventory, is_draft, remove
from shared.adapters.docker_networks import TeamNetworks
from shared.adapters.docker_starter import Starter
from shared.adapters.docker_volumes import TeamVolumes
from shared.core.errors import Invalid, NotFound, Unavailable
from shared.core.ports import Hosted, Job, JobSpec, Limits, LogChunk, Service, ServiceSpec

if TYPE_CHECKING:
    from docker import APIClient

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_KEPT_SECONDS = 2 * 24 * 3600
_DRAFT_SECONDS = _REAP_SECONDS = 3600
_REMOVAL_SECONDS, _PAUSE_SECONDS = 30.0, 0.05


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
        self._engine, self._inventory = engine, Inventory(platform)
        self._networks, self._volumes = TeamNetworks(platform, subnets), TeamVolumes(platform)
        self._outbound = outbound
        self._starter = Starter(
            self._inventory, self._networks, self._volumes, image, limits or Limits(), outbound=outbound
        )
        self._reaped_at = 0.0

    async def start_job(self, spec: JobSpec) -> Job:
        _check(spec.name, spec.team_id)
        await self._reap()
        await self._engine.call(lambda api: self._starter.start_job(api, spec))
        job = await self.job(spec.name)
        if job is None:
            raise Unavailable(f"The job {spec.name} could not be started.")
        return job

    async def start_service(self, spec: ServiceSpec) -> Service:
        _check(spec.name, spec.team_id, *spec.volumes)
        await self._engine.call(lambda api: self._starter.start_service(api, spec))
        service = await self.service(spec.name)
        if service is None:
            raise Unavailable(f"The service {spec.name} could not be started.")
        return service

    async def job(self, name: str) -> Job | None:
        _check(name)
        return await self._engine.call(lambda api: self._inventory.job(api, name))

    async def service(self, name: str) -> Service | None:
        _check(name)
        return await self._engine.call(lambda api: self._inventory.service(api, name))

    async def stop_job(self, name: str) -> None:
        await self._on(name, lambda api, found: api.stop(found["Id"], timeout=containers.STOP_SECONDS))

    async def stop_service(self, name: str) -> None:
        await self.stop_job(name)

    async def kill(self, name: str) -> None:
        await self._on(name, lambda api, found: api.kill(found["Id"]))

    async def remove(self, name: str) -> None:
        await self._on(name, remove)

    async def logs(self, name: str, after: str = "") -> AsyncGenerator[LogChunk]:
        _check(name)
        found = await self._engine.call(lambda api: self._inventory.find(api, name))
        if found is None:
            raise NotFound(f"{name} is not on this host.")
        async for chunk in docker_logs.follow(self._engine, found["Id"], name, after):
            yield chunk

    async def hosted(self, team_id: str | None = None) -> list[Hosted]:
        return await self._engine.call(lambda api: self._inventory.hosted(api, team_id))

    async def ensure_team(self, team_id: str) -> None:
        _check(team_id)
        await self._engine.call(lambda api: self._networks.ensure(api, team_id, outbound=self._outbound))

    async def remove_team(self, team_id: str) -> None:
        _check(team_id)
        await self._engine.call(lambda api: self._remove_team(api, team_id))

    async def close(self) -> None:
        await self._engine.close()

    async def _on(self, name: str, act: Callable[[APIClient, Container], None]) -> None:
        _check(name)
        await self._engine.call(lambda api: self._act_on(api, name, act))

    # -- inside a thread ------------------------------------------------------------------------

    def _act_on(self, api: APIClient, name: str, act: Callable[[APIClient, Container], None]) -> None:
        """One that was never started is removed: starting it again makes another."""
        from docker.errors import APIError

        found = self._inventory.find(api, name)
        if found is None or found["State"]["Status"] in GOING:
            return
        try:
            (remove if found["State"]["Status"] == CREATED else act)(api, found)
        except APIError as error:
            if error.status_code not in (404, 409):  # it has ended, or is gone
                raise

    def _remove_team(self, api: APIClient, team_id: str) -> None:
        deadline = time.monotonic() + _REMOVAL_SECONDS
        while not self._team_is_removed(api, team_id):
            if time.monotonic() > deadline:
                raise Unavailable(f"The containers of the team {team_id} could not be removed yet.")
            time.sleep(_PAUSE_SECONDS)

    def _team_is_removed(self, api: APIClient, team_id: str) -> bool:
        """False while containers are there; one may join when the others are gone."""
        from docker.errors import APIError

        left = self._inventory.listed(api, team_id)
        for each in left:
            remove(api, each)
        if left:
            return False
        try:
            self._networks.remove(api, team_id)
            self._volumes.remove(api, team_id)
        except APIError as error:
            if error.status_code not in (403, 409):  # a network has endpoints, a volume is in use
                raise
            return False
        return True

    async def _reap(self) -> None:
        """Forgets jobs that ended long ago, and what was never finished."""
        if time.monotonic() - self._reaped_at < _REAP_SECONDS and self._reaped_at:
            return
        self._reaped_at = time.monotonic()
        await self._engine.call(self._remove_old)

    def _remove_old(self, api: APIClient) -> None:
        for each in self._inventory.listed(api, status=["exited", "dead", CREATED]):
            kept = _DRAFT_SECONDS if is_draft(each) else _KEPT_SECONDS
            job = each["Labels"][KIND] == "job"
            if (job or is_draft(each)) and time.time() - each["Created"] > kept:
                remove(api, each)


def _check(*names: str) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise Invalid(f"{name!r} cannot be the name of a job, service, team or volume.")
