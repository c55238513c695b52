"""Makes jobs and services run on a Docker engine, whoever else is at it at the same time.

A container is made under a name of its own, prepared, and then given its name, which only one can have: what bears a
job's name is whole, and whoever finds it may start it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from shared.adapters import docker_containers as containers
from shared.adapters.docker_containers import HANDOVER, PLATFORM, SPEC
from shared.adapters.docker_inventory import CREATED, GOING, Inventory, create, remove
from shared.adapters.docker_networks import TeamNetworks
from shared.adapters.docker_volumes import TeamVolumes
from shared.core.errors import Unavailable
from shared.core.ports import JobSpec, Limits, ServiceSpec

if TYPE_CHECKING:
    from docker import APIClient

_PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.1


class Starter:
    """`image` is the agent's. `outbound`: all may reach more than the engine's machine."""

    def __init__(
        self,
        inventory: Inventory,
        networks: TeamNetworks,
        volumes: TeamVolumes,
        image: str,
        limits: Limits,
        *,
        outbound: bool,
    ) -> None:
        self._inventory, self._networks, self._volumes = inventory, networks, volumes
        self._image, self._limits, self._outbound = image, limits, outbound
        self._labels = {PLATFORM: inventory.platform}

    def start_job(self, api: APIClient, spec: JobSpec) -> None:
        _until(lambda: self._start_job(api, spec), spec.name)

    def start_service(self, api: APIClient, spec: ServiceSpec) -> None:
        limits = spec.limits or self._limits
        wanted = containers.spec_hash(spec, self._image, limits)
        _until(lambda: self._start_service(api, spec, limits, wanted), spec.name)

    def _start_job(self, api: APIClient, spec: JobSpec) -> bool:
        found = self._inventory.find(api, spec.name)
        if found is None:
            limits = spec.limits or self._limits
            network = self._networks.ensure(api, spec.team_id, outbound=spec.outbound or self._outbound)
            options = containers.job_options(spec, self._image, self._labels, limits, network)
            draft = create(api, options)
            api.put_archive(draft, HANDOVER, containers.handover(spec.env))
            return _publish(api, draft, spec.name)
        return found["State"]["Status"] not in GOING and (
            found["State"]["Status"] != CREATED or _started(api, found["Id"], adopted=True)
        )

    def _start_service(self, api: APIClient, spec: ServiceSpec, limits: Limits, wanted: str) -> bool:
        found = self._inventory.find(api, spec.name)
        if found is None:
            network = self._networks.ensure(api, spec.team_id, outbound=spec.outbound or self._outbound)
            self._volumes.ensure(api, spec, self._image)
            labels = self._labels | {SPEC: wanted}
            draft = create(api, containers.service_options(spec, self._image, labels, limits, network))
            return _publish(api, draft, spec.name)
        if found["Config"]["Labels"].get(SPEC) != wanted or found["State"]["Status"] in GOING:
            remove(api, found)
            return False
        return found["State"]["Status"] in ("running", "restarting") or _started(api, found["Id"], adopted=True)


def _until(act: Callable[[], bool], name: str) -> None:
    """Again while somebody else makes or removes a container of that name."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not act():
        if time.monotonic() > deadline:
            raise Unavailable(f"{name} could not be started: a container of that name does not go away.")
        time.sleep(_PAUSE_SECONDS)


def _publish(api: APIClient, draft: str, name: str) -> bool:
    """Whether it could have its name, and runs."""
    from docker.errors import APIError

    try:
        api.rename(draft, containers.container_name(name))
    except APIError as error:
        api.remove_container(draft, v=True, force=True)
        if error.status_code == 409:
            return False
        raise
    return _started(api, draft, adopted=False)


def _started(api: APIClient, container: str, *, adopted: bool) -> bool:
    """False when another one is to be made: it was removed meanwhile, or comes from a start that was cut off.

    One that cannot be started is not left behind.
    """
    from docker.errors import APIError

    try:
        api.start(container)
    except APIError as error:
        remove(api, {"Id": container})
        if not adopted and error.status_code not in (404, 409):
            raise
        return False
    return True
