"""Nobody reaches into another team: every route of the OpenAPI description, with every kind of credential."""

import base64
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import jwt
import orjson
import pytest

from local.cloud import LocalCloud
from shared.adapters.file_secrets import FileSecrets
from shared.adapters.jwt_tokens import JwtTokens
from shared.core.clock import ManualClock, SystemClock
from shared.core.ids import digest
from tests.flows.world import (
    Json,
    Person,
    finished_run,
    join,
    make_card,
    make_team,
    make_workspace,
    run_card,
)

MARK = "Zanzibar"
"""Stands in whatever Ada's workspace holds, and in nothing that others may read."""
DEMO_CARD = f"Create `{MARK}.txt`:\n\n```\n{MARK}\n```\n"

ANYBODY = {
    "GET /api/auth/login",
    "POST /api/auth/callback",
    "POST /api/auth/refresh",
    "POST /api/auth/logout",
    "GET /api/auth/jwks",
    "GET /api/health",
    "POST /api/agents/{agent_id}/webhook",  # signed: see test_webhooks.py
}
ONES_OWN = {
    "GET /api/auth/me",
    "GET /api/auth/tokens",
    "POST /api/auth/tokens",
    "GET /api/teams",
    "POST /api/teams",
    "GET /api/workspaces",
    "POST /api/workspaces",
    "GET /api/tasks",
    "GET /api/realtime/negotiate",
}
"""They name nobody's thing: they answer with the caller's own."""
BY_LINK = {"GET /api/invitations/{token}", "POST /api/invitations/{token}/accept"}
"""Whoever holds the link may follow it."""
CONTAINER = {
    "POST /api/runs/{run_id}/start",
    "POST /api/runs/{run_id}/events",
    "POST /api/runs/{run_id}/git-credentials",
    "POST /api/runs/{run_id}/comments",
    "POST /api/runs/{run_id}/complete",
}
GATEWAY = {
    "POST /api/v1/messages",
    "POST /api/v1/messages/count_tokens",
    "GET /api/v1/models",
    "GET /api/v1/models/{model_id}",
}
PERSONS_OWN_THING = {"DELETE /api/auth/tokens/{token_id}"}
PLATFORM_ADMIN = {
    "POST /api/auth/users/{user_id}/disable",
    "POST /api/auth/users/{user_id}/enable",
    "GET /api/incidents",
    "POST /api/incidents/{incident_id}/replay",
}

BODIES: dict[str, Any] = {
    "POST /api/auth/tokens": {"name": "Mine"},
    "POST /api/teams": {"name": "Mine"},
    "POST /api/workspaces": {"name": "Mine"},
    "PATCH /api/teams/{team_id}/members/{user_id}": {"role": "viewer"},
    "POST /api/teams/{team_id}/invitations": {"role": "viewer"},
    "POST /api/boards/{board_id}/columns": {"name": "Mine"},
    "PATCH /api/boards/{board_id}/columns/{column_id}": {"name": "Mine"},
    "POST /api/boards/{board_id}/cards": {"title": "Mine"},
    "PATCH /api/cards/{card_id}": {"title": "Mine"},
    "PUT /api/cards/{card_id}": {"title": "Mine"},
    "POST /api/cards/{card_id}/move": {"column_id": "ready"},
    "POST /api/cards/{card_id}/comments": {"body": "Mine"},
    "POST /api/runs/{run_id}/events": {"events": [{"id": "1", "time": "", "kind": "text", "text": "Mine"}]},
    "POST /api/runs/{run_id}/comments": {"body": "Mine"},
    "POST /api/runs/{run_id}/complete": {"outcome": "failed", "reason": "Mine"},
    "POST /api/v1/messages": {"model": "demo-1", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]},
    "POST /api/v1/messages/count_tokens": {"model": "demo-1", "messages": [{"role": "user", "content": "x"}]},
}


@dataclass
class Owned:
    """A team with one of everything, for the names in paths, and a second card whose run is over."""

    owner: Person
    team: Json
    ids: dict[str, str]
    run_token: str
    llm_key: str
    hidden: list[str] = field(default_factory=list)

    async def snapshot(self) -> bytes:
        """All that a person of another team could have changed."""
        paths = (
            f"/api/boards/{self.team['board_id']}",
            f"/api/boards/{self.team['board_id']}/events",
            f"/api/teams/{self.team['id']}",
            f"/api/teams/{self.team['id']}/members",
            f"/api/teams/{self.team['id']}/invitations",
            f"/api/workspaces/{self.team['workspace_id']}",
            f"/api/cards/{self.ids['card_id']}",
            f"/api/cards/{self.ids['card_id']}/comments",
            f"/api/runs/{self.ids['run_id']}",
            f"/api/tasks/{self.ids['task_id']}",
            "/api/auth/tokens",
        )
        return orjson.dumps([await self.owner.get(path) for path in paths])


