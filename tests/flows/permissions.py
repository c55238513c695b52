"""Who may do what: every operation of the API in one line each, judged by the one table of permissions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.core.permissions import Action, Role, allows

type Kind = Literal["nobody", "person", "run", "key", "forged"]
type Fresh = Literal[
    "card", "trashed card", "column", "member", "invitation", "token", "key", "oneself", "incident", "team", "workspace"
]


@dataclass(frozen=True)
class Caller:
    """`roles` by team. `run`: the run whose token it is, `alive` while that is not over."""

    name: str
    authorization: str
    kind: Kind
    user: str = ""
    roles: Mapping[str, Role] = field(default_factory=dict)
    platform_admin: bool = False
    run: str = ""
    alive: bool = False


@dataclass(frozen=True)
class Target:
    """A team whose things are asked for."""

    team: str
    owner: str
    live_run: str


@dataclass(frozen=True)
class Rule:
    """What an operation answers to each kind of caller. `ok`: the status of a call that is allowed.

    `fresh` is made anew before each call that is allowed, because the call uses it up.
    """

    kind: Literal["anyone", "signed in", "team", "own", "platform admin", "run", "model"]
    ok: int
    action: Action = Action.READ
    body: Any = None
    fresh: Fresh | None = None
    admins_too: bool = False
    """Administrators of the platform may, whoever they are in the team."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Parameters of the path that are not to be the target's."""

    @property
    def about_a_team(self) -> bool:
        return self.kind in ("team", "own", "run", "platform admin")

    def expected(self, caller: Caller, target: Target) -> int:
        match self.kind:
            case "anyone":
                return self.ok
            case "run" if caller.kind == "run":
                return self.ok if caller.run == target.live_run else 404
            case "model" if caller.kind == "key" or caller.alive:
                return self.ok
            case "run" | "model":
                return 401
            case _ if caller.kind != "person":
                return 401
            case "signed in":
                return self.ok
            case "platform admin":
                return self.ok if caller.platform_admin else 404
            case "own":
                return self.ok if caller.user == target.owner else 404
            case "team":
                role = caller.roles.get(target.team)
                if self.admins_too and caller.platform_admin:
                    return self.ok
                return 404 if role is None else self.ok if allows(role, self.action) else 403


def anyone(ok: int, body: Any = None) -> Rule:
    return Rule("anyone", ok, body=body)


def signed_in(ok: int = 200, body: Any = None) -> Rule:
    return Rule("signed in", ok, body=body)


def of_team(action: Action, ok: int = 200, body: Any = None, fresh: Fresh | None = None) -> Rule:
    return Rule("team", ok, action, body, fresh)


def of_run(ok: int, body: Any = None) -> Rule:
    return Rule("run", ok, body=body)


def platform_admin(ok: int, fresh: Fresh | None = None) -> Rule:
    return Rule("platform admin", ok, fresh=fresh)


_ASKED = {"model": "demo-1", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}

