"""The realtime emulator's bell: messages it carries are sent only where none is missing before them."""

import pytest

from local.pubsub.doorbell import Bell, Message


class TestBell:
    @pytest.mark.parametrize(
        ("rung", "taken"),
        [
            ([(4, "a"), (5, "b")], [(4, "a"), (5, "b")]),
            ([(5, "b")], []),
            ([(4, "a"), (6, "c")], []),
            ([(3, "sent"), (4, "a")], []),
            ([None, (4, "a")], []),
            ([None], []),
            ([], []),
        ],
        ids=["follow", "one is missing", "one between", "one was sent", "closed before", "closed", "quiet"],
    )
    def test_what_it_carries_must_follow_on_what_was_sent(self, rung: list[Message | None], taken: list[Message]):
        bell = Bell()
        for message in rung:
            bell.ring(message)
        assert bell.take(after=3) == taken

    def test_more_than_it_can_carry_shows_as_a_gap(self):
        bell = Bell()
        for sequence in range(1, 2_000):
            bell.ring((sequence, "x"))
        carried = bell.take(after=0)
        bell.ring((2_000, "y"))
        assert carried[0] == (1, "x")
        assert bell.take(after=carried[-1][0]) == []
