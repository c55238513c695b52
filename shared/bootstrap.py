"""Settings -> Platform: the only place that wires ports to adapters and services to ports."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from shared.adapters.file_blobs import FileBlobs
from shared.adapters.file_secrets import FileSecrets
from shared.adapters.http_webhooks import HttpWebhooks
from shared.adapters.jsonl_events import JsonlEvents
from shared.adapters.jwt_tokens import JwtTokens
from shared.adapters.managed_identity import ManagedIdentity
from shared.adapters.standard_webhooks import StandardWebhooks
from shared.adapters.tinydb_documents import TinyDbDocuments
from shared.agents.changes import RunChanges, RunDefaults
from shared.agents.container import ContainerApi
from shared.agents.evidence import Evidence
from shared.agents.intake import WebhookIntake
from shared.agents.lifecycle import RunLifecycle, RunPorts
from shared.agents.pull_requests import PullRequests
from shared.agents.repository import AgentRepository
from shared.agents.service import RunService
from shared.agents.steps import AgentSteps
from shared.auth.repository import AuthRepository
from shared.auth.service import AuthRules, AuthService
from shared.boards.cards import CardService
from shared.boards.service import BoardService
from shared.boards.steps import BoardSteps
from shared.core.access import Access
from shared.core.addresses import ContainerAddresses
from shared.core.boards import BoardRepository
from shared.core.clock import Clock, SystemClock
from shared.core.errors import Invalid
from shared.core.holds import HoldableDocuments
from shared.core.idempotency import IdempotencyKeys
from shared.core.incidents import Incidents
from shared.core.policy import AgentPolicy
from shared.core.ports import (
    Blobs,
    ContainerHost,
    Documents,
    EventLog,
    IdentityProvider,
    Limits,
    Queues,
    Realtime,
    Repositories,
    Secrets,
    Tokens,
    WebhookSender,
    WebhookSigner,
)
from shared.core.resources import RunLimits
from shared.core.settings import Settings
from shared.core.store import Store
from shared.llm import routes
from shared.llm.books import Books
from shared.llm.gateway import Gateway
from shared.llm.key_service import KeyService
from shared.llm.keys import Keys
from shared.llm.ledger import Ledger
from shared.llm.routes import Provider, Routes, service_address
from shared.llm.routing import Router
from shared.llm.service import UsageRecorder
from shared.llm.steps import LlmSteps
from shared.llm.upstream import Upstream
from shared.llm.usage_service import UsageService
from shared.tasks.deletions import Deletions
from shared.tasks.plans import Steps, plans
from shared.tasks.runner import Runner
from shared.tasks.service import TaskService
from shared.tasks.steps import TaskSteps
from shared.teams.repository import TeamRepository
from shared.teams.service import TeamService
from shared.teams.steps import TeamSteps
from shared.webhooks.service import WebhookService
from shared.workspaces.repository import WorkspaceRepository
from shared.workspaces.service import WorkspaceService
from shared.workspaces.steps import WorkspaceSteps


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything outside, behind its Protocol."""

    documents: Documents
    event_log: EventLog
    blobs: Blobs
    secrets: Secrets
    queues: Queues
    realtime: Realtime
    ledger: Ledger
    identity: IdentityProvider
    tokens: Tokens
    repositories: Repositories
    host: ContainerHost
    routes: Routes
    providers: Mapping[str, Upstream]
    sender: WebhookSender
    signer: WebhookSigner
    clock: Clock
    closers: tuple[Callable[[], Awaitable[None]], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Platform:
    """What triggers and routers call."""

    settings: Settings
    store: Store
    tokens: Tokens
    auth: AuthService
    teams: TeamService
    workspaces: WorkspaceService
    boards: BoardService
    cards: CardService
    tasks: TaskService
    runs: RunService
    container: ContainerApi
    intake: WebhookIntake
    lifecycle: RunLifecycle
    pull_requests: PullRequests
    runner: Runner
    webhooks: WebhookService
    llm: Gateway
    books: Books
    keys: KeyService
    usage_reports: UsageService
    access: Access
    incidents: Incidents
    idempotency: IdempotencyKeys
    closers: tuple[Callable[[], Awaitable[None]], ...]

    async def close(self) -> None:
        for close in self.closers:
            await close()


def adapters(settings: Settings) -> Ports:
    """The adapters that these settings choose. Nothing is connected yet, and SDKs load when first used."""
    from shared.adapters.entra import EntraIdentity
    from shared.adapters.github import GitHubRepositories
    from shared.adapters.redis_ledger import RedisLedger
    from shared.adapters.storage_queues import StorageQueues
    from shared.adapters.web_pubsub import WebPubSubRealtime

    clock = SystemClock()
    identity = ManagedIdentity(settings.identity_client_id)
    stores = _stores(settings, identity)
    queues = StorageQueues(settings.queue_connection)
    realtime = WebPubSubRealtime(settings.realtime_connection, settings.realtime_hub)
    ledger = RedisLedger(settings.redis_url)
    host = _container_host(settings)
    model_routes = routes.parse(settings.llm_routes)
    upstreams = providers(model_routes, settings, stores.secrets, identity)
    sender = HttpWebhooks()
    return Ports(
        documents=stores.documents,
        event_log=stores.event_log,
        blobs=stores.blobs,
        secrets=stores.secrets,
        queues=queues,
        realtime=realtime,
        ledger=ledger,
        identity=EntraIdentity(
            settings.entra_authority,
            settings.entra_client_id,
            settings.entra_client_secret,
            settings.entra_allowed_tenants,
        ),
        tokens=JwtTokens(stores.secrets, settings.public_api_url, clock),
        repositories=GitHubRepositories(
            settings.github_api_url,
            settings.github_org,
            settings.github_app_id,
            settings.github_installation_id,
            settings.github_app_key,
        ),
        host=host,
        routes=model_routes,
        providers=upstreams,
        sender=sender,
        signer=StandardWebhooks(),
        clock=clock,
        closers=(
            queues.close,
            realtime.close,
            ledger.close,
            *(upstream.close for upstream in upstreams.values()),
            sender.close,
            *stores.closers,
            identity.close,
        ),
    )


@dataclass(frozen=True, slots=True)
class _Stores:
    documents: Documents
    event_log: EventLog
    blobs: Blobs
    secrets: Secrets
    closers: tuple[Callable[[], Awaitable[None]], ...]


def _stores(settings: Settings, identity: ManagedIdentity) -> _Stores:
    root = settings.data_path
    secrets, close_secrets = _secrets(settings, identity)
    if settings.store == "tinydb":
        files = TinyDbDocuments(root)
        documents = HoldableDocuments(files)
        return _Stores(documents, JsonlEvents(root), FileBlobs(root), secrets, (files.close, *close_secrets))
    if settings.store != "tables":
        raise Invalid(f"STORE={settings.store!r} is not a store. Use: tinydb, tables.")
    from shared.adapters.azure_blobs import AzureBlobs
    from shared.adapters.table_documents import TableDocuments
    from shared.adapters.table_events import TableEvents

    connection = settings.storage_connection or settings.queue_connection
    tables = TableDocuments(connection, identity=identity)
    events, blobs = TableEvents(connection, identity=identity), AzureBlobs(connection, identity=identity)
    closers = (tables.close, events.close, blobs.close, *close_secrets)
    return _Stores(HoldableDocuments(tables), events, blobs, secrets, closers)


def _secrets(
    settings: Settings, identity: ManagedIdentity
) -> tuple[Secrets, tuple[Callable[[], Awaitable[None]], ...]]:
    if not settings.key_vault_url:
        return FileSecrets(settings.data_path), ()
    from shared.adapters.key_vault_secrets import KeyVaultSecrets

    vault = KeyVaultSecrets(settings.key_vault_url, identity)
    return vault, (vault.close,)


def providers(
    routes: Routes, settings: Settings, secrets: Secrets, identity: ManagedIdentity
) -> Mapping[str, Upstream]:
    """An upstream for each provider of the routes."""
    from shared.adapters.anthropic_upstream import AnthropicUpstream, Patience
    from shared.adapters.provider_credentials import Credential, IdentityToken, SecretKey, api_key

    def credential(provider: Provider) -> Credential:
        match provider.auth:
            case "none":
                return api_key("")
            case "setting":
                return api_key(settings.anthropic_api_key)
            case "secret":
                return SecretKey(secrets, provider.secret)
            case "identity":
                return IdentityToken(identity)

    def upstream(each: Provider) -> Upstream:
        patience = Patience(each.connect_seconds, each.first_byte_seconds, each.answer_seconds, each.idle_seconds)
        base_url = each.base_url or service_address(settings.anthropic_base_url)
        return AnthropicUpstream(base_url, credential(each), patience)

    return {name: upstream(provider) for name, provider in routes.providers.items()}


def _container_host(settings: Settings) -> ContainerHost:
    limits = Limits(settings.agent_memory_mb, settings.agent_processes, settings.agent_cpus)
    if settings.container_host == "process":
        from shared.adapters.process_host import ProcessHost

        return ProcessHost(settings.data_path, limits=limits)
    if settings.container_host != "docker":
        raise Invalid(f"CONTAINER_HOST={settings.container_host!r} is not a driver. Use: process, docker.")
    from shared.adapters.docker_engine import DockerEngine
    from shared.adapters.docker_host import DockerHost

    return DockerHost(
        DockerEngine(settings.docker_host, settings.docker_cert_path),
        settings.public_api_url,
        settings.agent_image,
        settings.container_subnets,
        limits,
        outbound=settings.agent_outbound,
    )


def build(settings: Settings, ports: Ports) -> Platform:
    """Wire the services."""
    store = Store(ports.documents, ports.event_log, ports.queues, ports.realtime, ports.clock)
    access = Access(ports.documents)
    boards, agents = BoardRepository(ports.documents), AgentRepository(ports.documents)
    teams, workspaces = TeamRepository(ports.documents), WorkspaceRepository(ports.documents, ports.clock)
    policy = _policy(settings, ports.host)
    addresses = ContainerAddresses.parse(settings.container_urls)
    keys = Keys(ports.documents, ports.secrets, ports.tokens, ports.clock)
    limits = RunLimits(
        turns=settings.run_turn_limit,
        seconds=settings.run_time_limit,
        tokens=settings.run_token_limit,
        spend_cap_usd=settings.run_spend_cap_usd,
    )
    changes = RunChanges(store, boards, RunDefaults(settings.agent_model, settings.demo_model, limits))
    intake = WebhookIntake(store, agents, boards, changes, ports.secrets, ports.signer, access)
    evidence = Evidence(ports.repositories, ports.blobs, settings.public_web_url)
    run_ports = RunPorts(ports.host, ports.tokens, evidence)
    lifecycle = RunLifecycle(store, agents, changes, intake, policy, run_ports, settings.agent_api_url)
    steps = Steps(
        teams=TeamSteps(store, teams, ports.host, ports.blobs, settings.host_team_capacity),
        boards=BoardSteps(store, boards, ports.blobs),
        llm=LlmSteps(keys),
        agents=AgentSteps(store, agents, boards, lifecycle, ports.secrets, policy, settings.public_api_url),
        workspaces=WorkspaceSteps(
            store, workspaces, boards, ports.repositories, ports.host, addresses, policy, settings.github_template
        ),
        tasks=TaskSteps(store),
    )
    runner = Runner(store, plans(steps))
    deletions = Deletions(store, access, runner)
    usage = UsageRecorder(store)
    router = Router(ports.routes, ports.providers, ports.clock)
    books = Books(ports.ledger, ports.documents, ports.queues, usage, ports.clock, fail_open=settings.limits_fail_open)
    home_tenant = next(iter(settings.entra_allowed_tenants), "")
    rules = AuthRules(f"{settings.public_web_url}/auth/callback", settings.first_admin, home_tenant)
    return Platform(
        settings=settings,
        store=store,
        tokens=ports.tokens,
        auth=AuthService(
            AuthRepository(ports.documents), ports.identity, ports.tokens, ports.realtime, ports.clock, rules
        ),
        teams=TeamService(store, teams, access, runner, deletions, ports.realtime, settings.public_web_url),
        workspaces=WorkspaceService(store, workspaces, access, runner, deletions, settings.import_schemes),
        boards=BoardService(store, boards, access, policy),
        cards=CardService(store, boards, access, policy),
        tasks=TaskService(store, access, runner),
        runs=RunService(store, access, boards, changes, lifecycle, policy, ports.blobs),
        container=ContainerApi(store, boards, changes, lifecycle, ports.repositories, ports.tokens, addresses),
        intake=intake,
        lifecycle=lifecycle,
        pull_requests=PullRequests(store, boards, workspaces.of_repository, settings.github_webhook_secret),
        runner=runner,
        webhooks=WebhookService(store, ports.secrets, ports.signer, ports.sender, ports.queues),
        llm=Gateway(keys, books, router, ports.clock),
        books=books,
        keys=KeyService(keys, ports.documents, boards, access, ports.clock),
        usage_reports=UsageService(ports.documents, boards, access, ports.clock),
        access=access,
        incidents=Incidents(ports.documents, ports.queues, ports.clock),
        idempotency=IdempotencyKeys(ports.documents, ports.clock),
        closers=ports.closers,
    )


def _policy(settings: Settings, host: ContainerHost) -> AgentPolicy:
    own_upstream = settings.anthropic_base_url != Settings.anthropic_base_url
    return AgentPolicy(
        demo_model=settings.demo_model,
        isolated=host.isolated,
        allow_unsandboxed=settings.allow_unsandboxed,
        has_upstream=bool(settings.anthropic_api_key or settings.llm_routes) or own_upstream,
    )
