"""No secret lies anywhere but in the secret store: data, logs, events, error bodies, command lines, git."""

import asyncio
import base64
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import quote, urlsplit

import orjson
import pytest

from local.cloud import LocalCloud
from shared.core.settings import Settings
from tests.flows import jobs
from tests.flows.canaries import Scanner, environment_of, files_under
from tests.flows.world import (
    Json,
    Person,
    combination,
    finished_run,
    finished_task,
    make_card,
    make_workspace,
    run_card,
    run_in,
    started_cloud,
)

PROVIDER_KEY = "sk-ant-canary-0123456789-abcdefghij"
CURIOUS = """1. Run: `(env; git remote -v; cat .git/config; git config -l; ls -la ~ ..) > curious.txt 2>&1; sleep 1`

2. Run: `cat curious.txt`
"""


@dataclass
class Job:
    """The main job done once, with failures, and everything secret and public that came of it."""

    cloud: LocalCloud
    secrets: dict[str, str] = field(default_factory=dict)
    answers: list[bytes] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    processes: set[str] = field(default_factory=set)
    printed: list[bytes] = field(default_factory=list)

    @property
    def scanner(self) -> Scanner:
        return Scanner(self.secrets)

    async def refused(self, person: Person, method: str, path: str, **request: object) -> None:
        answer = await person.request(method, path, **request)
        assert answer.status_code >= 400, (method, path, answer.status_code)
        self.answers.append(answer.content + repr(answer.headers).encode())

    def private_places(self) -> tuple[Path, ...]:
        """Where secrets belong: the secret store; the keys of the emulators themselves."""
        return self.cloud.data / "secrets", self.cloud.data / "certificates"


@pytest.fixture(scope="module")
async def job(cloud_parts: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Job]:
    environ = {"ANTHROPIC_API_KEY": PROVIDER_KEY, "LOG_LEVEL": "DEBUG"}
    async with (
        started_cloud(tmp_path_factory.mktemp("canary"), host_environ=environ) as cloud,
        Person.signed_in(cloud, "ada@contoso.test") as ada,
        Person.signed_in(cloud, "bob@contoso.test") as bob,
    ):
        done = Job(cloud)
        watching = asyncio.create_task(_note_processes(done))
        try:
            await _main_job(done, ada, bob)
        finally:
            watching.cancel()
        yield done


async def _note_processes(job: Job) -> None:
    while True:
        job.processes.update(await asyncio.to_thread(jobs.all_command_lines, job.cloud))
        await asyncio.sleep(0.1)


async def _main_job(job: Job, ada: Person, bob: Person) -> None:
    async with ada.watching() as socket:
        job.secrets["web pubsub client token"] = socket.url.rpartition("access_token=")[2]
        place = await make_workspace(ada, "Canary")
        await _invite(job, ada, bob, place)
        await _sessions(job, ada)
        _, run = await run_card(ada, place["board_id"], "Be curious", CURIOUS)
        await run_in(ada, run["id"], "running")
        job.secrets["run token"] = environment_of("RUN_ID", run["id"])["RUN_TOKEN"]
        await _failures(job, ada, bob, place, run)
        ended = await finished_run(ada, run["id"])
        assert ended["status"] == "succeeded", ended["reason"]
        _, failing = await run_card(ada, place["board_id"], "Fail", "Run: `env; false`")
        await job.cloud.model.kill()
        await asyncio.sleep(2)
        await job.cloud.model.start()
        await finished_run(ada, failing["id"])
        for subject in (f"boards/{place['board_id']}", f"runs/{run['id']}", f"tasks/{place['task_id']}"):
            job.events.append((await ada.request("GET", f"/api/{subject}/events")).content)
        job.events.append(orjson.dumps(socket.messages))
    await ada.get("/api/auth/login")  # one that nobody finishes
    job.printed += jobs.printed(job.cloud)
    _platform_secrets(job)


async def _invite(job: Job, ada: Person, bob: Person, place: Json) -> None:
    path = f"/api/teams/{place['team_id']}/invitations"
    link = (await ada.post(path, {"role": "member"}, **{"idempotency-key": "invite once"}))["url"]
    token = job.secrets["invite token"] = link.rpartition("/")[2]
    await bob.get(f"/api/invitations/{token}")
    await bob.post(f"/api/invitations/{token}/accept")
    await job.refused(bob, "GET", f"/api/invitations/{token}x")


