import pytest

from shared.llm.models import Share, TokenCounts
from shared.llm.prices import DEAREST, PRICES, cost_micro_usd, price_of

MILLION = 1_000_000


class TestCost:
    def test_each_kind_of_token_has_its_own_price(self):
        tokens = TokenCounts(
            input=100_000, output=MILLION, cache_read=MILLION, cache_write_5m=MILLION, cache_write_1h=MILLION
        )
        assert (
            cost_micro_usd([Share("claude-opus-5-5", tokens)]) == 400_000 + 20_000_000 + 200_000 + 5_000_000 + 8_000_000
        )

    def test_fractions_of_a_micro_dollar_are_rounded_up(self):
        assert cost_micro_usd([Share("claude-haiku-5-5", TokenCounts(cache_read=1))]) == 1

    def test_nothing_used_costs_nothing(self):
        assert cost_micro_usd([]) == 0

    def test_a_prompt_over_the_threshold_makes_every_token_dearer(self):
        short = Share("claude-haiku-5-5", TokenCounts(input=60_000, cache_read=40_000, output=1000))
        long = Share("claude-haiku-5-5", TokenCounts(input=60_000, cache_read=40_001, output=1000))
        assert cost_micro_usd([short]) == 6_000 + 400 + 500
        assert cost_micro_usd([long]) == 30_000 + 2_001 + 2_500

    def test_fast_mode_region_and_web_searches_are_charged(self):
        tokens = TokenCounts(input=1000, web_searches=2)
        assert cost_micro_usd([Share("claude-opus-5", tokens, fast=True, us_only=True)]) == 11_000 + 20_000

    def test_models_of_one_answer_are_priced_each_by_its_own(self):
        shares = [Share("demo-1", TokenCounts(output=10)), Share("claude-opus-4-1", TokenCounts(output=10))]
        assert cost_micro_usd(shares) == 50 + 750


class TestPriceOfModel:
    @pytest.mark.parametrize(
        ("name", "known"),
        [
            ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("claude-opus-4-1@20250805", "claude-opus-4-1"),
            ("claude-opus-5-latest", "claude-opus-5"),
            ("claude-opus-5-5[1m]", "claude-opus-5-5"),
        ],
    )
    def test_dated_names_cost_what_their_model_costs(self, name: str, known: str):
        assert price_of(name) is PRICES[known]

    @pytest.mark.parametrize("name", ["gpt-9", "claude-opus-5-9", ""])
    def test_an_unknown_model_costs_what_the_dearest_does(self, name: str):
        assert price_of(name) is DEAREST
        assert all(price.input <= DEAREST.input and price.output <= DEAREST.output for price in PRICES.values())