OPERATIONS: dict[str, Rule] = {
    "GET /api/health": anyone(200),
    "GET /api/auth/login": anyone(200),
    "GET /api/auth/jwks": anyone(200),
    "POST /api/auth/callback": anyone(401, {"code": "x", "state": "x"}),
    "POST /api/auth/refresh": anyone(401, {"refresh_token": "x.y"}),
    "POST /api/auth/logout": anyone(204, {"refresh_token": "x.y"}),
    "POST /api/agents/{agent_id}/webhook": anyone(401),
    "POST /api/github/webhook": anyone(401),
    "GET /api/auth/me": signed_in(),
    "GET /api/auth/tokens": signed_in(),
    "POST /api/auth/tokens": signed_in(201, {"name": "Mine"}),
    "DELETE /api/auth/tokens/{token_id}": Rule("own", 204, fresh="token"),
    "POST /api/auth/users/{user_id}/disable": platform_admin(422, "oneself"),
    "POST /api/auth/users/{user_id}/enable": platform_admin(200, "oneself"),
    "GET /api/incidents": platform_admin(200),
    "POST /api/incidents/{incident_id}/replay": platform_admin(409),
    "DELETE /api/incidents/{incident_id}": platform_admin(204, "incident"),
    "GET /api/realtime/negotiate": signed_in(),
    "GET /api/teams": signed_in(),
    "POST /api/teams": signed_in(422, {"name": ""}),
    "GET /api/workspaces": signed_in(),
    "POST /api/workspaces": signed_in(422, {"name": "???"}),
    "GET /api/tasks": signed_in(),
    "GET /api/invitations/{token}": signed_in(),
    "POST /api/invitations/{token}/accept": Rule("signed in", 404, names={"token": "t0123456789-0-0"}),
    "GET /api/teams/{team_id}": of_team(Action.READ),
    "DELETE /api/teams/{team_id}": Rule("team", 409, Action.DELETE_TEAM, admins_too=True),
    "GET /api/teams/{team_id}/usage": of_team(Action.READ),
    "GET /api/usage": signed_in(),
    "GET /api/teams/{team_id}/keys": of_team(Action.MANAGE_KEYS),
    "POST /api/teams/{team_id}/keys": of_team(Action.MANAGE_KEYS, 201, {"name": "Mine"}),
    "PATCH /api/teams/{team_id}/keys/{key_id}": of_team(Action.MANAGE_KEYS, 200, {"name": "Mine"}, "key"),
    "POST /api/teams/{team_id}/keys/{key_id}/rotate": of_team(Action.MANAGE_KEYS, 201, {}, "key"),
    "DELETE /api/teams/{team_id}/keys/{key_id}": of_team(Action.MANAGE_KEYS, 204, fresh="key"),
    "GET /api/teams/{team_id}/limits": of_team(Action.READ),
    "PUT /api/teams/{team_id}/limits": of_team(Action.MANAGE_KEYS, 200, {}),
    "GET /api/teams/{team_id}/members": of_team(Action.READ),
    "PATCH /api/teams/{team_id}/members/{user_id}": of_team(Action.MANAGE_MEMBERS, 200, {"role": "member"}, "member"),
    "DELETE /api/teams/{team_id}/members/{user_id}": of_team(Action.MANAGE_MEMBERS, 204, fresh="member"),
    "GET /api/teams/{team_id}/invitations": of_team(Action.MANAGE_MEMBERS),
    "POST /api/teams/{team_id}/invitations": of_team(Action.MANAGE_MEMBERS, 201, {"role": "viewer"}),
    "DELETE /api/teams/{team_id}/invitations/{invitation_id}": of_team(Action.MANAGE_MEMBERS, 204, fresh="invitation"),
    "POST /api/teams/{team_id}/stop-agents": of_team(Action.STOP_AGENT),
    "GET /api/workspaces/{workspace_id}": of_team(Action.READ),
    "DELETE /api/workspaces/{workspace_id}": Rule("team", 202, Action.DELETE_TEAM, fresh="workspace", admins_too=True),
    "GET /api/boards/{board_id}": of_team(Action.READ),
    "GET /api/boards/{board_id}/events": of_team(Action.READ),
    "GET /api/boards/{board_id}/search": of_team(Action.READ),
    "POST /api/boards/{board_id}/columns": of_team(Action.EDIT_BOARD, 201, {"name": "Mine"}),
    "PATCH /api/boards/{board_id}/columns/{column_id}": of_team(Action.EDIT_BOARD, 200, {"kind": "plain"}),
    "DELETE /api/boards/{board_id}/columns/{column_id}": of_team(Action.EDIT_BOARD, 204, fresh="column"),
    "POST /api/boards/{board_id}/cards": of_team(Action.EDIT_CARDS, 201, {"title": "Mine"}),
    "GET /api/cards/{card_id}": of_team(Action.READ),
    "PATCH /api/cards/{card_id}": of_team(Action.EDIT_CARDS, 200, {"title": "Changed"}, "card"),
    "PUT /api/cards/{card_id}": of_team(Action.EDIT_CARDS, 200, {"title": "Put"}, "card"),
    "POST /api/cards/{card_id}/move": of_team(Action.EDIT_CARDS, 200, {"column_id": "ready"}, "card"),
    "DELETE /api/cards/{card_id}": of_team(Action.EDIT_CARDS, 204, fresh="card"),
    "POST /api/cards/{card_id}/restore": of_team(Action.EDIT_CARDS, 200, fresh="trashed card"),
    "GET /api/cards/{card_id}/comments": of_team(Action.READ),
    "POST /api/cards/{card_id}/comments": of_team(Action.COMMENT, 201, {"body": "Mine"}),
    "GET /api/cards/{card_id}/history": of_team(Action.READ),
    "GET /api/cards/{card_id}/runs": of_team(Action.READ),
    "GET /api/tasks/{task_id}": of_team(Action.READ),
    "GET /api/tasks/{task_id}/events": of_team(Action.READ),
    "POST /api/tasks/{task_id}/cancel": of_team(Action.MANAGE_TEAM, 409),
    "POST /api/tasks/{task_id}/retry": of_team(Action.MANAGE_TEAM, 409),
    "GET /api/runs/{run_id}": of_team(Action.READ),
    "GET /api/runs/{run_id}/events": of_team(Action.READ),
    "GET /api/runs/{run_id}/diff": of_team(Action.READ),
    "POST /api/runs/{run_id}/stop": of_team(Action.STOP_AGENT),
    "POST /api/runs/{run_id}/retry": of_team(Action.START_AGENT, 409),
    "GET /api/v1/models": Rule("model", 200),
    "GET /api/v1/models/{model_id}": Rule("model", 200),
    "POST /api/v1/messages": Rule("model", 200, body=_ASKED),
    "POST /api/v1/messages/count_tokens": Rule("model", 200, body=_ASKED),
    "POST /api/runs/{run_id}/start": of_run(409),
    "POST /api/runs/{run_id}/events": of_run(200, {"events": [{"id": "1", "time": "", "kind": "text", "text": "x"}]}),
    "POST /api/runs/{run_id}/git-credentials": of_run(200),
    "POST /api/runs/{run_id}/comments": of_run(201, {"body": "Mine"}),
    "POST /api/runs/{run_id}/complete": of_run(200, {"outcome": "failed", "reason": "Mine"}),
}
"""Allowed calls change what is made for them, or what they may leave behind; where that would cost much they meet a
rule (409, 422) that is looked at after the permission."""

VARIANTS: list[tuple[str, Rule]] = [
    ("PATCH /api/teams/{team_id}/members/{user_id}", of_team(Action.MANAGE_OWNERS, 200, {"role": "owner"}, "member")),
    ("DELETE /api/teams/{team_id}", Rule("team", 202, Action.DELETE_TEAM, fresh="team", admins_too=True)),
]
"""The same operations asked for something else: another permission is needed, or another answer comes."""
