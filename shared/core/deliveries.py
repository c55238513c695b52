"""Webhook deliveries under way: kept beside the card until they have arrived, so that a lost message is missed.

A host that dies while it delivers hides its queue message for ten minutes; the watchdog must not wait for that.
"""

import contextlib
from datetime import timedelta

from shared.core import ids
from shared.core.boards import board_partition
from shared.core.clock import is_future, iso, parse
from shared.core.errors import Stale
from shared.core.ports import Delete, Json, Put
from shared.core.store import Commit, Message, Store

QUEUE = "webhooks"
_PATIENCE = timedelta(seconds=45)


def kept(store: Store, message: Json) -> Put:
    """The row that joins the commit of what is to be delivered."""
    return Put(f"delivery/{message['event']['id']}", {"message": message, "at": iso(store.clock.now())})


def secret_name(scope: str) -> str:
    """Where the secret that signs the deliveries of a board's agent is kept."""
    return f"webhook-{scope}"


def reference(event: Json) -> str:
    """What the commit watches."""
    return f"delivery/{ids.board_scope(event['data']['board_id'])}~{event['id']}"


async def settle(store: Store, event: Json) -> None:
    """It arrived, or was given up. Safe to repeat."""
    partition = board_partition(ids.board_scope(event["data"]["board_id"]))
    await store.documents.commit(partition, [Delete(f"delivery/{event['id']}")])
    await store.settle(reference(event))


async def watch(store: Store) -> int:
    """Send again what has not arrived for a while; returns how many. Receivers know an event by its id."""

    async def look(row: str) -> bool:
        scope, _, event_id = row.removeprefix("delivery/").partition("~")
        doc = await store.documents.get(board_partition(scope), f"delivery/{event_id}")
        if doc is None:
            await store.settle(row)
        elif parse(doc.body["at"]) + _PATIENCE < store.clock.now() or is_future(doc.body["at"], store.clock):
            again = Put(doc.id, doc.body | {"at": iso(store.clock.now())}, doc.etag)
            message = Message(QUEUE, doc.body["message"])
            with contextlib.suppress(Stale):  # it arrived just now, or another watchdog has it
                await store.commit(Commit(board_partition(scope), [again], messages=[message]))
                return True
        return False

    return await store.watch("delivery", look)
