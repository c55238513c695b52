"""A team's networks on a Docker engine: one that reaches only the engine's own machine, and one that reaches on.

Subnets are chosen here: an engine left to itself runs out after some thirty networks.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from ipaddress import IPv4Network, ip_network
from typing import TYPE_CHECKING, Any

from shared.adapters.docker_containers import KIND, PLATFORM, TEAM, Network
from shared.core.errors import Conflict, Invalid, Unavailable

if TYPE_CHECKING:
    from docker import APIClient

_PREFIX = 26
_TRIES = 8


class TeamNetworks:
    """`subnets` is the range of addresses that networks are cut from."""

    def __init__(self, platform: str, subnets: str) -> None:
        self._platform = platform
        try:
            self._pool = IPv4Network(subnets)
        except ValueError as error:
            raise Invalid(f"CONTAINER_SUBNETS is not a range of IPv4 addresses: {error}.") from None
        if self._pool.prefixlen > _PREFIX:
            raise Invalid(
                f"CONTAINER_SUBNETS={subnets} holds no network of 64 addresses. Use for example 10.213.0.0/16."
            )

    def ensure(self, api: APIClient, team_id: str, *, outbound: bool) -> Network:
        from docker.errors import APIError

        name = f"kanban-{team_id}{'-outbound' if outbound else ''}"
        labels = {PLATFORM: self._platform, TEAM: team_id, KIND: "network"}
        for _ in range(_TRIES):
            known = api.networks()
            found = self._named(known, name)
            if found:
                return _network(found)
            try:
                made = self._create(api, name, self._free(known), labels, internal=not outbound)
            except APIError as error:  # somebody else took the name or the subnet meanwhile
                if error.status_code not in (403, 409) and "overlap" not in str(error):
                    raise
                continue
            winner = self._named(api.networks(), name)
            if winner and winner["Id"] != made:  # engines before 25 let two have one name
                _remove(api, made)
        raise Unavailable(f"No network could be made for the team {team_id}: others keep taking its addresses.")

    def remove(self, api: APIClient, team_id: str) -> None:
        """Of containers that are gone."""
        for network in api.networks(filters={"label": [f"{PLATFORM}={self._platform}", f"{TEAM}={team_id}"]}):
            _remove(api, network["Id"])

    def _named(self, known: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
        """The oldest of that name, for everyone who looks. Raises Conflict for one that is not ours."""
        found = sorted((each for each in known if each["Name"] == name), key=lambda each: (each["Created"], each["Id"]))
        if found and (found[0]["Labels"] or {}).get(PLATFORM) != self._platform:
            raise Conflict(f"A network that is not ours has the name {name}.")
        return found[0] if found else None

    def _create(
        self, api: APIClient, name: str, subnet: IPv4Network, labels: Mapping[str, str], *, internal: bool
    ) -> str:
        from docker.types import IPAMConfig, IPAMPool

        pool = IPAMPool(subnet=str(subnet), gateway=str(subnet[1]))
        made: dict[str, str] = api.create_network(
            name,
            driver="bridge",
            ipam=IPAMConfig(pool_configs=[pool]),
            check_duplicate=True,
            internal=internal,
            labels=dict(labels),
        )
        return made["Id"]

    def _free(self, known: list[dict[str, Any]]) -> IPv4Network:
        taken = [
            ip_network(pool["Subnet"]) for each in known for pool in each["IPAM"]["Config"] or () if "Subnet" in pool
        ]
        candidates = list(self._pool.subnets(new_prefix=_PREFIX))
        start = random.randrange(len(candidates))  # others on this engine choose at the same time
        for candidate in candidates[start:] + candidates[:start]:
            if not any(isinstance(each, IPv4Network) and each.overlaps(candidate) for each in taken):
                return candidate
        raise Unavailable("All addresses in CONTAINER_SUBNETS are taken: widen it, or remove networks of old teams.")


def _network(found: Mapping[str, Any]) -> Network:
    config = next(iter(found["IPAM"]["Config"] or ()), {})
    return Network(found["Id"], config.get("Gateway", ""), bool(found["Internal"]))


def _remove(api: APIClient, network: str) -> None:
    from docker.errors import NotFound

    with contextlib.suppress(NotFound):
        api.remove_network(network)
