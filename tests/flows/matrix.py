"""Two teams with one of everything, and whoever may call: each case is judged by its line in permissions.py."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import httpx
import orjson

from local.cloud import LocalCloud
from shared.adapters.file_secrets import FileSecrets
from shared.adapters.jwt_tokens import JwtTokens
from shared.core import ids
from shared.core.clock import ManualClock, SystemClock, iso
from shared.core.incidents import PARTITION, Incident
from shared.core.permissions import Role
from shared.core.ports import ANY, Put
from tests.flows.permissions import OPERATIONS, VARIANTS, Caller, Rule, Target
from tests.flows.queues import Queues
from tests.flows.world import (
    TASK_OVER,
    Json,
    Person,
    finished_run,
    join,
    make_card,
    make_workspace,
    run_card,
    stored,
)
from tests.waiting import until

MARK = "Zanzibar"
"""Stands in whatever the two teams hold, and in nothing that others may read."""
DEMO_CARD = f"Create `{MARK}.txt`:\n\n```\n{MARK}\n```\n"
AT_ONCE = 12


@dataclass(frozen=True)
class Place(Target):
    """A team with one of everything, for the names in paths."""

    cloud: LocalCloud
    person: Person
    workspace: Json
    names: dict[str, str]
    run_tokens: dict[str, str]
    """By run: one under way, one that is over."""
    key: str

    @property
    def hidden(self) -> list[str]:
        named = ("team_id", "board_id", "card_id", "run_id", "task_id", "invitation_id")
        return [MARK, *(self.names[name] for name in named)]

    async def at_rest(self) -> bytes:
        """The snapshot, once what earlier calls set going has ended."""
        before = b""
        while (now := await self.snapshot()) != before:
            before = now
            await asyncio.sleep(1)
            async with Queues.of(self.cloud) as queues:
                await queues.emptied("usage")
        return now

    async def snapshot(self) -> bytes:
        """All that a person of another team could have changed."""
        team, board = f"/api/teams/{self.team}", f"/api/boards/{self.names['board_id']}"
        card, run = f"/api/cards/{self.names['card_id']}", f"/api/runs/{self.live_run}"
        paths = (board, f"{board}/events", team, f"{team}/members", f"{team}/invitations", f"{team}/usage", card, run)
        paths += (f"{card}/comments", f"/api/workspaces/{self.workspace['id']}", f"/api/tasks/{self.names['task_id']}")
        return orjson.dumps([await self.person.get(path) for path in (*paths, "/api/auth/tokens")])


async def furnished(cloud: LocalCloud, person: Person, name: str) -> Place:
    workspace = await make_workspace(person, f"{MARK} {name}")
    team_id, board_id = workspace["team_id"], workspace["board_id"]
    card, run = await run_card(person, board_id, MARK, DEMO_CARD)
    assert (await finished_run(person, run["id"]))["status"] == "succeeded"
    await person.post(f"/api/cards/{card['id']}/comments", {"body": MARK})
    column = await person.post(f"/api/boards/{board_id}/columns", {"name": MARK})
    invitation = await person.post(f"/api/teams/{team_id}/invitations", {"role": "viewer"})
    token = await person.post("/api/auth/tokens", {"name": MARK})
    key = await FileSecrets(cloud.data).get(f"llm-key-{team_id}")
    assert key
    live = ids.scoped("run", workspace["id"])
    await under_way(cloud, workspace["id"], run["id"], live)
    claims = {"team_id": team_id, "card_id": card["id"], "key_hash": ids.digest(key), "cap": 5_000_000}
    return Place(
        team=team_id,
        owner=person.id,
        live_run=live,
        cloud=cloud,
        person=person,
        workspace=workspace,
        names={
            "team_id": team_id,
            "workspace_id": workspace["id"],
            "board_id": board_id,
            "column_id": column["id"],
            "card_id": card["id"],
            "run_id": run["id"],
            "task_id": workspace["task_id"],
            "user_id": person.id,
            "invitation_id": invitation["id"],
            "token_id": token["id"],
            "key_id": (await person.get(f"/api/teams/{team_id}/keys"))["items"][0]["id"],
            "token": invitation["url"].rpartition("/")[2],
            "agent_id": (await person.get(f"/api/boards/{board_id}"))["board"]["agents"]["agent_id"],
            "incident_id": await given_up(cloud),
            "model_id": "demo-1",
        },
        run_tokens={each: await signed(cloud, "run", each, **claims) for each in (live, run["id"])},
        key=key,
    )


async def under_way(cloud: LocalCloud, scope: str, finished: str, run_id: str) -> None:
    """A run that nobody follows: it stays as it is until it is told to stop."""
    async with stored(cloud) as documents:
        kept = await documents.get(f"boards/{scope}", f"run/{finished}")
        assert kept is not None
        changes = {"id": run_id, "status": "running", "finished_at": None, "result": None, "container": "one"}
        await documents.commit(f"boards/{scope}", [Put(f"run/{run_id}", kept.body | changes, ANY)])


async def another(cloud: LocalCloud, place: Place, kind: str) -> dict[str, str]:
    """A team or a workspace with nothing in it, and with the members that the place has: a copy of its records."""
    team_id, workspace_id = ids.new_team(), ids.new_workspace() if kind == "workspace" else None
    task_id, scope = ids.new_task(workspace_id or team_id), workspace_id or team_id
    changes = {"id": team_id, "workspace_id": workspace_id, "scope": scope, "task_id": task_id}
    async with stored(cloud) as documents:
        task = await documents.get(f"tasks/{place.names['task_id']}", "task")
        team = await documents.get(f"portal/team/{place.team}", "team")
        kept = await documents.get(f"portal/workspace/{place.workspace['id']}", "workspace")
        assert task
        assert team
        assert kept
        members = await documents.query(f"portal/team/{place.team}", "member/")
        await documents.commit(f"tasks/{task_id}", [Put("task", task.body | {"id": task_id, "team_id": team_id})])
        if workspace_id:
            own = {"id": workspace_id, "slug": workspace_id, "team_id": team_id, "repository": None}
            await documents.commit(f"portal/workspace/{workspace_id}", [Put("workspace", kept.body | own)])
        puts = [Put("team", team.body | changes), *(Put(member.id, member.body) for member in members)]
        await documents.commit(f"portal/team/{team_id}", puts)
    return {"team_id": team_id, "workspace_id": workspace_id or ""}


async def given_up(cloud: LocalCloud) -> str:
    """An incident of a message that nobody can read."""
    message = {"queue": "usage", "body": {"raw": "?"}, "reason": "x", "at": iso(SystemClock().now())}
    incident = Incident(id=ids.sortable(), **message)
    async with stored(cloud) as documents:
        await documents.commit(PARTITION, [Put(f"incident/{incident.id}", incident.json_body())])
    return incident.id


async def signed(cloud: LocalCloud, audience: str, subject: str, age: timedelta = timedelta(), **claims: Any) -> str:
    """A token with the platform's own signature."""
    clock = ManualClock(SystemClock().now() - age)
    return await JwtTokens(FileSecrets(cloud.data), cloud.api_url, clock).sign(audience, subject, claims, 900)


