import random

import pytest

from shared.core.rank import between


class TestBetween:
    @pytest.mark.parametrize("seed", range(20))
    def test_a_rank_is_always_strictly_between_its_neighbours(self, seed: int) -> None:
        chance = random.Random(seed)
        ranks: list[str] = []
        for _ in range(400):
            place = chance.choice([0, len(ranks), chance.randint(0, len(ranks))])
            above = ranks[place - 1] if place > 0 else None
            below = ranks[place] if place < len(ranks) else None
            made = between(above, below)
            assert above is None or above < made
            assert below is None or made < below
            ranks.insert(place, made)
        assert ranks == sorted(set(ranks))

    def test_there_is_always_room_next_to_a_neighbour(self) -> None:
        low, high = between(None, None), between(between(None, None), None)
        for _ in range(300):
            high = between(low, high)
            assert low < high
        for _ in range(300):
            low = between(low, high)
            assert low < high

    def test_adding_cards_at_the_end_keeps_ranks_short(self) -> None:
        rank = None
        for _ in range(5_000):
            rank = between(rank, None)
        assert rank is not None
        assert len(rank) <= 8

    def test_adding_cards_at_the_top_keeps_ranks_short(self) -> None:
        rank = None
        for _ in range(5_000):
            rank = between(None, rank)
        assert rank is not None
        assert len(rank) <= 8

    @pytest.mark.parametrize(("above", "below"), [("V", "V"), ("W", "V"), ("Va", "V")])
    def test_neighbours_out_of_order_are_refused(self, above: str, below: str) -> None:
        with pytest.raises(ValueError, match="out of order"):
            between(above, below)
