"""Writes shared/llm/prices.json from the package `genai-prices`: `python -m local.prices`.

The package takes 0.4 s to import and 0.3 ms a call, which no request of the gateway shall pay. `--check` says whether
the file is what the installed package makes of it.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ClauseContains,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
)

FILE = Path(__file__).parents[1] / "shared" / "llm" / "prices.json"
RATES = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write_5m": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "web_searches": "web_searches_kcount",
}


def extracted() -> str:
    """The rates of Anthropic's models as JSON. Raises ValueError for what this program does not know how to keep."""
    provider = next(provider for provider in get_snapshot().providers if provider.id == "anthropic")
    models = [_model(model) for model in provider.models]
    lines = ",\n".join(json.dumps(model) for model in models)
    return f'{{"source": "genai-prices {version("genai-prices")}", "models": [\n{lines}\n]}}\n'


def _model(model: ModelInfo) -> dict[str, Any]:
    prices = model.prices if isinstance(model.prices, list) else [ConditionalPrice(prices=model.prices)]
    return {"id": model.id, "match": _clauses(model.match), "prices": [_dated(price) for price in prices]}


def _clauses(match: object) -> list[list[str]]:
    match match:
        case ClauseOr():
            return [clause for part in match.or_ for clause in _clauses(part)]
        case ClauseEquals():
            return [["equals", match.equals]]
        case ClauseStartsWith():
            return [["starts_with", match.starts_with]]
        case ClauseContains():
            return [["contains", match.contains]]
        case ClauseRegex():
            return [["regex", match.regex]]
        case _:
            raise ValueError(f"unknown kind of match: {match!r}")


def _dated(price: ConditionalPrice) -> dict[str, Any]:
    match price.constraint:
        case None:
            since = ""
        case StartDateConstraint():
            since = price.constraint.start_date.isoformat()
        case other:
            raise ValueError(f"unknown constraint: {other!r}")
    return {"since": since, **{name: _tiers(price.prices, field) for name, field in RATES.items()}}


def _tiers(price: ModelPrice, field: str) -> list[list[Any]]:
    """Pairs of the prompt's size from which it holds, and the price; none for a kind without a price."""
    match getattr(price, field):
        case None:
            return []
        case TieredPrices(base=base, tiers=tiers):
            return [[0, str(base)], *([tier.start, str(tier.price)] for tier in tiers)]
        case plain:
            return [[0, str(plain)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    text = extracted()
    if not parser.parse_args().check:
        FILE.write_text(text)
    elif FILE.read_text() != text:
        sys.exit(f"{FILE.name} is stale: run `python -m local.prices`.")


if __name__ == "__main__":
    main()
