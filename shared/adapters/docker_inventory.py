"""What a Docker engine holds for one platform, and how each of it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from shared.adapters.docker_containers import KIND, MEMORY, NAME, PLATFORM, TEAM, TIME_LIMIT, container_name
from shared.adapters.process_job import EXIT_TIME_LIMIT
from shared.core.errors import Conflict
from shared.core.ports import Hosted, Job, Service

if TYPE_CHECKING:
    from docker import APIClient

type Container = dict[str, Any]
"""What the engine says of one container."""

CREATED = "created"
GOING = ("removing", "dead")
"""Of containers that somebody is removing, or whose removal failed."""
_TAIL_LINES, _TAIL_BYTES = 200, 16_384


class Inventory:
    """Containers with this platform's label."""

    def __init__(self, platform: str) -> None:
        self.platform = platform

    def find(self, api: APIClient, name: str) -> Container | None:
        """Raises Conflict for one that is not ours."""
        from docker.errors import NotFound

        try:
            found: Container = api.inspect_container(container_name(name))
        except NotFound:
            return None
        if (found["Config"]["Labels"] or {}).get(PLATFORM) != self.platform:
            raise Conflict(f"A container that is not ours has the name {container_name(name)}.")
        return found

    def job(self, api: APIClient, name: str) -> Job | None:
        found = self._look(api, name, "job")
        return found and Job(name, _status(found[0]), _exit_code(found[0]), found[1])

    def service(self, api: APIClient, name: str) -> Service | None:
        found = self._look(api, name, "service")
        return found and Service(name, _status(found[0]), _health(found[0]), _exit_code(found[0]), found[1])

    def hosted(self, api: APIClient, team_id: str | None) -> list[Hosted]:
        return [
            _hosted(each)
            for each in self.listed(api, team_id)
            if each["State"] not in (CREATED, *GOING) and not is_draft(each)
        ]

    def listed(self, api: APIClient, team_id: str | None = None, **filters: Any) -> list[Container]:
        """As the engine lists them, drafts included."""
        labels = [f"{PLATFORM}={self.platform}"] + ([f"{TEAM}={team_id}"] if team_id else [])
        return api.containers(all=True, filters={"label": labels, **filters})

    def _look(self, api: APIClient, name: str, kind: str) -> tuple[Container, str] | None:
        """None also for one that was made but never started: starting it again finishes that."""
        from docker.errors import APIError

        found = self.find(api, name)
        if found is None or found["Config"]["Labels"][KIND] != kind or found["State"]["Status"] in (CREATED, *GOING):
            return None
        try:
            printed = api.logs(found["Id"], tail=_TAIL_LINES)
        except APIError as error:
            if error.status_code in (404, 409):  # it is being removed
                return None
            raise
        return found, _tail(printed) + _why(found)


def create(api: APIClient, options: Any) -> str:
    """The new container's id."""
    from docker.errors import ImageNotFound

    host, endpoint = options.pop("host"), options.pop("endpoint", {})
    network = host["network_mode"]
    networking = api.create_networking_config({network: api.create_endpoint_config(**endpoint)})
    try:
        made: Container = api.create_container(
            **options, host_config=api.create_host_config(**host), networking_config=networking
        )
    except ImageNotFound:
        raise Conflict(f"The image {options['image']} is not on the container host: build or pull it there.") from None
    return made["Id"]


def remove(api: APIClient, found: Mapping[str, Any]) -> None:
    from docker.errors import APIError

    try:
        api.remove_container(found["Id"], v=True, force=True)
    except APIError as error:
        if error.status_code not in (404, 409):  # somebody else is removing it
            raise


def is_draft(listed: Container) -> bool:
    return f"/{container_name(listed['Labels'][NAME])}" not in listed["Names"]


def _status(found: Container) -> Literal["running", "exited"]:
    return "exited" if found["State"]["Status"] == "exited" else "running"


def _exit_code(found: Container) -> int | None:
    return found["State"]["ExitCode"] if _status(found) == "exited" else None


def _health(found: Container) -> Literal["starting", "healthy", "unhealthy"] | None:
    said = found["State"].get("Health", {}).get("Status")
    return said if said in ("starting", "healthy", "unhealthy") and _status(found) == "running" else None


def _hosted(listed: Container) -> Hosted:
    labels = listed["Labels"]
    kind = "service" if labels[KIND] == "service" else "job"
    return Hosted(labels[NAME], labels[TEAM], kind, "exited" if listed["State"] == "exited" else "running")


def _tail(printed: bytes) -> str:
    """The last lines, whole ones."""
    if len(printed) > _TAIL_BYTES:
        printed = printed[-_TAIL_BYTES:].partition(b"\n")[2]
    return printed.decode(errors="replace")


def _why(found: Container) -> str:
    """What the host did to it, which the container itself could not print."""
    labels, state = found["Config"]["Labels"], found["State"]
    if _status(found) == "running":
        return ""
    if state.get("OOMKilled"):
        return f"Ended by its memory limit of {labels[MEMORY]} MB.\n"
    if state["ExitCode"] == EXIT_TIME_LIMIT and TIME_LIMIT in labels:
        return f"Stopped after {labels[TIME_LIMIT]} seconds, the time limit of this job.\n"
    return ""
