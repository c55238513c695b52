"""Standard Webhooks signatures (standardwebhooks.com), by their own library."""

import binascii
from collections.abc import Mapping
from datetime import UTC, datetime

from shared.core.errors import BadRequest, Unauthenticated


class StandardWebhooks:
    """Secrets have the form `whsec_<base64>`. Timestamps older or newer than five minutes are refused."""

    def headers(self, secret: str, message_id: str, moment: datetime, body: bytes) -> dict[str, str]:
        from standardwebhooks import Webhook

        signature = Webhook(secret).sign(message_id, moment.astimezone(UTC), body.decode())
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": signature,
        }

    def verify(self, secret: str, headers: Mapping[str, str], body: bytes) -> str:
        from standardwebhooks import Webhook, WebhookVerificationError

        sent = {name.lower(): value for name, value in headers.items()}
        try:
            Webhook(secret).verify(body, sent, json_parse=False)
        except UnicodeDecodeError:
            raise BadRequest("The body is not UTF-8.") from None
        except (WebhookVerificationError, ValueError, binascii.Error):
            raise Unauthenticated("The webhook signature is missing, too old or does not fit.") from None
        return sent["webhook-id"]
