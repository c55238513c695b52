"""Every setting, its environment variable, default and meaning. Read once, in bootstrap."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from shared.core.errors import Invalid


def setting(env: str, default: Any, doc: str, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"env": env, "doc": doc, "secret": secret})


@dataclass(frozen=True)
class Settings:
    """The platform's configuration. docs/configuration.md is generated from this class."""

    public_api_url: str = setting(
        "PUBLIC_API_URL", "http://localhost:7071", "Address of the API for browsers and webhooks"
    )
    container_api_url: str = setting(
        "CONTAINER_API_URL", "", "Address of the API that a container can reach; empty: the public one"
    )
    public_web_url: str = setting("PUBLIC_WEB_URL", "http://localhost:4280", "Address of the web app")
    data_dir: str = setting("DATA_DIR", "data", "Folder of the local stores")
    store: str = setting(
        "STORE", "tinydb", "Where documents, events and blobs are kept: tinydb (files in DATA_DIR) or tables (Azure)"
    )
    storage_connection: str = setting(
        "STORAGE_CONNECTION",
        "",
        "Connection string of the storage account with tables and blobs; empty: that of the queues; without a key "
        "(AccountName=...) the managed identity opens it",
        secret=True,
    )
    key_vault_url: str = setting(
        "KEY_VAULT_URL",
        "",
        "Key Vault that keeps the secrets, https://<vault>.vault.azure.net; empty: files in DATA_DIR",
    )
    identity_client_id: str = setting(
        "AZURE_CLIENT_ID", "", "Client id of the user-assigned managed identity; empty: the system-assigned one"
    )
    queue_connection: str = setting(
        "AzureWebJobsStorage", "", "Connection string of the storage account with the queues", secret=True
    )
    realtime_connection: str = setting(
        "WEB_PUBSUB_CONNECTION_STRING", "", "Connection string of Web PubSub", secret=True
    )
    realtime_hub: str = setting("WEB_PUBSUB_HUB", "kanban", "Hub name in Web PubSub")
    redis_url: str = setting("REDIS_URL", "", "Redis for limits and budgets", secret=True)
    entra_authority: str = setting("ENTRA_AUTHORITY", "", "Issuer authority, https://login.../<tenant>")
    entra_client_id: str = setting("ENTRA_CLIENT_ID", "", "Client id of the platform's app registration")
    entra_client_secret: str = setting("ENTRA_CLIENT_SECRET", "", "Its client secret", secret=True)
    entra_allowed_tenants: tuple[str, ...] = setting(
        "ENTRA_ALLOWED_TENANTS", (), "Tenant ids whose people may sign in, comma separated; empty: nobody"
    )
    first_admin: str = setting(
        "FIRST_ADMIN",
        "",
        "Object id, or e-mail address in the first allowed tenant, of the one who becomes platform admin at the first "
        "sign-in",
    )
    github_api_url: str = setting("GITHUB_API_URL", "https://api.github.com", "Base URL of GitHub's REST API")
    github_org: str = setting("GITHUB_ORG", "", "Organisation that owns the workspaces' repositories")
    github_app_id: str = setting("GITHUB_APP_ID", "", "Id of the GitHub App")
    github_installation_id: int = setting("GITHUB_INSTALLATION_ID", 0, "Id of its installation in the organisation")
    github_app_key: str = setting("GITHUB_APP_PRIVATE_KEY", "", "Its private key, PEM", secret=True)
    github_webhook_secret: str = setting(
        "GITHUB_WEBHOOK_SECRET",
        "",
        "Secret of the App's webhook, which tells of merged pull requests; empty: every delivery is refused",
        secret=True,
    )
    github_template: str = setting(
        "GITHUB_TEMPLATE", "", "Template repository of new workspaces, owner/name; empty: start empty"
    )
    import_schemes: tuple[str, ...] = setting(
        "IMPORT_SCHEMES", ("https",), "URL schemes a repository may be imported from, comma separated"
    )
    anthropic_base_url: str = setting(
        "ANTHROPIC_BASE_URL",
        "https://api.anthropic.com",
        "Upstream of the LLM gateway (Anthropic Messages API)",
    )
    anthropic_api_key: str = setting("ANTHROPIC_API_KEY", "", "Key for that upstream", secret=True)
    llm_routes: str = setting(
        "LLM_ROUTES",
        "",
        "Models and the providers that answer for them: JSON, or the path of a file with it; empty: that upstream "
        "answers for every model",
    )
    demo_model: bool = setting(
        "DEMO_MODEL",
        False,
        "The upstream is the demo model; the web app says so, and nothing needs isolation",
    )
    agent_model: str = setting("AGENT_MODEL", "claude-sonnet-5-5", "Model that agents use")
    container_host: str = setting("CONTAINER_HOST", "process", "Driver that runs agents: process or docker")
    container_urls: tuple[str, ...] = setting(
        "CONTAINER_URLS",
        (),
        "Other addresses as containers reach them: pairs prefix=replacement, comma separated",
        secret=True,
    )
    container_subnets: str = setting(
        "CONTAINER_SUBNETS", "10.213.0.0/16", "Range of addresses for the teams' networks on a Docker engine"
    )
    docker_host: str = setting(
        "DOCKER_HOST", "unix:///var/run/docker.sock", "The Docker engine: unix://, tcp:// (with TLS) or ssh://"
    )
    docker_cert_path: str = setting(
        "DOCKER_CERT_PATH", "", "Folder with ca.pem, cert.pem and key.pem for an engine at tcp://"
    )
    agent_image: str = setting("AGENT_IMAGE", "kanban-agent", "The agent's image on the Docker engine")
    agent_outbound: bool = setting(
        "AGENT_OUTBOUND",
        False,
        "Let agents' containers reach more than the engine's own machine: needed where the API or git is elsewhere",
    )
    agent_memory_mb: int = setting("AGENT_MEMORY_MB", 4096, "Memory of one agent, in MB; half of it for its files")
    agent_processes: int = setting("AGENT_PROCESSES", 512, "Most processes and threads of one agent")
    agent_cpus: float = setting("AGENT_CPUS", 2.0, "Processor cores of one agent, on Docker")
    host_team_capacity: int = setting("HOST_TEAM_CAPACITY", 100, "Most teams placed on one container host")
    allow_unsandboxed: bool = setting(
        "ALLOW_UNSANDBOXED", False, "Let a real model's commands run as this user, without any isolation"
    )
    limits_fail_open: bool = setting(
        "LIMITS_FAIL_OPEN",
        False,
        "While Redis is away, let model calls through without limits and budgets instead of refusing them; each answer "
        "and the log say so",
    )
    run_spend_cap_usd: float = setting("RUN_SPEND_CAP_USD", 5.0, "Most that one run may spend on the model, in USD")
    run_turn_limit: int = setting("RUN_TURN_LIMIT", 60, "Most model turns of one run")
    run_time_limit: int = setting("RUN_TIME_LIMIT", 1800, "Longest time of one run, in seconds")
    run_token_limit: int = setting("RUN_TOKEN_LIMIT", 2_000_000, "Most tokens (input and output) of one run")

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """Raises Invalid naming the variable whose text does not fit."""
        values: dict[str, Any] = {}
        for item in fields(cls):
            text = env.get(item.metadata["env"], "").strip()
            if text:
                values[item.name] = _parse(item.metadata["env"], text, item.default)
        return cls(**values)

    @property
    def agent_api_url(self) -> str:
        return self.container_api_url or self.public_api_url

    @property
    def data_path(self) -> Path:
        return Path(self.data_dir).resolve()


def _parse(env: str, text: str, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            return {"1": True, "true": True, "0": False, "false": False}[text.lower()]
        if isinstance(default, tuple):
            return tuple(part.strip() for part in text.split(",") if part.strip())
        value = type(default)(text)
        if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
            raise ValueError("a limit that limits nothing")
    except (KeyError, ValueError):
        kind = "number of 0 or more" if isinstance(default, int | float) else type(default).__name__
        raise Invalid(f"Setting {env} has a value that is not a {kind}.") from None
    return value
