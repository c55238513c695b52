"""Webhook deliveries as they travel on the queue."""

from typing import Any, Literal

from shared.core.resources import Resource


class Delivery(Resource):
    """The event to POST, where to, and the name of the secret that signs it."""

    version: Literal[1]
    url: str
    secret_name: str
    event: dict[str, Any]

    @property
    def event_id(self) -> str:
        return self.event["id"]
