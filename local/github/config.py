"""What a GitHub emulator is told: where its data lies, and the one App it knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.core.clock import Clock, SystemClock

APP_PERMISSIONS: Mapping[str, str] = {
    "administration": "write",
    "contents": "write",
    "metadata": "read",
    "pull_requests": "write",
}


@dataclass(frozen=True)
class GitHubConfig:
    """`app_public_key` is PEM. `browsable`: a person may look at private repositories without signing in.

    `web_url` is the address in links for people and for git; empty: whatever address the request came to.
    `webhook_url` is where the App hears of merges, signed with `webhook_secret`; empty: nowhere.
    """

    data: Path
    org: str
    app_id: str
    installation_id: int
    app_public_key: str
    app_slug: str = "kanban-platform"
    permissions: Mapping[str, str] = field(default_factory=lambda: dict(APP_PERMISSIONS))
    web_url: str = ""
    webhook_url: str = ""
    webhook_secret: str = field(default="", repr=False)
    browsable: bool = False
    validate_answers: bool = True
    clock: Clock = field(default_factory=SystemClock)
