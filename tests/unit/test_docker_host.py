"""The Docker driver on answers of an engine that cannot be brought about at will."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from docker.errors import APIError
from requests import Response

from shared.adapters.docker_host import DockerHost


def refusal(status: int, said: str) -> APIError:
    response = Response()
    response.status_code = status
    return APIError(said, response, said)


@dataclass
class JoinedTeam:
    """An engine with a team's network and volume, which a job joins when they are first to be removed."""

    network_refusal: APIError | None = None
    volume_refusal: APIError | None = None
    containers_left: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    left: set[str] = field(default_factory=lambda: {"network", "volume"})

    async def call(self, act: Callable[[Any], Any]) -> Any:
        return act(self)

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        return list(self.containers_left)

    def remove_container(self, found: str, **_: Any) -> None:
        self.containers_left.clear()
        self.network_refusal = self.volume_refusal = None

    def networks(self, **_: Any) -> list[dict[str, Any]]:
        return [{"Id": "n1"}] if "network" in self.left else []

    def remove_network(self, found: str) -> None:
        self._refuse(self.network_refusal)
        self.left.remove("network")

    def volumes(self, **_: Any) -> dict[str, Any]:
        return {"Volumes": [{"Name": "v1"}] if "volume" in self.left else None}

    def remove_volume(self, name: str) -> None:
        self._refuse(self.volume_refusal)
        self.left.remove("volume")

    def _refuse(self, refused: APIError | None) -> None:
        if refused:
            self.containers_left = [{"Id": "c1"}]
            raise refused


@pytest.mark.parametrize(
    "engine",
    [
        JoinedTeam(network_refusal=refusal(403, "network kanban-t1 has active endpoints")),
        JoinedTeam(volume_refusal=refusal(409, "remove kanban-t1-cache: volume is in use")),
    ],
    ids=["network", "volume"],
)
async def test_a_job_that_joins_while_its_team_is_removed_goes_with_it(engine: JoinedTeam) -> None:
    await DockerHost(engine, "https://api.example", "agent", "10.213.0.0/16").remove_team("t1")  # type: ignore[arg-type]
    assert (engine.left, engine.containers_left) == (set(), [])


async def test_other_refusals_are_told() -> None:
    engine = JoinedTeam(network_refusal=refusal(400, "no"))
    with pytest.raises(APIError):
        await DockerHost(engine, "https://api.example", "agent", "10.213.0.0/16").remove_team("t1")  # type: ignore[arg-type]
