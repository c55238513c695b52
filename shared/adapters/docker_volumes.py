"""A team's volumes on a Docker engine."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from shared.adapters import docker_containers as containers
from shared.adapters.docker_containers import KIND, PLATFORM, TEAM
from shared.adapters.docker_inventory import create
from shared.core.errors import Unavailable
from shared.core.ports import ServiceSpec

if TYPE_CHECKING:
    from docker import APIClient


class TeamVolumes:
    """Named for team and volume, so a service that is replaced finds what the earlier one wrote."""

    def __init__(self, platform: str) -> None:
        self._platform = platform

    def ensure(self, api: APIClient, spec: ServiceSpec, image: str) -> None:
        """Those of one service. With the agent's `image` they belong to its user; to another image they come as Docker
        makes them: as the image has the folder."""
        for name in spec.volumes:
            labels = {PLATFORM: self._platform, TEAM: spec.team_id, KIND: "volume"}
            api.create_volume(containers.volume_name(spec.team_id, name), labels=labels)
        if spec.volumes and not spec.image:
            self._own(api, spec, image)

    def remove(self, api: APIClient, team_id: str) -> None:
        """Of containers that are gone."""
        from docker.errors import NotFound

        labels = [f"{PLATFORM}={self._platform}", f"{TEAM}={team_id}"]
        found: list[dict[str, Any]] = api.volumes(filters={"label": labels})["Volumes"] or []
        for volume in found:
            with contextlib.suppress(NotFound):
                api.remove_volume(volume["Name"])

    def _own(self, api: APIClient, spec: ServiceSpec, image: str) -> None:
        owner = create(api, containers.owner_options(spec, image, {PLATFORM: self._platform}))
        try:
            api.start(owner)
            code = api.wait(owner)["StatusCode"]
        finally:
            api.remove_container(owner, force=True)
        if code:
            raise Unavailable(f"The volumes of {spec.name} could not be given to its user (exit code {code}).")
