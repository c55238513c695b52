"""The local cloud: everything the platform talks to, on this machine, speaking the same wire protocols."""

import asyncio
import os
import secrets
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import local.entra
import local.github
from local import certs, engine, serving
from local.agent_image import Tell
from local.azurite import Azurite, AzuritePorts
from local.child import Child, accepts_connections
from local.engine import ContainerChoice
from local.entra.config import DEMO_TENANT, Client, EntraConfig
from local.github.config import GitHubConfig
from local.keys import app_key
from local.ports import CloudPorts, require_all_free
from local.valkey import Valkey
from shared.adapters.process_folders import stop_all

ROOT = Path(__file__).parents[1]
ORG = "kanban"
APP_ID = "1001"
INSTALLATION = 2001
CLIENT_ID = "kanban-platform-web"
CLIENT_SECRET = "local-only-client-secret"  # noqa: S105 - guards an emulator on the loopback
MODEL_VARIABLES = ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "LLM_ROUTES")
"""Each of them takes the place of the demo model."""
REALTIME_KEY = "local-only-realtime-access-key-0123456789"
TEMPLATE = f"{ORG}-templates/app-template"
TUNABLE = (
    *("STORE", "AGENT_MODEL", "RUN_SPEND_CAP_USD", "RUN_TURN_LIMIT", "RUN_TIME_LIMIT", "RUN_TOKEN_LIMIT"),
    *("AGENT_MEMORY_MB", "AGENT_PROCESSES", "AGENT_OUTBOUND", "CONTAINER_SUBNETS", "LIMITS_FAIL_OPEN"),
)
"""Settings of the platform that the environment of a local cloud may change."""
PROCESS_SETTINGS = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")
"""What every process has of its own."""


@dataclass(frozen=True, slots=True)
class Service:
    """One line of the table that `make start` prints."""

    name: str
    address: str
    what: str