@pytest.fixture(scope="module")
async def owned(ada: Person, cloud: LocalCloud) -> Owned:
    workspace = await make_workspace(ada, f"{MARK} Workspace")
    team = await ada.get(f"/api/teams/{workspace['team_id']}")
    card, run = await run_card(ada, team["board_id"], MARK, DEMO_CARD)
    assert (await finished_run(ada, run["id"]))["status"] == "succeeded"
    await ada.post(f"/api/cards/{card['id']}/comments", {"body": MARK})
    column = await ada.post(f"/api/boards/{team['board_id']}/columns", {"name": MARK})
    invitation = await ada.post(f"/api/teams/{team['id']}/invitations", {"role": "viewer"})
    token = await ada.post("/api/auth/tokens", {"name": MARK})
    ids = {
        "team_id": team["id"],
        "workspace_id": workspace["id"],
        "board_id": team["board_id"],
        "column_id": column["id"],
        "card_id": card["id"],
        "run_id": run["id"],
        "task_id": workspace["task_id"],
        "user_id": ada.id,
        "invitation_id": invitation["id"],
        "token_id": token["id"],
        "token": invitation["url"].rpartition("/")[2],
        "agent_id": (await ada.get(f"/api/boards/{team['board_id']}"))["board"]["agents"]["agent_id"],
        "incident_id": "0" * 20,
        "model_id": "demo-1",
    }
    key = await FileSecrets(cloud.data).get(f"llm-key-{team['id']}")
    assert key
    hidden = [ids[name] for name in ("team_id", "board_id", "card_id", "run_id", "task_id", "invitation_id")]
    run_token = await signed(cloud, "run", run["id"], team_id=team["id"], card_id=card["id"], key_hash="0", cap=1)
    return Owned(ada, team, ids, run_token, key, hidden)


@pytest.fixture(scope="module")
async def eve(bob: Person) -> Person:
    """Owner of a team of their own, and of an API token: a stranger to Ada's."""
    await make_team(bob, "Strangers")
    return bob


async def signed(cloud: LocalCloud, audience: str, subject: str, age: timedelta = timedelta(), **claims: Any) -> str:
    """A token with the platform's own signature."""
    clock = ManualClock(SystemClock().now() - age)
    return await JwtTokens(FileSecrets(cloud.data), cloud.api_url, clock).sign(audience, subject, claims, 900)


async def routes(person: Person) -> list[str]:
    """`METHOD /path` of everything in the API's own description."""
    description = await person.get("/api/openapi.json")
    return [f"{method.upper()} {path}" for path, methods in description["paths"].items() for method in methods]


def is_of_a_team(route: str) -> bool:
    return route not in ANYBODY | ONES_OWN | BY_LINK | CONTAINER | GATEWAY | PERSONS_OWN_THING | PLATFORM_ADMIN


async def ask(cloud: LocalCloud, route: str, ids: Json, authorization: str | None = None) -> httpx.Response:
    """The bare answer to a valid request for these ids."""
    method, template = route.split(" ")
    headers = {"authorization": authorization.encode("latin-1")} if authorization else {}
    async with httpx.AsyncClient(base_url=cloud.api_url, timeout=30, trust_env=False) as client:
        return await client.request(method, template.format(**ids), json=BODIES.get(route, {}), headers=headers)


def bearer(person: Person) -> str:
    return f"Bearer {person.session['access_token']}"


class TestEveryRoute:
    async def test_is_of_one_kind_and_its_parameters_are_known(self, owned: Owned):
        """A new route is judged as a team's unless it is named above; a new parameter needs an example."""
        found = await routes(owned.owner)
        named = [ANYBODY, ONES_OWN, BY_LINK, CONTAINER, GATEWAY, PERSONS_OWN_THING, PLATFORM_ADMIN]
        assert not set().union(*named) - set(found), "named here and gone from the API"
        assert sum(map(len, named)) == len(set().union(*named))
        parameters = {name for route in found for name in re.findall(r"\{(\w+)\}", route)}
        assert parameters <= owned.ids.keys(), f"give examples of {parameters - owned.ids.keys()}"

    async def test_asks_who_is_there(self, owned: Owned, cloud: LocalCloud):
        wrong: list[str] = []
        for route in set(await routes(owned.owner)) - ANYBODY:
            answer = await ask(cloud, route, owned.ids)
            if answer.status_code != 401 or MARK in answer.text:
                wrong.append(f"{route} -> {answer.status_code} {answer.text[:120]}")
        assert not wrong, "\n".join(wrong)


