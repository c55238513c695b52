"""The permission table: what each role of a team may do. The only place that says so."""

from enum import StrEnum


class Role(StrEnum):
    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"
    OWNER = "owner"


class Action(StrEnum):
    READ = "read"
    EDIT_CARDS = "edit_cards"
    COMMENT = "comment"
    EDIT_BOARD = "edit_board"
    START_AGENT = "start_agent"
    STOP_AGENT = "stop_agent"
    MANAGE_MEMBERS = "manage_members"
    MANAGE_OWNERS = "manage_owners"
    MANAGE_KEYS = "manage_keys"
    MANAGE_TEAM = "manage_team"
    DELETE_TEAM = "delete_team"


_VIEWER = frozenset({Action.READ})
_MEMBER = _VIEWER | {
    Action.EDIT_CARDS,
    Action.COMMENT,
    Action.START_AGENT,
    Action.STOP_AGENT,
    Action.EDIT_BOARD,
}
_ADMIN = _MEMBER | {Action.MANAGE_MEMBERS, Action.MANAGE_KEYS, Action.MANAGE_TEAM}
_OWNER = _ADMIN | {Action.MANAGE_OWNERS, Action.DELETE_TEAM}

PERMISSIONS: dict[Role, frozenset[Action]] = {
    Role.VIEWER: _VIEWER,
    Role.MEMBER: _MEMBER,
    Role.ADMIN: _ADMIN,
    Role.OWNER: _OWNER,
}


def allows(role: Role, action: Action) -> bool:
    return action in PERMISSIONS[role]
