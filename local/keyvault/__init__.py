"""A small Key Vault, and the endpoint that gives a function app's identity its tokens."""

from local.keyvault.app import KeyVault, create_app

__all__ = ["KeyVault", "create_app"]
