"""Changes of boards and cards, as events and commits: people, agents and provisioning all make them."""

from typing import Literal

from shared.core.boards import BoardRecord, CardRecord, card_key, card_partition
from shared.core.events import BoardData, CardData, CommentData, NewEvent
from shared.core.policy import AgentPolicy
from shared.core.ports import Put
from shared.core.resources import Actor, Comment
from shared.core.store import Commit
from shared.core.teams import team_group

type CardEventType = Literal["card.created", "card.updated", "card.moved", "card.deleted"]


def card_event(
    kind: CardEventType,
    board: BoardRecord,
    card: CardRecord,
    by: Actor,
    changes: list[str] | None = None,
    origin: str | None = None,
    event_id: str | None = None,
) -> NewEvent:
    """The card in it has no etag: that is known only once the change is committed."""
    data = CardData(
        team_id=board.team_id,
        board_id=board.id,
        by=by,
        card=card.summary(etag=""),
        from_column=origin,
        changes=changes or [],
    )
    return NewEvent(kind, f"board/{board.id}", data, (team_group(board.team_id),), event_id)


def comment_commit(board: BoardRecord, card: CardRecord, etag: str, comment: Comment) -> Commit:
    """The commit that adds a comment and counts it on its card."""
    card.comment_count += 1
    card.revision += 1
    data = CommentData(
        team_id=board.team_id,
        board_id=board.id,
        card_id=card.id,
        comment=comment,
        comment_count=card.comment_count,
    )
    event = NewEvent("comment.created", f"board/{board.id}", data, (team_group(board.team_id),))
    ops = [
        Put(card_key(card.id), card.json_body(), etag),
        Put(f"comment/{card.id}/{comment.id}", comment.json_body()),
    ]
    return Commit(card_partition(card.id), ops, [event])


def board_updated(board: BoardRecord, policy: AgentPolicy) -> NewEvent:
    data = BoardData(team_id=board.team_id, board_id=board.id, columns=board.columns, agents=policy.availability(board))
    return NewEvent("board.updated", f"board/{board.id}", data, (team_group(board.team_id),))
