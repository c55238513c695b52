from datetime import UTC, datetime, timedelta, timezone

from shared.core.clock import ManualClock, SystemClock, iso, parse


class TestIso:
    def test_a_moment_survives_being_written(self) -> None:
        moment = datetime(2026, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC)
        assert iso(moment) == "2026-03-04T05:06:07.089Z"
        assert parse(iso(moment)) == moment

    def test_every_zone_is_written_as_utc(self) -> None:
        assert iso(datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))) == "2025-12-31T23:00:00.000Z"

    def test_written_moments_sort_as_time_does(self) -> None:
        start = datetime(2025, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
        texts = [iso(start + timedelta(milliseconds=step)) for step in (0, 1, 10, 999, 1000, 60_000)]
        assert texts == sorted(texts)


class TestClocks:
    def test_a_manual_clock_moves_only_when_told(self) -> None:
        clock = ManualClock()
        first = clock.now()
        assert clock.now() == first
        clock.advance(1.5)
        assert clock.now() - first == timedelta(seconds=1.5)

    def test_the_system_clock_knows_its_zone(self) -> None:
        assert SystemClock().now().tzinfo is UTC
