"""Azure Web PubSub on one machine: REST data plane and both JSON subprotocols, with Redis as the only truth."""

from local.pubsub.app import create_app

__all__ = ["create_app"]
