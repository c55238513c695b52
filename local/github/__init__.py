"""A GitHub on this machine: the REST operations the platform uses, and real git over smart HTTP."""

from local.github.app import create_app, git_routes, seed_template
from local.github.config import GitHubConfig

__all__ = ["GitHubConfig", "create_app", "git_routes", "seed_template"]