async def _sessions(job: Job, ada: Person) -> None:
    old = ada.session["refresh_token"]
    fresh = await ada.post("/api/auth/refresh", {"refresh_token": old})
    api_token = (await ada.post("/api/auth/tokens", {"name": "canary"}, **{"idempotency-key": "token once"}))["token"]
    job.secrets |= {
        "access token": fresh["access_token"],
        "refresh token": old,
        "second refresh token": fresh["refresh_token"],
        "API token": api_token,
    }
    for secret in (old, fresh["refresh_token"], api_token):
        await job.refused(ada, "POST", "/api/auth/refresh", json={"refresh_token": secret + "x"})
        await job.refused(ada, "POST", "/api/auth/callback", json={"code": secret, "state": secret})
        await job.refused(ada, "POST", "/api/auth/refresh", json={"refresh_token": [secret]})
        await job.refused(ada, "GET", "/api/teams", headers={"authorization": f"Bearer {secret}x"})


async def _failures(job: Job, ada: Person, bob: Person, place: Json, run: Json) -> None:
    bearer = {"authorization": f"Bearer {job.secrets['run token']}"}
    await job.refused(ada, "POST", "/api/runs/run_w0000000000_none/start", headers=bearer)
    await job.refused(ada, "POST", f"/api/runs/{run['id']}/events", headers=bearer, json={"events": [{"id": 1}]})
    await job.refused(ada, "GET", "/api/teams", headers=bearer)
    await job.refused(ada, "POST", "/api/v1/messages", headers=bearer, json={"model": "no-such-model"})
    await job.refused(ada, "POST", "/api/v1/messages", headers={"x-api-key": "kvk_none"}, json={"model": "demo-1"})
    agent = (await ada.get(f"/api/boards/{place['board_id']}"))["board"]["agents"]["agent_id"]
    signed = {"webhook-id": "x", "webhook-timestamp": "1", "webhook-signature": "v1,x"}
    await job.refused(ada, "POST", f"/api/agents/{agent}/webhook", headers=signed, content=b"{}")
    started = await ada.post("/api/workspaces", {"name": "Never", "import_url": "http://127.0.0.1:9/none.git"})
    await make_card(ada, place["board_id"], "In between")
    task = await finished_task(ada, started["task_id"], within=90)
    assert task["status"] != "succeeded"
    job.answers.append(orjson.dumps(task))
    credentials = "http://somebody:hunter2canary@127.0.0.1:9/none.git"
    await job.refused(ada, "POST", "/api/workspaces", json={"name": "Refused", "import_url": credentials})
    job.secrets["password in an address"] = "hunter2canary"


def _platform_secrets(job: Job) -> None:
    """What the settings and the secret store hold."""
    known = Settings.from_env(job.cloud.settings)
    for item in fields(Settings):
        value = getattr(known, item.name)
        if item.metadata["secret"] and value and item.name != "redis_url":  # an address without a password here
            job.secrets[item.metadata["env"]] = value if isinstance(value, str) else ",".join(value)
    if job.cloud.containers.docker:
        files = next(pair for pair in known.container_urls if pair.startswith("file://"))
        job.secrets["password for imports"] = str(urlsplit(files.partition("=")[2]).password)
    for name in ("AzureWebJobsStorage", "WEB_PUBSUB_CONNECTION_STRING"):
        parts = dict(part.split("=", 1) for part in job.secrets[name].split(";") if "=" in part)
        job.secrets[f"key in {name}"] = parts.get("AccountKey") or parts["AccessKey"]
    for path in files_under(job.cloud.data / "secrets"):
        if not path.name.startswith("."):
            job.secrets[f"secret {path.name}"] = path.read_text()


