"""The API keeps what its OpenAPI description says, whatever is sent: schemathesis makes up the requests.

KANBAN_FUZZ_EXAMPLES is how many it makes up for each operation beside those that cover the description.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from functions.http import METHODS
from local.cloud import LocalCloud
from shared.adapters.file_secrets import FileSecrets
from shared.adapters.jwt_tokens import JwtTokens
from shared.core import ids
from shared.core.clock import SystemClock
from shared.core.ports import Put
from tests.flows.world import (
    Json,
    Person,
    finished_run,
    join,
    make_team,
    make_workspace,
    run_card,
    started_cloud,
    stored,
)

EXAMPLES = int(os.environ.get("KANBAN_FUZZ_EXAMPLES", "2"))
SEED = "20261125"
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")

RULES = {
    "GET /api/auth/login": "one redirect_uri is allowed",
    "POST /api/boards/{board_id}/cards": "assignees are members",
    "PATCH /api/boards/{board_id}/columns/{column_id}": "a column cannot stand after itself",
    "PATCH /api/cards/{card_id}": "assignees are members",
    "PUT /api/cards/{card_id}": "assignees are members",
    "POST /api/workspaces": "names need a letter, addresses a scheme",
    "POST /api/auth/users/{user_id}/disable": "nobody locks themselves out",
    "GET /api/usage": "days have an order",
    "POST /api/teams/{team_id}/keys": "a key is for what the team has",
    "PATCH /api/teams/{team_id}/keys/{key_id}": "some settings cannot be nothing",
    "POST /api/v1/messages": "the model service has rules of its own",
    "POST /api/v1/messages/count_tokens": "the model service has rules of its own",
}
"""Operations that refuse what their schema allows, and why."""

NEVER_ACCEPTED = {
    "POST /api/auth/callback": "needs a code of Entra's",
    "POST /api/auth/refresh": "needs a refresh token",
    "POST /api/agents/{agent_id}/webhook": "needs a signature",
    "POST /api/github/webhook": "needs a signature",
    "POST /api/auth/users/{user_id}/disable": "needs somebody else",
    "POST /api/v1/messages": "needs a message",
    "POST /api/v1/messages/count_tokens": "needs a message",
    "POST /api/incidents/{incident_id}/replay": "needs an incident",
    "DELETE /api/incidents/{incident_id}": "needs an incident",
    "GET /api/invitations/{token}": "needs an invitation",
    "POST /api/invitations/{token}/accept": "needs an invitation",
    "DELETE /api/auth/tokens/{token_id}": "needs a token of one's own",
    "PATCH /api/teams/{team_id}/members/{user_id}": "the only owner stays owner",
    "DELETE /api/teams/{team_id}/members/{user_id}": "the only owner stays",
    "DELETE /api/teams/{team_id}/invitations/{invitation_id}": "needs an invitation",
    "POST /api/tasks/{task_id}/cancel": "the task has succeeded",
    "POST /api/tasks/{task_id}/retry": "the task has succeeded",
    "POST /api/runs/{run_id}/retry": "its card is in review",
    "POST /api/runs/{run_id}/start": "another container has it",
}
"""Operations that this world lets nobody succeed with; all others must have been carried out."""


@dataclass(frozen=True)
class Place:
    """A cloud with one of everything that a path can name."""

    cloud: LocalCloud
    description: Json
    names: dict[str, str]
    tokens: dict[str, str]
    """Authorization by whose it is."""
    doomed: dict[str, str]
    """What may be deleted, by the operation that does."""
    runs: dict[str, tuple[str, str]]
    """A run under way and its token: one for all that containers do, one to be completed."""

    @property
    def operations(self) -> set[str]:
        paths = self.description["paths"]
        return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


@pytest.fixture(scope="module")
async def place(cloud_parts: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Place]:
    async with (
        started_cloud(tmp_path_factory.mktemp("fuzzed")) as cloud,
        Person.signed_in(cloud, "grace@contoso.test") as grace,
        Person.signed_in(cloud, "bob@contoso.test") as bob,
    ):
        yield await _furnished(cloud, grace, bob)


async def _furnished(cloud: LocalCloud, grace: Person, bob: Person) -> Place:
    workspace = await make_workspace(grace, "Fuzzed")
    team_id, board_id = workspace["team_id"], workspace["board_id"]
    await join(grace, team_id, bob, "viewer")
    card, run = await run_card(grace, board_id, "Worked on", "Create `a.txt`:\n\n```\na\n```\n")
    assert (await finished_run(grace, run["id"]))["status"] == "succeeded"
    names = {"team_id": team_id, "workspace_id": workspace["id"], "board_id": board_id, "card_id": card["id"]}
    names |= {"run_id": run["id"], "task_id": workspace["task_id"], "user_id": grace.id, "column_id": "done"}
    names["model_id"] = "demo-1"
    names["key_id"] = (await grace.post(f"/api/teams/{team_id}/keys", {"name": "Fuzzed"}))["id"]
    names["agent_id"] = (await grace.get(f"/api/boards/{board_id}"))["board"]["agents"]["agent_id"]
    key = await FileSecrets(cloud.data).get(f"llm-key-{team_id}")
    tokens = {"nobody": "", "model": f"Bearer {key}"}
    for name, person in (("owner", grace), ("viewer", bob)):
        tokens[name] = f"Bearer {(await person.post('/api/auth/tokens', {'name': name}))['token']}"
    runs = {name: await _under_way(cloud, workspace["id"], run["id"]) for name in ("all", "complete")}
    doomed = {
        "DELETE /api/teams/{team_id}": (await make_team(grace, "Doomed"))["id"],
        "DELETE /api/teams/{team_id}/keys/{key_id}": (await grace.post(f"/api/teams/{team_id}/keys", {"name": "X"}))[
            "id"
        ],
        "PUT /api/teams/{team_id}/limits": (await make_team(grace, "Limited"))["id"],
        "DELETE /api/workspaces/{workspace_id}": (await make_workspace(grace, "Doomed"))["id"],
    }
    return Place(cloud, await grace.get("/api/openapi.json"), names, tokens, doomed, runs)


async def _under_way(cloud: LocalCloud, scope: str, finished: str) -> tuple[str, str]:
    """A run that nobody follows: it stays as it is while requests come."""
    run_id = ids.scoped("run", scope)
    async with stored(cloud) as documents:
        kept = await documents.get(f"boards/{scope}", f"run/{finished}")
        assert kept is not None
        changes = {"id": run_id, "status": "running", "finished_at": None, "result": None, "container": "one"}
        await documents.commit(f"boards/{scope}", [Put(f"run/{run_id}", kept.body | changes)])
    tokens = JwtTokens(FileSecrets(cloud.data), cloud.api_url, SystemClock())
    return run_id, f"Bearer {await tokens.sign('run', run_id, {}, 3600)}"


def configuration(place: Place, who: str) -> str:
    """Real names in the paths; routes for containers and models get their own credentials, unless nobody calls."""
    accepted = ["2xx", "3xx", 401, 403, 404, 409, 412, 429]
    lines = [
        "[parameters]",
        *(f"{_text(f'path.{name}')} = {_text(value)}" for name, value in place.names.items()),
        "[checks]",
        f"positive_data_acceptance.expected-statuses = {accepted}",
        "unsupported_method.enabled = false",  # TRACE never gets past the host; see TestMethod
    ]
    for operation in RULES:
        lines += ["[[operations]]", f"include-name = {_text(operation)}", "[operations.checks]"]
        lines += [f"positive_data_acceptance.expected-statuses = {[*accepted, 400, 422]}"]
    for operation, doomed in place.doomed.items():
        name = operation.rpartition("{")[2].partition("}")[0]
        lines += ["[[operations]]", f"include-name = {_text(operation)}"]
        lines += [f'parameters = {{ "path.{name}" = {_text(doomed)} }}']
    if who != "nobody":
        lines += _operation("^POST /api/runs/.*/(start|events|git-credentials|comments)$", *place.runs["all"])
        lines += _operation("^POST /api/runs/.*/complete$", *place.runs["complete"])
        lines += _operation("^[A-Z]+ /api/v1/", "", place.tokens["model"])
    return "\n".join(lines)


def _operation(names: str, run_id: str, token: str) -> list[str]:
    run = [f'parameters = {{ "path.run_id" = {_text(run_id)} }}'] if run_id else []
    headers = f"headers = {{ Authorization = {_text(token)} }}"
    return ["[[operations]]", f"include-name-regex = {_text(names)}", headers, *run]


def _text(value: str) -> str:
    return json.dumps(value)


async def fuzzed(place: Place, who: str, phases: str, folder: Path) -> tuple[int, Json, str]:
    """Exit code, report, and what schemathesis printed."""
    (folder / "schemathesis.toml").write_text(configuration(place, who))
    options = ["--phases", phases, "--max-examples", str(EXAMPLES), "--seed", SEED, "--workers", "2"]
    options += ["--generation-database", "none", "--continue-on-failure", "--no-color", "--warnings", "off"]
    options += ["--request-timeout", "60", "--report", "json", "--report-json-path", "report.json"]
    options += ["--suppress-health-check", "all"]
    if place.tokens[who]:
        options += ["--header", f"Authorization: {place.tokens[who]}"]
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "NO_PROXY": "*"}
    process = await asyncio.create_subprocess_exec(
        SCHEMATHESIS, "run", f"{place.cloud.api_url}/api/openapi.json", *options,
        cwd=folder, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    printed = (await process.communicate())[0].decode()
    assert (folder / "report.json").exists(), printed[-3000:]
    return process.returncode or 0, json.loads((folder / "report.json").read_text()), printed


class TestDescription:
    @pytest.mark.timeout(3600)
    @pytest.mark.parametrize(
        ("who", "phases"), [("owner", "examples,coverage,fuzzing"), ("viewer", "fuzzing"), ("nobody", "fuzzing")]
    )
    async def test_is_kept_by_every_operation(
        self, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], who: str, phases: str
    ):
        code, report, printed = await fuzzed(place, who, phases, tmp_path)
        operations, cases = report["operations"], report["test_cases"]
        with capsys.disabled():
            seconds = round(report["running_time"])
            print(f"\nschemathesis as {who}: {operations['tested']} of {len(place.operations)} operations, "
                  f"{cases['generated']} cases, {cases['unique_failures']} failures, {seconds} s")  # fmt: skip
        assert code == 0, printed[-20_000:]
        assert (report["failures"], report["errors"], report["complete"]) == ([], [], True)
        assert operations["total"] == operations["tested"] == len(place.operations)
        assert cases["generated"] >= len(place.operations) * (10 if who == "owner" else 1)
        if who == "owner":
            assert unsuccessful(place, report) <= NEVER_ACCEPTED.keys()

    async def test_its_place_was_there_to_the_end(self, place: Place):
        """What an operation destroys has to be another thing than the one that all others need."""
        async with stored(place.cloud) as documents:
            assert await documents.get(f"portal/team/{place.names['team_id']}", "team")
            assert await documents.get(f"boards/{place.names['workspace_id']}", "board")


def unsuccessful(place: Place, report: Json) -> set[str]:
    accepted = {
        name for name, phases in report["valid_rates"].items() if any(phase["accepted"] for phase in phases.values())
    }
    return place.operations - accepted


class TestMethod:
    async def test_that_is_not_described_is_405_and_told_which_are(self, place: Place):
        async with Person(place.cloud) as somebody:
            for path, described in place.description["paths"].items():
                address = path.format(**{"token": "x", "invitation_id": "x", "incident_id": "x"} | _named(place))
                declared = {method.upper() for method in described}
                for method in set(METHODS) - declared:
                    answer = await somebody.request(method, address)
                    if path.startswith("/api/v1/") and method not in ("HEAD", "OPTIONS"):
                        assert answer.status_code == 404, (method, path)  # in the form of the Anthropic API
                        continue
                    assert answer.status_code == 405, (method, path, answer.status_code)
                    assert answer.headers["allow"] == ", ".join(sorted(declared)), (method, path)

    async def test_that_the_host_does_not_know_reaches_nothing(self, place: Place):
        async with Person(place.cloud) as somebody:
            for path in place.description["paths"]:
                answer = await somebody.request("TRACE", path.replace("{", "").replace("}", ""))
                assert answer.status_code in (404, 405), path
                assert not answer.content


def _named(place: Place) -> dict[str, Any]:
    return place.names | {"token_id": "x"}
