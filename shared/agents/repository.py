"""Typed access to `portal/agent/<id>`."""

from shared.agents.models import AgentRecord
from shared.core import ids
from shared.core.errors import NotFound
from shared.core.ports import ANY, Delete, Documents, Put


class AgentRepository:
    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def agent(self, agent_id: str) -> AgentRecord:
        ids.scope_of(agent_id, "agent")
        doc = await self._documents.get(f"portal/agent/{agent_id}", "agent")
        if doc is None:
            raise NotFound("There is no such agent.")
        return AgentRecord.model_validate(doc.body)

    async def save(self, agent: AgentRecord) -> None:
        await self._documents.commit(f"portal/agent/{agent.id}", [Put("agent", agent.json_body(), ANY)])

    async def remove(self, agent_id: str) -> None:
        await self._documents.commit(f"portal/agent/{agent_id}", [Delete("agent")])