class TestStranger:
    @pytest.mark.parametrize("credential", ["session", "api token"])
    async def test_finds_nothing_of_another_team(self, owned: Owned, eve: Person, cloud: LocalCloud, credential: str):
        authorization = bearer(eve)
        if credential == "api token":
            authorization = "Bearer " + (await eve.post("/api/auth/tokens", {"name": "All"}))["token"]
        before, wrong = await owned.snapshot(), list[str]()
        for route in await routes(eve):
            if is_of_a_team(route) or route in PERSONS_OWN_THING | PLATFORM_ADMIN:
                answer = await ask(cloud, route, owned.ids, authorization)
                if answer.status_code != 404 or MARK in answer.text:
                    wrong.append(f"{route} -> {answer.status_code} {answer.text[:120]}")
        assert not wrong, "\n".join(wrong)
        assert await owned.snapshot() == before

    async def test_is_shown_their_own_things_only(self, owned: Owned, eve: Person):
        for route in ONES_OWN:
            if route.startswith("GET"):
                shown = orjson.dumps(await eve.get(route.split(" ")[1])).decode()
                assert not [text for text in (MARK, *owned.hidden) if text in shown], route

    async def test_joins_no_group_of_another_team(self, owned: Owned, eve: Person):
        connection = await eve.get("/api/realtime/negotiate")
        claims = jwt.decode(connection["url"].rpartition("access_token=")[2], options={"verify_signature": False})
        assert f"team.{owned.team['id']}" not in [*connection["groups"], *claims["webpubsub.group"]]
        assert claims["webpubsub.group"] == connection["groups"]
        assert not claims.get("role")

    async def test_gets_nothing_of_others_into_their_own_team(self, owned: Owned, eve: Person):
        mine = next(team for team in (await eve.get("/api/teams"))["items"] if team["name"] == "Strangers")
        card = await make_card(eve, mine["board_id"], "Mine")
        before, ids = await owned.snapshot(), owned.ids
        for method, path, body in (
            ("PATCH", f"/api/teams/{mine['id']}/members/{ids['user_id']}", {"role": "viewer"}),
            ("DELETE", f"/api/teams/{mine['id']}/members/{ids['user_id']}", None),
            ("DELETE", f"/api/teams/{mine['id']}/invitations/{ids['invitation_id']}", None),
            ("PATCH", f"/api/boards/{mine['board_id']}/columns/{ids['column_id']}", {"name": "Mine"}),
            ("DELETE", f"/api/boards/{mine['board_id']}/columns/{ids['column_id']}", None),
            ("POST", f"/api/boards/{mine['board_id']}/cards", {"title": "x", "column_id": ids["column_id"]}),
            ("POST", f"/api/cards/{card['id']}/move", {"column_id": ids["column_id"]}),
        ):
            assert (await eve.refused(method, path, body))["status"] == 404, path
        assigned = await eve.refused("PATCH", f"/api/cards/{card['id']}", {"assignee_id": ids["user_id"]})
        assert assigned["status"] == 422
        moved = await eve.post(f"/api/cards/{card['id']}/move", {"column_id": "ready", "before_id": ids["card_id"]})
        assert MARK not in str(moved)
        assert await owned.snapshot() == before

    async def test_is_not_given_another_persons_answer_for_the_same_key(self, owned: Owned, eve: Person):
        path, key = f"/api/boards/{owned.team['board_id']}/cards", {"idempotency-key": "the-same"}
        await owned.owner.post(path, {"title": MARK}, **key)
        assert (await eve.refused("POST", path, {"title": MARK}, **key))["status"] == 404


class TestViewer:
    async def test_reads_everything_and_changes_nothing(self, owned: Owned, grace: Person, cloud: LocalCloud):
        await join(owned.owner, owned.team["id"], grace, "viewer")
        before, wrong = await owned.snapshot(), list[str]()
        for route in filter(is_of_a_team, await routes(grace)):
            answer = await ask(cloud, route, owned.ids, bearer(grace))
            reads = route.startswith("GET") and route != "GET /api/teams/{team_id}/invitations"
            if answer.status_code != (200 if reads else 403):
                wrong.append(f"{route} -> {answer.status_code} {answer.text[:120]}")
        assert await owned.snapshot() == before
        await owned.owner.delete(f"/api/teams/{owned.team['id']}/members/{grace.id}")
        # A trashed card is looked for before its board: a viewer may learn that there is none.
        assert not [line for line in wrong if "/restore" not in line], "\n".join(wrong)


