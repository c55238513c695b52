from datetime import date

import pytest

from local.prices import FILE, extracted
from shared.llm.models import Share, TokenCounts
from shared.llm.prices import budget_micro_usd, cost_micro_usd, dearest, price_of

MILLION = 1_000_000
TODAY = date(2026, 11, 25)


def cost(*shares: Share, on: date = TODAY) -> int | None:
    return cost_micro_usd(shares, on)


class TestCost:
    def test_each_kind_of_token_has_its_own_price(self):
        tokens = TokenCounts(
            input=100_000, output=MILLION, cache_read=MILLION, cache_write_5m=MILLION, cache_write_1h=MILLION
        )
        assert cost(Share("claude-opus-5-5", tokens)) == 400_000 + 20_000_000 + 200_000 + 5_000_000 + 8_000_000

    def test_fractions_of_a_micro_dollar_are_rounded_up(self):
        assert cost(Share("claude-haiku-5-5", TokenCounts(cache_read=1))) == 1

    def test_nothing_used_costs_nothing(self):
        assert cost() == 0

    def test_a_prompt_over_the_threshold_makes_every_token_dearer(self):
        short = Share("claude-haiku-5-5", TokenCounts(input=60_000, cache_read=40_000, output=1000))
        long = Share("claude-haiku-5-5", TokenCounts(input=60_000, cache_read=40_001, output=1000))
        assert cost(short) == 6_000 + 400 + 500
        assert cost(long) == 30_000 + 2_001 + 2_500

    def test_a_price_holds_from_its_date(self):
        long = Share("claude-opus-4-6", TokenCounts(input=300_000))
        assert cost(long, on=date(2026, 3, 12)) == 3_000_000
        assert cost(long, on=date(2026, 3, 13)) == 1_500_000

    def test_fast_mode_region_and_web_searches_are_charged(self):
        tokens = TokenCounts(input=1000, web_searches=2)
        assert cost(Share("claude-opus-5", tokens, fast=True, us_only=True)) == 11_000 + 20_000

    def test_models_of_one_answer_are_priced_each_by_its_own(self):
        shares = [Share("demo-1", TokenCounts(output=10)), Share("claude-opus-4-1", TokenCounts(output=10))]
        assert cost(*shares) == 50 + 750


class TestUnknownModel:
    SHARES = (Share("demo-1", TokenCounts(output=10)), Share("llama-9", TokenCounts(output=10)))

    def test_its_cost_is_not_known_rather_than_nothing(self):
        assert cost(*self.SHARES) is None

    def test_budgets_are_charged_what_the_dearest_model_costs(self):
        assert budget_micro_usd(self.SHARES, TODAY) == 50 + 750
        assert dearest(TODAY).most.output == 75 * MILLION

    def test_a_warning_names_it(self, caplog: pytest.LogCaptureFixture):
        price_of.cache_clear()
        assert price_of("llama-9", TODAY) is None
        assert "llm.price_unknown" in caplog.text


class TestPriceOfModel:
    @pytest.mark.parametrize(
        ("name", "known"),
        [
            ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("claude-opus-4-1@20250805", "claude-opus-4-1"),
            ("claude-opus-5-latest", "claude-opus-5"),
            ("claude-opus-5-5[1m]", "claude-opus-5-5"),
            ("claude-sonnet-4-20250514", "claude-sonnet-4-0"),
            ("demo-1", "claude-haiku-4-5"),
        ],
    )
    def test_dated_names_cost_what_their_model_costs(self, name: str, known: str):
        price = price_of(name, TODAY)
        assert price
        assert price.model == known

    @pytest.mark.parametrize("name", ["gpt-9", "claude-opus-5-9", ""])
    def test_others_are_not_known(self, name: str):
        assert price_of(name, TODAY) is None


def test_the_kept_rates_are_those_of_the_installed_package():
    assert FILE.read_text() == extracted(), "run: python -m local.prices"
