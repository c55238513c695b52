"""Tasks that are asked for and not made yet: the outbox of the commit that starts one still holds it."""

from shared.core import ids
from shared.core.store import Store
from shared.tasks.models import TaskRecord


async def promised(store: Store, task_id: str) -> TaskRecord | None:
    """The task as it will be made, `pending`; None when no commit has it to be made."""
    scope = ids.task_scope(task_id)
    if scope is None:
        return None
    kind = "team" if scope.startswith("t") else "workspace"
    bodies = await store.to_come(f"portal/{kind}/{scope}", f"tasks/{task_id}")
    return TaskRecord.model_validate(bodies[0]) if bodies else None
