"""What a run is told by its environment, and what the model's commands may see of it."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

_PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
AGENT_NAME = "Kanban agent"
AGENT_EMAIL = "agent@kanban.invalid"


class BadEnvironment(Exception):
    """A variable is missing or makes no sense; the text names it."""


@dataclass(frozen=True)
class Config:
    """One run's address, identity and folders."""

    api_url: str
    run_id: str
    run_token: str = field(repr=False)
    home: Path
    work_dir: Path
    command_env: Mapping[str, str]

    @classmethod
    def take(cls, env: MutableMapping[str, str]) -> "Config":
        """Reads `env` and removes from it what no child process may inherit."""
        values = {name: env.pop(name, "").strip() for name in ("API_URL", "RUN_ID", "RUN_TOKEN")}
        for name in [name for name in env if name.startswith("ANTHROPIC_")]:
            del env[name]
        for name, value in values.items():
            if not value:
                raise BadEnvironment(f"{name} is not set. The platform sets it when it starts the container.")
        if not values["API_URL"].startswith(("http://", "https://")):
            raise BadEnvironment("API_URL must be an http or https address.")
        home = Path(env.get("HOME") or Path.home()).resolve()
        return cls(
            api_url=values["API_URL"].rstrip("/"),
            run_id=values["RUN_ID"],
            run_token=values["RUN_TOKEN"],
            home=home,
            work_dir=Path(env.get("WORK_DIR") or home / "work").resolve(),
            command_env=command_env(env, home),
        )


def command_env(env: Mapping[str, str], home: Path) -> dict[str, str]:
    """The whole environment of a command: nothing in it leads to the platform or to a credential."""
    passed = {name: env[name] for name in _PASSED_ON if env.get(name)}
    return passed | {
        "HOME": str(home),
        "TERM": "dumb",
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_EDITOR": "true",
        "GIT_AUTHOR_NAME": AGENT_NAME,
        "GIT_AUTHOR_EMAIL": AGENT_EMAIL,
        "GIT_COMMITTER_NAME": AGENT_NAME,
        "GIT_COMMITTER_EMAIL": AGENT_EMAIL,
    }
