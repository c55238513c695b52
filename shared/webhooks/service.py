"""Delivers signed webhooks: one queue message, one POST."""

import asyncio
from typing import Any

import orjson

from shared.core import deliveries
from shared.core.errors import Unavailable
from shared.core.log import Log
from shared.core.messages import VERSION, read
from shared.core.ports import Json, Queues, Secrets, WebhookSender, WebhookSigner
from shared.core.store import Store
from shared.webhooks.models import Delivery

log = Log(__name__)

RUNS_QUEUE = "agent-runs"
_RESIGN_SECONDS = 1


class WebhookService:
    def __init__(
        self, store: Store, secrets: Secrets, signer: WebhookSigner, sender: WebhookSender, queues: Queues
    ) -> None:
        self._store, self._secrets, self._signer = store, secrets, signer
        self._sender, self._queues = sender, queues

    async def watch(self) -> int:
        """Send again what has not arrived; returns how many. Called by a timer."""
        return await deliveries.watch(self._store)

    async def deliver(self, message: Json) -> None:
        """POST the event, signed. Raises Unavailable when trying again may help; a refusal ends the delivery."""
        delivery = read(Delivery, message)
        secret = await self._secrets.get(delivery.secret_name)
        if secret is None:
            return await self.give_up(message, "its signing secret is gone")
        status = await self._post(delivery, secret)
        if status == 401:  # signed anew: a clock may have jumped meanwhile
            await asyncio.sleep(_RESIGN_SECONDS)
            status = await self._post(delivery, secret)
        if status < 300:
            log.info("webhook.delivered", event_id=delivery.event_id, status=status)
            return await deliveries.settle(self._store, delivery.event)
        if status in (408, 425, 429) or status >= 500:
            raise Unavailable(f"The subscriber answered {status}.")
        return await self.give_up(message, f"the agent's address answered {status}")

    async def _post(self, delivery: Delivery, secret: str) -> int:
        body = orjson.dumps(delivery.event)
        headers = self._signer.headers(secret, delivery.event_id, self._store.clock.now(), body)
        return await self._sender.post(delivery.url, body, {**headers, "content-type": "application/json"})

    async def give_up(self, message: Json, reason: str) -> None:
        """Tell the run life cycle, so that whoever moved the card learns that no agent came."""
        delivery = read(Delivery, message)
        body: dict[str, Any] = {
            "version": VERSION,
            "undelivered": delivery.event,
            "reason": f"The webhook could not be delivered: {reason}.",
        }
        await self._queues.send(RUNS_QUEUE, body)
        await deliveries.settle(self._store, delivery.event)
        log.warning("webhook.given_up", event_id=delivery.event_id, reason=reason)
