"""Spend caps: checked before a call, held while it is under way, charged after its answer.

Without counters nothing is spent.
"""

from collections import defaultdict
from collections.abc import Sequence

from shared.core.errors import PaymentRequired, RateLimited, Unavailable
from shared.core.log import Log
from shared.core.ports import Counters
from shared.llm.models import Cap

log = Log(__name__)

KEPT_SECONDS = 30 * 24 * 3600


class Spend:
    """A cap is overshot by at most one call of each process: further ones need room beside what is under way there."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._owed: defaultdict[str, int] = defaultdict(int)
        self._held: defaultdict[str, int] = defaultdict(int)

    async def admit(self, caps: Sequence[Cap], most: int) -> None:
        """Hold `most` micro-USD, what a call may cost, until `release`.

        Raises PaymentRequired at a cap, RateLimited when calls under way may reach it, Unavailable when spending
        cannot be counted.
        """
        spent = [await self._spent(cap) for cap in caps]
        for cap, used in zip(caps, spent, strict=True):
            if used >= cap.limit:
                raise PaymentRequired(
                    f"The {cap.name} of {_usd(cap.limit)} is used up ({_usd(used)} spent). {cap.remedy}"
                )
            if self._held[cap.counter] and used + self._held[cap.counter] + most > cap.limit:
                raise RateLimited(
                    f"Calls under way may use up what is left of the {cap.name}. Try again when they have ended.",
                    retry_after=2,
                )
        for cap in caps:
            self._held[cap.counter] += most

    def release(self, caps: Sequence[Cap], most: int) -> None:
        """The call is over, and charged."""
        for cap in caps:
            self._held[cap.counter] -= most
            if not self._held[cap.counter]:
                del self._held[cap.counter]

    async def charge(self, caps: Sequence[Cap], amount: int) -> None:
        """Adds micro-USD to every cap; what cannot be counted is owed, and paid before the next check."""
        if amount <= 0:
            return
        for cap in caps:
            try:
                await self._counters.add(cap.counter, amount, KEPT_SECONDS)
            except Unavailable as error:
                self._owed[cap.counter] += amount
                log.warning("llm.charge_owed", counter=cap.counter, micro_usd=amount, reason=error.detail)

    async def _spent(self, cap: Cap) -> int:
        owed = self._owed.pop(cap.counter, 0)
        if not owed:
            return await self._counters.get(cap.counter)
        try:
            return await self._counters.add(cap.counter, owed, KEPT_SECONDS)
        except Unavailable:
            self._owed[cap.counter] += owed
            raise


def _usd(micro: int) -> str:
    dollars = micro / 1_000_000
    return f"${dollars:,.2f}" if micro % 10_000 == 0 else f"${dollars:,.4f}"
