"""Microsoft Entra ID on one machine: real URL shapes, tokens and error texts; nobody has a password."""

from local.entra.app import create_app
from local.entra.config import Client, EntraConfig, User, demo_users

__all__ = ["Client", "EntraConfig", "User", "create_app", "demo_users"]
