"""The process's one Platform."""

import os

from shared.bootstrap import Platform, adapters, build
from shared.core.settings import Settings

_built: list[Platform] = []


def platform() -> Platform:
    """Built once per process from the environment. Raises Invalid for a setting that does not fit."""
    if not _built:
        settings = Settings.from_env(os.environ)
        _built.append(build(settings, adapters(settings)))
    return _built[0]