@dataclass
class Matrix:
    """Ada's team and Bob's; Bob has in turn no role and every role in Ada's; Grace is platform admin, in neither."""

    cloud: LocalCloud
    ada: Place
    bob: Place
    grace: Person
    http: httpx.AsyncClient
    cases: int = 0
    wrong: list[str] = field(default_factory=list)
    deletions: list[tuple[Caller, str]] = field(default_factory=list)
    """Who began which, by the path of its task."""

    @property
    def places(self) -> tuple[Place, Place]:
        return self.ada, self.bob

    async def judge(self, callers: Iterable[Caller]) -> None:
        """Every operation and both teams for each caller: refusals at once, then in turn what is allowed."""
        cases = [case for caller in callers for case in self._cases(caller)]
        changes = [case[3] not in (401, 403, 404) and not case[1].startswith("GET") for case in cases]
        await self._at_once([case for case, changing in zip(cases, changes, strict=True) if not changing])
        for case in [case for case, changing in zip(cases, changes, strict=True) if changing]:
            await self._case(*case)
        await self._deleted()
        wrong, self.wrong = self.wrong, []
        assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong)

    async def refusals(self, callers: Iterable[Caller]) -> None:
        """The same for callers who may change nothing; that nothing has changed is checked."""
        before = [await place.at_rest() for place in self.places]
        await self.judge(callers)
        assert [await place.snapshot() for place in self.places] == before

    def _cases(self, caller: Caller) -> list[tuple[Caller, str, Rule, int, Place]]:
        rules = [*OPERATIONS.items(), *VARIANTS]
        return [
            (caller, operation, rule, rule.expected(caller, place), place)
            for operation, rule in rules
            for place in (self.places if rule.about_a_team else self.places[:1])
        ]

    async def _at_once(self, cases: list[tuple[Caller, str, Rule, int, Place]]) -> None:
        few = asyncio.Semaphore(AT_ONCE)

        async def one(case: tuple[Caller, str, Rule, int, Place]) -> None:
            async with few:
                await self._case(*case)

        await asyncio.gather(*map(one, cases))

    async def _case(self, caller: Caller, operation: str, rule: Rule, expected: int, place: Place) -> None:
        method, template = operation.split(" ")
        names = place.names | ({"run_id": place.live_run} if rule.kind == "run" else {}) | rule.names
        if rule.fresh and expected == rule.ok:
            names = names | await self._fresh(rule.fresh, caller, place)
        headers = {"authorization": caller.authorization.encode("latin-1")} if caller.authorization else {}
        body = {} if rule.body is None and method in ("POST", "PUT", "PATCH") else rule.body
        answer = await self.http.request(method, template.format(**names), json=body, headers=headers)
        if answer.status_code == 202 and "location" in answer.headers:
            self.deletions.append((caller, answer.headers["location"]))
        self.cases += 1
        told = MARK in answer.text and expected in (401, 403, 404)
        if answer.status_code != expected or told:
            whose = "Ada's" if place is self.ada else "Bob's"
            said = f"{answer.status_code}, not {expected}: {answer.text[:150]}"
            self.wrong.append(f"{caller.name}: {operation} of {whose} team -> {said}")

    async def _deleted(self) -> None:
        """What callers were allowed to delete is gone."""
        for caller, path in self.deletions:

            async def over(caller: Caller = caller, path: str = path) -> Json | None:
                answer = await self.http.get(path, headers={"authorization": caller.authorization})
                return answer.json() if answer.json()["status"] in TASK_OVER else None

            task = await until(over, within=60)
            if task["status"] != "succeeded":
                self.wrong.append(f"{caller.name}: {task['title']} -> {task['status']}: {task['error']}")
        self.deletions.clear()

    async def _fresh(self, what: str, caller: Caller, place: Place) -> dict[str, str]:
        owner, board_id = place.person, place.names["board_id"]
        match what:
            case "card" | "trashed card":
                card = await make_card(owner, board_id, "Fresh")
                if what == "trashed card":
                    await owner.delete(f"/api/cards/{card['id']}")
                return {"card_id": card["id"]}
            case "column":
                return {"column_id": (await owner.post(f"/api/boards/{board_id}/columns", {"name": "Fresh"}))["id"]}
            case "invitation":
                made = await owner.post(f"/api/teams/{place.team}/invitations", {"role": "viewer"})
                return {"invitation_id": made["id"]}
            case "key":
                return {"key_id": (await owner.post(f"/api/teams/{place.team}/keys", {"name": "Fresh"}))["id"]}
            case "token":
                return {"token_id": (await owner.post("/api/auth/tokens", {"name": "Fresh"}))["id"]}
            case "team" | "workspace":
                return await another(self.cloud, place, what)
            case "incident":
                return {"incident_id": await given_up(self.cloud)}
            case "oneself":
                return {"user_id": caller.user}
            case _:
                await owner.request("DELETE", f"/api/teams/{place.team}/members/{self.grace.id}")
                await join(owner, place.team, self.grace, "viewer")
                return {"user_id": self.grace.id}

    async def outsiders(self) -> None:
        """Bob and Grace are in no team of others."""
        for place in self.places:
            for guest in (self.bob.owner, self.grace.id):
                if guest != place.owner:
                    await place.person.request("DELETE", f"/api/teams/{place.team}/members/{guest}")

    async def bob_with(self, role: Role | None) -> list[Caller]:
        """Bob's session and an API token of his, while he has this role in Ada's team."""
        member = f"/api/teams/{self.ada.team}/members/{self.bob.owner}"
        if role is None:
            await self.ada.person.request("DELETE", member)
        else:
            if (await self.ada.person.request("PATCH", member, json={"role": role})).status_code == 404:
                await join(self.ada.person, self.ada.team, self.bob.person, "viewer")
                await self.ada.person.patch(member, {"role": role})
        roles = {self.bob.team: Role.OWNER} | ({self.ada.team: role} if role else {})
        await self.bob.person.renew()
        session = Caller(f"{role or 'stranger'}", bearer(self.bob.person), "person", self.bob.owner, roles)
        token = (await self.bob.person.post("/api/auth/tokens", {"name": "All"}))["token"]
        return [session, replace(session, name=f"API token of {session.name}", authorization=f"Bearer {token}")]


def bearer(person: Person) -> str:
    return f"Bearer {person.session['access_token']}"
