"""Where a ledger that has forgotten begins to count: at the usage records, and at what is not among them yet."""

from collections import Counter, deque
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from shared.core import ids, usage
from shared.core.clock import Clock
from shared.core.ports import Documents, Json
from shared.llm.ledger import Amounts, Kind, Seed, Settle

_RECENT = timedelta(seconds=60)
_MOST_RECENT = 20_000
_TIMES = 5
"""That sums are read, while records are being made all the time."""


class _Settled(NamedTuple):
    """What may not be among the usage records yet; very many are remembered, so no more than has to be."""

    time: float
    id: str
    subjects: tuple[str, ...]
    periods: tuple[str, ...]
    used: Amounts


class Recount:
    """Remembers what this process settled within the last minute."""

    def __init__(self, documents: Documents, clock: Clock) -> None:
        self._documents, self._clock = documents, clock
        self._recent: deque[_Settled] = deque(maxlen=_MOST_RECENT)

    def remember(self, settlement: Settle) -> None:
        now = self._clock.now().timestamp()
        while self._recent and self._recent[0].time < now - _RECENT.total_seconds():
            self._recent.popleft()
        hold = settlement.hold
        self._recent.append(_Settled(now, hold.id, hold.subjects, settlement.periods, settlement.used))

    async def seeds(self, team_id: str, subjects: Sequence[str]) -> list[Seed]:
        """Where `subjects` begin to count, at this moment.

        A record made while sums are read may be in them or not: then they are read again. Where that never ends, it
        counts twice rather than not at all, until the ledger forgets once more.
        """
        times, records = 0, await self._records(team_id, subjects)
        while True:
            spent = [await usage.spent(self._documents, team_id, subject) for subject in subjects]
            again = await self._records(team_id, subjects) if self._unrecorded(subjects, records) else records
            unrecorded = self._unrecorded(subjects, records)
            times += 1
            if times == _TIMES or unrecorded.keys() == self._unrecorded(subjects, again).keys():
                break
            records = again
        minute_ago = ids.sortable_at(self._clock.now() - _RECENT)
        latest = [record for record in records if record["id"] >= minute_ago]
        own = list(unrecorded.values())
        return [_seeded(*each, own, latest) for each in zip(subjects, spent, strict=True)]

    async def _records(self, team_id: str, subjects: Sequence[str]) -> list[Json]:
        """Of the last minute, and of whatever this process settled within it: of these all."""
        own = self._unrecorded(subjects, ())
        oldest = min([ids.sortable_at(self._clock.now() - _RECENT), *own])[:-1]  # which sorts before itself
        found: list[Json] = []
        while page := await usage.records_since(self._documents, team_id, found[-1]["id"] if found else oldest):
            found += page
            if not own or page[-1]["id"] >= max(own):
                break
        return found

    def _unrecorded(self, subjects: Sequence[str], records: Sequence[Json]) -> dict[str, _Settled]:
        """By id, what was settled here within the last minute and is not among `records`."""
        recorded, wanted = {record["id"] for record in records}, set(subjects)
        return {
            settled.id: settled
            for settled in self._recent
            if settled.id not in recorded and not wanted.isdisjoint(settled.subjects)
        }


def _seeded(subject: str, spent: dict[str, int], unrecorded: Sequence[_Settled], latest: Sequence[Json]) -> Seed:
    """`spent` by period as recorded; `latest`: the records of the last minute."""
    kind, _, name = subject.partition("/")
    total, minute = Counter(spent), Counter[Kind]()

    def took(prompt: int, output: int) -> None:
        minute.update({"requests": 1, "input_tokens": prompt, "output_tokens": output})

    for settled in unrecorded:
        if subject in settled.subjects:
            total.update(dict.fromkeys(settled.periods, settled.used.micro_usd))
            took(settled.used.input_tokens, settled.used.output_tokens)
    for record in latest:
        if record[f"{kind}_id"] == name:
            took(record["input_tokens"] + record["cache_write_tokens"], record["output_tokens"])
    return Seed(subject, dict(total), dict(minute))
