"""What a queue gave up on, kept where people can see it and send it again."""

from shared.core import ids
from shared.core.clock import Clock, iso
from shared.core.errors import Conflict, NotFound
from shared.core.log import Log
from shared.core.ports import Delete, Doc, Documents, Json, Put, Queues
from shared.core.resources import Resource

log = Log(__name__)

PARTITION = "incidents/all"


class Incident(Resource):
    """`body` is the message as it was, undecodable ones as text under `raw`."""

    id: str
    queue: str
    body: Json
    reason: str
    at: str


class Incidents:
    def __init__(self, documents: Documents, queues: Queues, clock: Clock) -> None:
        self._documents, self._queues, self._clock = documents, queues, clock

    async def record(self, queue: str, body: Json, reason: str, message_id: str) -> Incident:
        """Safe to repeat with the same queue message id."""
        incident = Incident(
            id=ids.digest(f"{queue}/{message_id}")[:20],
            queue=queue,
            body=body,
            reason=reason,
            at=iso(self._clock.now()),
        )
        await self._documents.commit(PARTITION, [Put(f"incident/{incident.id}", incident.json_body(), "*")])
        return incident

    async def postpone(self, poison_queue: str, body: Json) -> None:
        """Nothing could be recorded: the message comes back in a minute."""
        await self._queues.send(poison_queue, body, delay=60)

    async def list(self) -> list[Incident]:
        docs = await self._documents.query(PARTITION, "incident/")
        return sorted((Incident.model_validate(doc.body) for doc in docs), key=lambda incident: incident.at)

    async def replay(self, incident_id: str, by: str) -> None:
        """Send the message again and forget the incident. Conflict for a message that cannot be read."""
        doc = await self._incident(incident_id)
        if "raw" in doc.body["body"]:
            raise Conflict("Its message cannot be read, so it cannot be sent again. Dismiss the incident instead.")
        await self._queues.send(doc.body["queue"], doc.body["body"])
        await self._forget(doc, "incident.replayed", by)

    async def dismiss(self, incident_id: str, by: str) -> None:
        """Forget the incident and its message for good. `by` is the id of the user who wants that."""
        await self._forget(await self._incident(incident_id), "incident.dismissed", by)

    async def _incident(self, incident_id: str) -> Doc:
        doc = await self._documents.get(PARTITION, f"incident/{incident_id}")
        if doc is None:
            raise NotFound("There is no such incident.")
        return doc

    async def _forget(self, doc: Doc, what: str, by: str) -> None:
        await self._documents.commit(PARTITION, [Delete(doc.id)])
        log.info(what, incident_id=doc.body["id"], queue=doc.body["queue"], reason=doc.body["reason"], user_id=by)
