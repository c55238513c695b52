"""What answers of models cost, by the rates in prices.json, which `python -m local.prices` takes from `genai-prices`.

Amounts are whole micro-USD, worked out in pico-USD: a price of one dollar per million tokens is 10^6 pico-USD a token.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from shared.core.log import Log
from shared.core.ports import Json
from shared.llm.models import Share, TokenCounts

log = Log(__name__)

NOTIONAL = {"demo-1": "claude-haiku-4-5"}
"""The demo model costs nothing: it has another's price, so that cost and budgets can be seen at work."""

_FAST = {"claude-opus-5": 2}
_FASTEST = 6
"""How many times dearer fast mode is, which the package does not say: the dearest published where none is known."""
_US_ONLY_PERCENT = 110
_SUFFIX = re.compile(r"([-@]\d{8}|-latest|\[1m\])+$")
_PICO = 1_000_000


@dataclass(frozen=True, slots=True)
class Rates:
    """Pico-USD for one of each."""

    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    web_searches: int


@dataclass(frozen=True, slots=True)
class Price:
    """Rates by the size of the prompt, largest first: those of the first that it exceeds hold for every token."""

    model: str
    tiers: tuple[tuple[int, Rates], ...]

    def pico_usd(self, tokens: TokenCounts) -> int:
        """Of the tokens; web searches come on top."""
        rates = self.tiers[-1][1]
        if len(self.tiers) > 1:
            rates = next((rates for start, rates in self.tiers if tokens.prompt > start), rates)
        return (
            tokens.input * rates.input
            + tokens.output * rates.output
            + tokens.cache_read * rates.cache_read
            + tokens.cache_write_5m * rates.cache_write_5m
            + tokens.cache_write_1h * rates.cache_write_1h
        )

    @property
    def most(self) -> Rates:
        return self.tiers[0][1]


def cost_micro_usd(shares: Sequence[Share], on: date) -> int | None:
    """What an answer cost, rounded up. None when the price of a model in it is not known."""
    costs = [_share(share, price) if (price := price_of(share.model, on)) else None for share in shares]
    known = [cost for cost in costs if cost is not None]
    return _micro(sum(known)) if len(known) == len(costs) else None


def budget_micro_usd(shares: Sequence[Share], on: date) -> int:
    """What budgets are charged: where a price is not known, the dearest that is."""
    return _micro(sum(_share(share, price_of(share.model, on) or dearest(on)) for share in shares))


@lru_cache(maxsize=1000)
def price_of(model: str, on: date) -> Price | None:
    """Dated and `-latest` names count as their model."""
    name = NOTIONAL.get(model, model)
    plain = _SUFFIX.sub("", name)
    for entry in _kept():
        if _matches(entry, name) or _matches(entry, plain):
            return _price(entry, on)
    log.warning("llm.price_unknown", model=model[:100])
    return None


@cache
def dearest(on: date) -> Price:
    return max((_price(entry, on) for entry in _kept()), key=lambda price: (price.most.output, price.most.input))


@cache
def _kept() -> list[Json]:
    return json.loads(Path(__file__).with_name("prices.json").read_bytes())["models"]


def _matches(entry: Json, name: str) -> bool:
    return any(_fits(kind, text, name) for kind, text in entry["match"])


def _fits(kind: str, text: str, name: str) -> bool:
    match kind:
        case "equals":
            return name == text
        case "starts_with":
            return name.startswith(text)
        case "contains":
            return text in name
        case "regex":
            return re.search(text, name) is not None
        case _:
            raise ValueError(f"prices.json has an unknown kind of match: {kind}")


def _price(entry: Json, on: date) -> Price:
    """The last that has begun; dates sort as text."""
    kept = [price for price in entry["prices"] if price["since"] <= on.isoformat()][-1]
    starts = sorted({start for tiers in kept.values() if isinstance(tiers, list) for start, _ in tiers}, reverse=True)
    return Price(entry["id"], tuple((start, _rates(kept, start)) for start in starts))


def _rates(kept: Json, start: int) -> Rates:
    """A kind of input without a price of its own costs what fresh input does."""
    fresh = _rate(kept["input"], start, Decimal(0))
    classes = ("cache_read", "cache_write_5m", "cache_write_1h")
    cached = (_rate(kept[name], start, fresh) for name in classes)
    searches = _rate(kept["web_searches"], start, Decimal(0)) * 1000
    amounts = (fresh, _rate(kept["output"], start, Decimal(0)), *cached, searches)
    return Rates(*(int(amount * _PICO) for amount in amounts))


def _rate(tiers: list[Any], start: int, otherwise: Decimal) -> Decimal:
    fitting = [Decimal(price) for begins, price in tiers if begins <= start]
    return fitting[-1] if fitting else otherwise


def _share(share: Share, price: Price) -> int:
    tokens = price.pico_usd(share.tokens)
    if share.fast:
        tokens *= _FAST.get(price.model, _FASTEST)
    if share.us_only:
        tokens = tokens * _US_ONLY_PERCENT // 100
    return tokens + price.most.web_searches * share.tokens.web_searches


def _micro(pico: int) -> int:
    return -(-pico // _PICO)