SHAPED = (
    "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1MTIzIn0.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg",
    "kbp_u0123456789abcdef_0123456789_0123456789abcdefghijklmnopqrstuv",
    f"kvk_{'0af' * 16}",
    f"whsec_{base64.b64encode(bytes(range(32))).decode()}",
    PROVIDER_KEY,
    "ghs_0123456789abcdef",
    "-----BEGIN PRIVATE KEY-----",
    f'{{"code_verifier": "{"v" * 43}"}}',
)


class TestScanner:
    @pytest.mark.parametrize("secret", SHAPED, ids=lambda secret: secret[:6])
    def test_knows_a_secret_that_it_was_not_told_of_by_its_shape(self, secret: str):
        scanner = Scanner({})
        assert scanner.found(f"a line with {secret} in it".encode())
        assert scanner.found(b"a queue's message: " + base64.b64encode(f"{secret} in it".encode()))

    def test_finds_nothing_in_ordinary_text(self):
        assert Scanner({}).found(b"A run token is refused. kbp_..._abc whsec_ sk-ant- code_verifier") == set()


class TestSecrets:
    def test_of_every_kind_were_there_to_be_found(self, job: Job):
        assert {
            *("web pubsub client token", "invite token", "access token", "refresh token", "API token", "run token"),
            *("ENTRA_CLIENT_SECRET", "GITHUB_APP_PRIVATE_KEY", "ANTHROPIC_API_KEY", "secret token-signing-key"),
            *("key in AzureWebJobsStorage", "key in WEB_PUBSUB_CONNECTION_STRING"),
        } <= set(job.secrets)
        assert {name.split("-")[0] for name in job.secrets if name.startswith("secret ")} >= {
            *("secret webhook", "secret llm", "secret token"),
        }

    def test_are_not_in_the_data_folder(self, job: Job):
        looked_at = {path.name for path in files_under(job.cloud.data, *job.private_places())}
        assert {"functions.log", "azurite.log", "valkey.log", "realtime.log", "model.log"} <= looked_at
        tables = combination()["STORE"] == "tables"
        assert ({"__azurite_db_table__.json"} if tables else {"portal.json", "db.json", "usage.json"}) <= looked_at
        assert b'"level": "debug"' in (job.cloud.data / "logs" / "functions.log").read_bytes()
        assert job.scanner.in_files(files_under(job.cloud.data, *job.private_places())) == []

    def test_are_not_in_what_jobs_print(self, job: Job):
        assert b"run failed: The command" in b"".join(job.printed)
        assert [job.scanner.found(output) for output in job.printed if job.scanner.found(output)] == []

    def test_are_not_in_any_git_object(self, job: Job):
        repositories = list((job.cloud.data / "github").rglob("*.git"))
        assert repositories
        for repository in repositories:
            assert job.scanner.in_git(repository) == []

    def test_are_not_in_what_the_api_refuses_with(self, job: Job):
        assert len(job.answers) >= 20
        assert b"could not be read" in b"".join(job.answers)  # what the import printed; its undoing took its log
        assert [job.scanner.found(answer) for answer in job.answers if job.scanner.found(answer)] == []

    def test_are_not_in_events(self, job: Job):
        assert b"agent.completed" in job.events[-1]
        assert [job.scanner.found(event) for event in job.events if job.scanner.found(event)] == []

    def test_are_not_in_command_lines(self, job: Job):
        lines = "\n".join(job.processes).encode()
        assert b"agent_container" in lines
        own = Scanner({name: value for name, value in job.secrets.items() if name != "REDIS_URL"})
        assert own.found(lines) == set()

    @pytest.mark.parametrize("encode", ["plain", "url", "json", "base64", "shifted"])
    def test_that_is_planted_is_found(self, job: Job, encode: str, tmp_path: Path):
        for name, value in job.secrets.items():
            raw = value.encode()
            text = {
                "plain": raw,
                "url": quote(value, safe="").encode(),
                "json": orjson.dumps({"x": value}),
                "base64": base64.b64encode(raw),
                "shifted": base64.b64encode(b"ab" + raw + b"cd"),
            }[encode]
            (tmp_path / "planted").write_bytes(b'some log line {"x": "' + text + b'"}\n' + bytes(100))
            assert f"{tmp_path}/planted: {name}" in job.scanner.in_files([tmp_path / "planted"]), name
