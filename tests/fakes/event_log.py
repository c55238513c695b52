"""An event log in memory."""

from collections.abc import Sequence
from pathlib import Path

import orjson

from shared.adapters import layout
from shared.core.ports import Json


class FakeEventLog:
    """`subjects` shows what is stored: subject -> events as JSON bytes, sequence 1 first."""

    def __init__(self) -> None:
        self.subjects: dict[str, list[bytes]] = {}

    async def append(self, subject: str, events: Sequence[Json]) -> list[int]:
        layout.subject_file(Path("/"), subject)
        if not all(isinstance(event.get("id"), str) for event in events):
            raise ValueError("every event needs an `id`: appending is idempotent by it")
        lines = list(self.subjects.get(subject, []))
        known = {orjson.loads(line)["id"]: sequence for sequence, line in enumerate(lines, 1)}
        for event in events:
            if event["id"] not in known:
                known[event["id"]] = len(lines) + 1
                lines.append(orjson.dumps({**event, "sequence": len(lines) + 1}))
        self.subjects[subject] = lines
        return [known[event["id"]] for event in events]

    async def read(self, subject: str, after: int = 0, limit: int = 500) -> list[Json]:
        layout.subject_file(Path("/"), subject)
        after = max(after, 0)
        return [orjson.loads(line) for line in self.subjects.get(subject, [])[after : after + max(limit, 0)]]

    async def drop(self, subject: str) -> None:
        layout.subject_file(Path("/"), subject)
        self.subjects.pop(subject, None)

    async def last(self, subject: str) -> int:
        layout.subject_file(Path("/"), subject)
        return len(self.subjects.get(subject, []))
