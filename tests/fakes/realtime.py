"""Realtime that remembers what was published."""

from collections.abc import Sequence
from urllib.parse import urlencode

import orjson

from shared.core.errors import Unavailable
from shared.core.ports import Json


class FakeRealtime:
    """`published` holds (group, event) in order, `groups` group -> user ids; while `down` is set, calls fail."""

    def __init__(self) -> None:
        self.published: list[tuple[str, Json]] = []
        self.groups: dict[str, set[str]] = {}
        self.down = False

    async def client_url(self, user_id: str, groups: Sequence[str], minutes: int = 60) -> str:
        self._answer()
        query = [("user", user_id), ("minutes", str(minutes)), *(("group", group) for group in groups)]
        return f"wss://realtime.example/client?{urlencode(query)}"

    async def publish(self, group: str, events: Sequence[Json]) -> None:
        self._answer()
        self.published += [(group, event) for event in orjson.loads(orjson.dumps(list(events)))]

    async def add_to_group(self, user_id: str, group: str) -> None:
        self._answer()
        self.groups.setdefault(group, set()).add(user_id)

    async def remove_from_group(self, user_id: str, group: str) -> None:
        self._answer()
        self.groups.get(group, set()).discard(user_id)

    def messages(self, group: str) -> list[Json]:
        return [message for name, message in self.published if name == group]

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("The realtime service does not answer. Try again in a moment.")
