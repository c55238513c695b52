"""Webhook deliveries as they travel on the queue."""

from typing import Self

from pydantic import Field, model_validator

from shared.core import deliveries, ids
from shared.core.messages import MovedCard, QueueMessage


class Delivery(QueueMessage):
    """The event to POST, where to, and the name of the secret that signs it: that of the board's own agent."""

    url: str = Field(pattern=r"^https?://[^\s]+$", max_length=2_000)
    secret_name: str
    event: MovedCard

    @model_validator(mode="after")
    def _signed_for_its_board(self) -> Self:
        if self.secret_name != deliveries.secret_name(ids.board_scope(self.event["data"]["board_id"])):
            raise ValueError("the secret is not that of the event's board")
        return self

    @property
    def event_id(self) -> str:
        return self.event["id"]
