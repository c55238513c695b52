"""Spend caps: checked before a call, charged after its answer. Without counters nothing is spent."""

from collections import defaultdict
from collections.abc import Sequence

from shared.core.errors import PaymentRequired, Unavailable
from shared.core.log import Log
from shared.core.ports import Counters
from shared.llm.models import Cap

log = Log(__name__)

KEPT_SECONDS = 30 * 24 * 3600


class Spend:
    """Calls under way at the same time may each pass the check: a cap is overshot by at most their cost."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._owed: defaultdict[str, int] = defaultdict(int)

    async def check(self, caps: Sequence[Cap]) -> None:
        """Raises PaymentRequired at a cap, Unavailable when spending cannot be counted."""
        for cap in caps:
            spent = await self._spent(cap)
            if spent >= cap.limit:
                raise PaymentRequired(
                    f"The {cap.name} of {_usd(cap.limit)} is used up ({_usd(spent)} spent). {cap.remedy}"
                )

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
