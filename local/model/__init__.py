"""The demo model: an Anthropic-compatible server that carries out cards in a small grammar (docs/demo-model.md)."""

from local.model.app import create_app

__all__ = ["create_app"]