@pytest.fixture(scope="module")
async def forged(owned: Owned, cloud: LocalCloud) -> dict[str, str]:
    session, user = owned.owner.session["access_token"], owned.owner.id
    head, payload, signature = session.split(".")
    public = (await owned.owner.get("/api/auth/jwks"))["keys"][0]
    claims = jwt.decode(session, options={"verify_signature": False})
    no_algorithm = base64.urlsafe_b64encode(orjson.dumps({"alg": "none", "typ": "JWT", "kid": public["kid"]}))
    return {
        "run token": owned.run_token,
        "model key": owned.llm_key,
        "refresh token": owned.owner.session["refresh_token"],
        "expired": await signed(cloud, "api", user, timedelta(hours=1)),
        "from the future": await signed(cloud, "api", user, -timedelta(hours=1)),
        "nobody's": await signed(cloud, "api", "u0000000000000000"),
        "for another audience": await signed(cloud, "web", user),
        "unsigned": f"{no_algorithm.decode().rstrip('=')}.{payload}.",
        "signature cut off": f"{head}.{payload}.",
        "another signature": f"{head}.{payload}.{signature[:-4]}AAAA",
        "signed with the public key": jwt.encode(claims, public["x"], "HS256", headers={"kid": public["kid"]}),
        "of another issuer": await JwtTokens(FileSecrets(cloud.data), "https://elsewhere.invalid", SystemClock()).sign(
            "api", user, {}, 900
        ),
        "made-up api token": f"kbp_{user}_0000000000_{'0' * 40}",
        "not a token": "x.y.z",
        "not text": "\u00e9",
    }


class TestCredential:
    """Of the wrong kind, or not valid: refused everywhere alike."""

    async def test_opens_no_route_for_people(self, owned: Owned, cloud: LocalCloud, forged: dict[str, str]):
        before, wrong = await owned.snapshot(), list[str]()
        for route in set(await routes(owned.owner)) - ANYBODY - CONTAINER - GATEWAY:
            for name, token in forged.items():
                answer = await ask(cloud, route, owned.ids, f"Bearer {token}")
                if answer.status_code != 401 or MARK in answer.text:
                    wrong.append(f"{name}: {route} -> {answer.status_code} {answer.text[:120]}")
        assert not wrong, "\n".join(wrong)
        assert await owned.snapshot() == before

    async def test_of_a_person_opens_no_route_for_containers_or_models(
        self, owned: Owned, cloud: LocalCloud, forged: dict[str, str]
    ):
        tokens = [bearer(owned.owner)] + [f"Bearer {token}" for name, token in forged.items() if name != "run token"]
        for route in CONTAINER | GATEWAY:
            for token in tokens:
                if owned.llm_key in token and route in GATEWAY:
                    continue
                answer = await ask(cloud, route, owned.ids, token)
                assert answer.status_code == 401, f"{route} {token[:30]} -> {answer.status_code}"


class TestRunToken:
    async def test_is_good_for_its_own_run_only(self, owned: Owned, cloud: LocalCloud):
        other = await signed(cloud, "run", f"{owned.ids['run_id'][:-4]}zzzz", team_id=owned.team["id"])
        before = await owned.snapshot()
        for route in CONTAINER:
            answer = await ask(cloud, route, owned.ids, f"Bearer {other}")
            assert answer.status_code == 404, f"{route} -> {answer.status_code}"
        assert await owned.snapshot() == before

    async def test_changes_nothing_once_its_run_is_over(self, owned: Owned, cloud: LocalCloud):
        before = await owned.snapshot()
        for route in CONTAINER:
            answer = await ask(cloud, route, owned.ids, f"Bearer {owned.run_token}")
            told = answer.json()
            if route.endswith("/events"):
                assert (answer.status_code, told) == (200, {"stop": True, "comments": []})
            elif route.endswith("/complete"):
                assert (answer.status_code, told["status"]) == (200, "succeeded")
            else:
                assert answer.status_code == 409, f"{route} -> {answer.status_code} {answer.text[:120]}"
        assert await owned.snapshot() == before

    async def test_asks_no_model_once_its_run_is_over(self, owned: Owned, cloud: LocalCloud):
        """What was left of the run's money stays unspent, whoever kept the token."""
        claims: Json = {"team_id": owned.team["id"], "card_id": owned.ids["card_id"], "key_hash": digest(owned.llm_key)}
        token = await signed(cloud, "run", owned.ids["run_id"], cap=5_000_000, **claims)
        for route in GATEWAY:
            answer = await ask(cloud, route, owned.ids, f"Bearer {token}")
            assert answer.status_code == 401, f"{route} -> {answer.status_code} {answer.text[:120]}"
