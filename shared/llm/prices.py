"""What models cost, in USD per million tokens, which is micro-USD per token.

Source: platform.claude.com/docs/en/about-claude/pricing, November 2026. `demo-1` costs nothing real: its price is
notional, so that cost and caps can be seen at work.
"""

import math
import re
from dataclasses import dataclass
from decimal import Decimal

from shared.core.log import Log
from shared.llm.models import Share, TokenCounts

log = Log(__name__)

WEB_SEARCH = Decimal("10000")
"""Micro-USD per web search the model makes ($10 per 1,000)."""
US_ONLY = Decimal("1.1")
_SUFFIX = re.compile(r"([-@]\d{8}|-latest|\[1m\])+$")


@dataclass(frozen=True, slots=True)
class Price:
    """`long`: the price of every token of a request whose prompt exceeds `long_from` tokens."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    fast: Decimal = Decimal(6)
    long_from: int = 0
    long: "Price | None" = None

    def of(self, tokens: TokenCounts) -> Decimal:
        if self.long and tokens.prompt > self.long_from:
            return self.long.of(tokens)
        return (
            self.input * tokens.input
            + self.output * tokens.output
            + self.cache_read * tokens.cache_read
            + self.cache_write_5m * tokens.cache_write_5m
            + self.cache_write_1h * tokens.cache_write_1h
        )


def _price(
    input: str,
    output: str,
    read: str,
    *,
    fast: str = "6",
    long_from: int = 0,
    long: Price | None = None,
) -> Price:
    """Cache writes cost 1.25 times (5 minutes) and twice (1 hour) the input; `fast` is the dearest published."""
    base = Decimal(input)
    writes = (base * Decimal("1.25"), base * 2)
    return Price(base, Decimal(output), Decimal(read), *writes, Decimal(fast), long_from, long)


_MYTHOS_5_2 = _price("8", "40", "0.20")
_MYTHOS_5_1 = _price("10", "50", "0.25")
_MYTHOS_5 = _price("10", "50", "1.00")
_OPUS_4_5 = _price("5", "25", "0.50")
_OPUS_4 = _price("15", "75", "1.50")
_SONNET_4 = _price("3", "15", "0.30", long_from=200_000, long=_price("6", "22.50", "0.60"))

PRICES: dict[str, Price] = {
    "claude-fable-5-2": _MYTHOS_5_2,
    "claude-mythos-5-2": _MYTHOS_5_2,
    "claude-fable-5-1": _MYTHOS_5_1,
    "claude-mythos-5-1": _MYTHOS_5_1,
    "claude-fable-5": _MYTHOS_5,
    "claude-mythos-5": _MYTHOS_5,
    "claude-opus-5-5": _price("4", "20", "0.20"),
    "claude-opus-5": _price("5", "25", "0.50", fast="2"),
    "claude-opus-4-8": _OPUS_4_5,
    "claude-opus-4-7": _OPUS_4_5,
    "claude-opus-4-6": _OPUS_4_5,
    "claude-opus-4-5": _OPUS_4_5,
    "claude-opus-4-1": _OPUS_4,
    "claude-opus-4-0": _OPUS_4,
    "claude-opus-4": _OPUS_4,
    "claude-sonnet-5-5": _price("2", "10", "0.10"),
    "claude-sonnet-5": _price("2", "10", "0.20"),
    "claude-sonnet-4-6": _price("3", "15", "0.30"),
    "claude-sonnet-4-5": _SONNET_4,
    "claude-sonnet-4-0": _SONNET_4,
    "claude-sonnet-4": _SONNET_4,
    "claude-haiku-5-5": _price("0.10", "0.50", "0.01", long_from=100_000, long=_price("0.50", "2.50", "0.05")),
    "claude-haiku-4-5": _price("1", "5", "0.10"),
    "demo-1": _price("1", "5", "0.10"),
}

DEAREST = max(PRICES.values(), key=lambda price: price.output)


def price_of(model: str) -> Price:
    """Dated and `-latest` names count as their model; an unknown model costs what the dearest known one does."""
    known = PRICES.get(_SUFFIX.sub("", model))
    if known is None:
        log.warning("llm.unknown_model_priced_as_dearest", model=model[:100])
    return known or DEAREST


def cost_micro_usd(shares: list[Share]) -> int:
    """What an answer cost, rounded up to whole micro-USD."""
    return math.ceil(sum((_share(share) for share in shares), Decimal(0)))


def _share(share: Share) -> Decimal:
    price = price_of(share.model)
    cost = price.of(share.tokens)
    if share.fast:
        cost *= price.fast
    if share.us_only:
        cost *= US_ONLY
    return cost + WEB_SEARCH * share.tokens.web_searches
