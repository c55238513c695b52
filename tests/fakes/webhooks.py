"""A webhook sender that remembers what was posted, and a signer that takes its time from a clock."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from shared.core.clock import Clock
from shared.core.errors import Unauthenticated, Unavailable

type Receiver = Callable[[str, Mapping[str, str], bytes], Awaitable[int]]


class FakeWebhookSender:
    """`posts` holds (url, body, headers) in order. Answers `status`, or what `receiver` makes of the post."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, bytes, dict[str, str]]] = []
        self.status = 202
        self.down = False
        self.receiver: Receiver | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        if self.down:
            raise Unavailable("The subscriber did not answer. Try again in a moment.")
        self.posts.append((url, body, dict(headers)))
        return await self.receiver(url, headers, body) if self.receiver else self.status


class FakeSigner:
    """Standard Webhooks signatures whose five minutes pass by `clock`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def headers(self, secret: str, message_id: str, moment: datetime, body: bytes) -> dict[str, str]:
        at = str(int(moment.timestamp()))
        return {
            "webhook-id": message_id,
            "webhook-timestamp": at,
            "webhook-signature": _signature(secret, message_id, at, body),
        }

    def verify(self, secret: str, headers: Mapping[str, str], body: bytes) -> str:
        sent = {name.lower(): value for name, value in headers.items()}
        message_id, at = sent.get("webhook-id", ""), sent.get("webhook-timestamp", "")
        fits = hmac.compare_digest(sent.get("webhook-signature", ""), _signature(secret, message_id, at, body))
        if not fits or abs(self._clock.now().timestamp() - int(at)) > 300:
            raise Unauthenticated("The webhook signature is missing, too old or does not fit.")
        return message_id


def _signature(secret: str, message_id: str, at: str, body: bytes) -> str:
    return "v1," + hmac.new(secret.encode(), f"{message_id}.{at}.".encode() + body, hashlib.sha256).hexdigest()
