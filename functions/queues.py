"""Queue triggers, and the poison triggers that turn what a queue gave up on into something people see."""

import base64
import contextlib
from collections.abc import Awaitable, Callable

import azure.functions as func
import orjson

from functions.platform import platform
from shared.core.errors import Invalid, NotFound, PlatformError
from shared.core.log import Log, correlation
from shared.core.ports import LARGEST_MESSAGE, Json

log = Log(__name__)

CONNECTION = "AzureWebJobsStorage"
QUEUES = ("provisioning", "agent-runs", "webhooks", "usage")
_SHOWN = 8_000
"""Characters of an unreadable message: even if each is escaped, they fit a message again."""


def register(app: func.FunctionApp) -> None:
    consumers: dict[str, Callable[[Json], Awaitable[None]]] = {
        "provisioning": lambda message: platform().runner.handle(message),
        "agent-runs": lambda message: platform().lifecycle.handle(message),
        "webhooks": lambda message: platform().webhooks.deliver(message),
        "usage": lambda message: platform().books.record(message),
    }
    for queue, consume in consumers.items():
        _trigger(app, queue, _consumer(queue, consume))
        _trigger(app, f"{queue}-poison", _poison(queue))


def _trigger(app: func.FunctionApp, queue: str, handler: Callable[..., Awaitable[None]]) -> None:
    trigger = app.queue_trigger(arg_name="msg", queue_name=queue, connection=CONNECTION)
    app.function_name(queue.replace("-", "_"))(trigger(handler))


def _consumer(queue: str, consume: Callable[[Json], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def handle(msg: func.QueueMessage) -> None:
        """A message that no repetition makes valid becomes an incident at once; others are tried again."""
        try:
            body = _decoded(msg.get_body())
            correlation.set(str(body.get("task_id") or body.get("run_id") or msg.id)[:100])
            log.debug("queue.message", queue=queue, dequeue_count=msg.dequeue_count)
            await consume(body)
        except Invalid as error:
            await _give_up(queue, msg, f"Its message is not valid (queue {queue}). {error.detail}")

    return handle


def _poison(queue: str) -> Callable[..., Awaitable[None]]:
    async def handle(msg: func.QueueMessage) -> None:
        await _give_up(queue, msg, f"Its message was given up after repeated failures (queue {queue}).")

    return handle


async def _give_up(queue: str, msg: func.QueueMessage, reason: str) -> None:
    """Record an incident and tell whom it concerns; when even that fails, have it tried again in a minute."""
    body = _readable(msg.get_body())
    try:
        await platform().incidents.record(queue, body, reason, str(msg.id))
    except PlatformError as error:
        log.warning("queue.poison_postponed", queue=queue, reason=error.detail)
        await platform().incidents.postpone(f"{queue}-poison", body)
        return
    log.warning("queue.poison", queue=queue, message_id=msg.id, reason=reason)
    try:
        await _tell(queue, body, reason)
    except (NotFound, Invalid):
        log.info("queue.poison_of_nothing", queue=queue)
    except Exception:  # the incident is kept: a poison queue has none of its own to go to
        log.exception("queue.poison_untold", queue=queue)


async def _tell(queue: str, body: Json, reason: str) -> None:
    """Invalid for a message that does not say whom it concerns, and when."""
    here = platform()
    if queue == "provisioning":
        await here.runner.abandon(_field(body, "task_id", str), _field(body, "epoch", int), reason)
    elif queue == "agent-runs" and "undelivered" not in body:
        await here.lifecycle.abandon(_field(body, "run_id", str), _field(body, "epoch", int), reason)
    elif queue == "webhooks":
        await here.webhooks.give_up(body, "the agent's address did not answer")


def _field[T](body: Json, name: str, kind: type[T]) -> T:
    value = body.get(name)
    if not isinstance(value, kind):
        raise Invalid(f"It has no {name}.")
    return value


def _decoded(raw: bytes) -> Json:
    """Base64 of a JSON object. Decoded here, not by the host, which loses what it cannot decode. Raises Invalid."""
    try:
        body = orjson.loads(base64.b64decode(raw, validate=True))
        orjson.dumps(body)
    except ValueError:
        raise Invalid("It is not base64 of JSON.") from None
    except TypeError:
        raise Invalid("It is nested too deeply to be kept.") from None
    if not isinstance(body, dict):
        raise Invalid("It is not a JSON object.")
    return body


def _readable(raw: bytes) -> Json:
    """The message as an incident keeps it and sends it again; what cannot be sent again is kept as text under `raw`."""
    with contextlib.suppress(Invalid):
        body = _decoded(raw)
        if len(orjson.dumps(body)) <= LARGEST_MESSAGE:
            return body
    with contextlib.suppress(ValueError):
        raw = base64.b64decode(raw, validate=True)
    return {"raw": raw.decode(errors="replace")[:_SHOWN]}