class LocalCloud:
    """`async with LocalCloud(data) as cloud: cloud.web_url`. Leaving it stops everything, jobs of agents included."""

    def __init__(
        self,
        data: Path,
        ports: CloudPorts | None = None,
        environ: Mapping[str, str] | None = None,
        model_delay: float = 0.015,
        browsable: bool = True,
        host_environ: Mapping[str, str] | None = None,
        tell: Tell = lambda _: None,
        with_functions: bool = True,
        eager_saves: bool = True,
    ) -> None:
        """`environ` may name a real model (MODEL_VARIABLES) and any other setting.

        `host_environ` is for the function host's process as it stands, and wins. `tell` hears what takes long.
        Without functions, another function host is to be started on the API's port with `settings`.
        Without eager saves, storage does not survive a kill.
        """
        self.data, self.ports = data.resolve(), ports or CloudPorts()
        self._environ = dict(os.environ if environ is None else environ)
        self._browsable, self._host_environ, self._tell = browsable, dict(host_environ or {}), tell
        self._with_functions = with_functions
        self._stack = AsyncExitStack()
        self.api_url = f"http://localhost:{self.ports.api}"
        self.web_url = f"http://localhost:{self.ports.web}"
        self.github_url = f"http://localhost:{self.ports.github}"
        self.entra_url = f"http://localhost:{self.ports.entra}"
        self.realtime_url = f"http://localhost:{self.ports.realtime}"
        self._webhook_secret = secrets.token_hex(32)
        self.azurite = Azurite(
            self.data / "azurite",
            AzuritePorts(blob=self.ports.blobs, queue=self.ports.queues, table=self.ports.tables),
            self._log("azurite"),
            eager_saves=eager_saves,
        )
        self.valkey = Valkey(self.data / "redis", self.ports.valkey, self._log("valkey"))
        self.realtime = self._child("realtime", self.ports.realtime, "local.pubsub", str(self.ports.realtime))
        delay = ("--delay", str(model_delay))
        self.model = self._child("model", self.ports.model, "local.model", "--port", str(self.ports.model), *delay)
        self.functions: Child | None = None
        self.settings: dict[str, str] = {}
        self.containers = ContainerChoice()

    @property
    def demo_model(self) -> bool:
        return not any(self._environ.get(name) for name in MODEL_VARIABLES)

    @property
    def children(self) -> list[Child]:
        """Its processes, while it runs."""
        functions = [self.functions] if self.functions else []
        return [self.valkey.child, self.azurite.child, self.realtime, *self._models, *functions]

    @property
    def _models(self) -> list[Child]:
        return [self.model] if self.demo_model else []

    async def __aenter__(self) -> Self:
        require_all_free(self.ports)
        self.data.mkdir(parents=True, exist_ok=True)
        stop_all(self.data)  # jobs that a killed local cloud left behind
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        certificates = certs.ensure(self.data / "certificates", self._environ)
        key = app_key(self.data / "certificates" / "github-app.pem")
        github = self._github(key.public)
        self._stack.callback(stop_all, self.data)
        self.containers = await engine.chosen(self._environ, self._tell)
        await self._stack.enter_async_context(self.valkey)
        self.settings = self._settings(certificates, key.private, await self._container_host(github))
        if self._with_functions:
            self.functions = self._function_host(self.settings)
            self._stack.push_async_callback(self.functions.stop)
        try:
            async with asyncio.TaskGroup() as starting:
                for child in (self.azurite, self.realtime, *self._models):
                    starting.create_task(self._stack.enter_async_context(child))
                if self.functions:
                    starting.create_task(self.functions.start())
                await self._emulators(certificates, github)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        if self.functions:
            self._stack.push_async_callback(self.functions.stop)  # first of all

    async def _container_host(self, github: GitHubConfig) -> dict[str, str]:
        """The settings that make the platform use what was chosen."""
        if not self.containers.docker:
            return {"CONTAINER_HOST": "process"}
        from local.containers import hosted

        used = hosted(self.containers, self.api_url, self.ports, github, self._tell)
        return await self._stack.enter_async_context(used)

    def _github(self, app_public_key: str) -> GitHubConfig:
        return GitHubConfig(
            self.data / "github",
            ORG,
            APP_ID,
            INSTALLATION,
            app_public_key,
            web_url=self.github_url,
            webhook_url=f"{self.api_url}/api/github/webhook",
            webhook_secret=self._webhook_secret,
            browsable=self._browsable,
        )

    async def _emulators(self, certificates: certs.Certificates, github: GitHubConfig) -> None:
        clients = {CLIENT_ID: Client(CLIENT_SECRET, frozenset({f"{self.web_url}/auth/callback"}))}
        entra = local.entra.create_app(
            EntraConfig(f"https://localhost:{self.ports.entra_tls}", self.entra_url, clients)
        )
        owner, name = TEMPLATE.split("/")
        await local.github.seed_template(github, owner, name, ROOT / "infra" / "app-template")
        await self._serve(entra, self.ports.entra)
        await self._serve(entra, self.ports.entra_tls, certificates.server)
        await self._serve(local.github.create_app(github), self.ports.github)
        await self._serve(self._web(), self.ports.web)

    def _web(self) -> Any:
        from local.web import create_app

        return create_app(ROOT / "static_web" / "dist", self.api_url, (self.realtime_url,))

    async def _serve(self, app: Any, port: int, certificate: Path | None = None) -> None:
        await self._stack.enter_async_context(
            serving.serve(app, serving.listening_socket(port=port), certfile=certificate)
        )

    def _function_host(self, env: Mapping[str, str]) -> Child:
        argv = [sys.executable, "-m", "local.host", "--port", str(self.ports.api), "--app-dir", str(ROOT)]
        return Child(
            "functions", argv, env, self._log("functions"), lambda: accepts_connections(self.ports.api), cwd=ROOT
        )

    def _settings(
        self, certificates: certs.Certificates, app_private_key: str, container_host: Mapping[str, str]
    ) -> dict[str, str]:
        kept = (*PROCESS_SETTINGS, "ALLOW_UNSANDBOXED", "LOG_LEVEL", *TUNABLE)
        env = {name: self._environ[name] for name in kept if name in self._environ}
        env |= {
            "PYTHONUNBUFFERED": "1",
            "REQUESTS_CA_BUNDLE": str(certificates.bundle),
            "SSL_CERT_FILE": str(certificates.bundle),
            "PUBLIC_API_URL": self.api_url,
            "PUBLIC_WEB_URL": self.web_url,
            "DATA_DIR": str(self.data),
            "AzureWebJobsStorage": self.azurite.connection_string,
            "WEB_PUBSUB_CONNECTION_STRING": f"Endpoint={self.realtime_url};AccessKey={REALTIME_KEY};Version=1.0;",
            "REDIS_URL": self.valkey.url,
            "ENTRA_AUTHORITY": f"https://localhost:{self.ports.entra_tls}/{DEMO_TENANT}",
            "ENTRA_CLIENT_ID": CLIENT_ID,
            "ENTRA_CLIENT_SECRET": CLIENT_SECRET,
            "ENTRA_ALLOWED_TENANTS": DEMO_TENANT,
            "FIRST_ADMIN": "grace@contoso.test",
            "GITHUB_API_URL": self.github_url,
            "GITHUB_ORG": ORG,
            "GITHUB_APP_ID": APP_ID,
            "GITHUB_INSTALLATION_ID": str(INSTALLATION),
            "GITHUB_APP_PRIVATE_KEY": app_private_key,
            "GITHUB_WEBHOOK_SECRET": self._webhook_secret,
            "GITHUB_TEMPLATE": TEMPLATE,
            "IMPORT_SCHEMES": "https,http,file",
        }
        return env | dict(container_host) | self._model_settings() | self._host_environ

    def _model_settings(self) -> dict[str, str]:
        if self.demo_model:
            base = f"http://localhost:{self.ports.model}"
            return {
                "ANTHROPIC_BASE_URL": base,
                "ANTHROPIC_API_KEY": "demo",
                "DEMO_MODEL": "1",
                "AGENT_MODEL": "demo-1",
            }
        return {name: self._environ[name] for name in MODEL_VARIABLES if self._environ.get(name)}

    def services(self) -> list[Service]:
        upstream = self._environ.get("ANTHROPIC_BASE_URL", "https://api.anthropic.com")
        model = Service("Model", f"http://localhost:{self.ports.model}", "demo model (a small grammar, no AI)")
        real = Service("Model", upstream, "Anthropic-compatible upstream")
        host = "function host: HTTP, queues, timers" if self._with_functions else "not started"
        return [
            Service("Web app", self.web_url, "sign in here"),
            Service("API", f"{self.api_url}/api/docs", host),
            Service("Entra ID", self.entra_url, "emulator: Ada, Bob, and Grace the admin"),
            Service("GitHub", self.github_url, "emulator: REST and git over HTTP"),
            Service("Web PubSub", self.realtime_url, "emulator on Valkey"),
            model if self.demo_model else real,
            Service("Storage", f"http://localhost:{self.ports.queues}", "Azurite: queues, blobs, tables"),
            Service("Valkey", f"localhost:{self.ports.valkey}", "budgets, realtime state"),
            Service("Agents", *self.containers.described()),
        ]

    def _child(self, name: str, port: int, module: str, *arguments: str) -> Child:
        """An emulator in a process of its own, which tests may kill and start again."""
        env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        env |= {"REDIS_URL": self.valkey.url, "WEB_PUBSUB_ACCESS_KEY": REALTIME_KEY}
        argv = [sys.executable, "-m", module, *arguments]
        return Child(name, argv, env, self._log(name), lambda: accepts_connections(port), cwd=ROOT)

    def _log(self, name: str) -> Path:
        return self.data / "logs" / f"{name}.log"
