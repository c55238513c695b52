"""Queue messages: checked whole before anybody acts on one, so that what no repetition makes valid is found at once."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared.core import events, ids
from shared.core.errors import Invalid, NotFound
from shared.core.ports import Json

VERSION = 1

type PlainId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,64}$")]
type ScopedId = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,20}_[tw][a-z0-9]{10}_[a-z0-9]{1,64}$")]
type Count = Annotated[int, Field(ge=0, le=2**53)]


class Record(BaseModel):
    """Base of what messages hold: nothing is converted, unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


class QueueMessage(Record):
    """Base of the schema of every queue."""

    version: Literal[1]


def read[M: QueueMessage](schema: type[M], body: Json) -> M:
    """Raises Invalid for a version that is not known, and for fields that are missing, unknown or do not fit."""
    version = body.get("version")
    if type(version) is not int or version != VERSION:
        raise Invalid(f"Its version is {repr(version)[:40]}; only {VERSION} is known.")
    return fitting(schema, body)


def fitting[R: Record](schema: type[R], body: Any) -> R:
    """Raises Invalid for fields that are missing, unknown or do not fit."""
    try:
        return schema.model_validate(body)
    except ValidationError as error:
        raise Invalid(f"These fields do not fit: {_fields(error)}.") from None


def _fields(error: ValidationError) -> str:
    places = (".".join(str(part) for part in item["loc"]) or "all of them together" for item in error.errors())
    return ", ".join(dict.fromkeys(place[:40] for place in places))[:300]


def _moved(event: dict[str, Any]) -> dict[str, Any]:
    """A card and the board it is on go together: a message cannot bring one team's card to another's board."""
    known = events.parse({**event, "sequence": 0})
    if not isinstance(known, events.CardEvent) or known.type != "card.moved":
        raise ValueError("it is not the move of a card")
    try:
        of_board, of_card = ids.board_scope(known.data.board_id), ids.scope_of(known.data.card.id, "card")
    except NotFound as error:
        raise ValueError(error.detail) from None
    if of_board != of_card or not known.id:
        raise ValueError("its card is not on its board")
    return event


type MovedCard = Annotated[dict[str, Any], AfterValidator(_moved)]
"""A `card.moved` event as it was committed."""
