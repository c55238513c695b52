import asyncio

import pytest

from shared.core.clock import ManualClock
from shared.core.errors import Conflict, Invalid, PlatformError, TooLarge, Unavailable
from shared.core.idempotency import Answer, IdempotencyKeys, slot
from tests.unit.world import InterleavedDocuments

ANSWER = Answer(202, '{"id": "w1"}', {"location": "/api/tasks/t1"})
PLACE = slot("uada", "/api/workspaces", "key")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def keys(clock: ManualClock) -> IdempotencyKeys:
    return IdempotencyKeys(InterleavedDocuments(), clock)


class TestKeys:
    async def test_the_first_request_goes_ahead_and_the_next_gets_its_answer(self, keys: IdempotencyKeys) -> None:
        assert await keys.begin(PLACE, b"body") is None
        await keys.finish(PLACE, b"body", ANSWER)
        assert await keys.begin(PLACE, b"body") == ANSWER

    async def test_of_simultaneous_ones_one_goes_ahead(self, keys: IdempotencyKeys) -> None:
        results = await asyncio.gather(*(keys.begin(PLACE, b"body") for _ in range(4)), return_exceptions=True)
        assert results.count(None) == 1
        assert sum(isinstance(result, Conflict) for result in results) == 3

    async def test_a_key_is_for_one_request_only(self, keys: IdempotencyKeys) -> None:
        await keys.begin(PLACE, b"body")
        with pytest.raises(Invalid, match="another request"):
            await keys.begin(PLACE, b"other body")

    async def test_people_and_addresses_have_keys_of_their_own(self, keys: IdempotencyKeys) -> None:
        assert await keys.begin(PLACE, b"body") is None
        assert await keys.begin(slot("ubob", "/api/workspaces", "key"), b"body") is None
        assert await keys.begin(slot("uada", "/api/teams", "key"), b"body") is None

    async def test_answers_older_than_a_day_are_forgotten_by_later_ones(self, clock: ManualClock) -> None:
        documents = InterleavedDocuments()
        keys = IdempotencyKeys(documents, clock)
        for wave in range(2):
            for number in range(60):
                await keys.begin(slot("uada", "/api/teams", f"{wave}/{number}"), b"")
            clock.advance(24 * 3600 + 1)
        assert sum(len(docs) for docs in documents.partitions.values()) < 80

    async def test_after_a_failure_it_may_be_tried_again(self, keys: IdempotencyKeys) -> None:
        await keys.begin(PLACE, b"body")
        await keys.abandon(PLACE)
        assert await keys.begin(PLACE, b"body") is None

    async def test_after_a_crash_it_may_be_tried_again_in_two_minutes(
        self, keys: IdempotencyKeys, clock: ManualClock
    ) -> None:
        await keys.begin(PLACE, b"body")
        clock.advance(119)
        with pytest.raises(Conflict):
            await keys.begin(PLACE, b"body")
        clock.advance(2)
        results = await asyncio.gather(*(keys.begin(PLACE, b"body") for _ in range(3)), return_exceptions=True)
        assert results.count(None) == 1
        assert sum(isinstance(result, Conflict) for result in results) == 2

    async def test_answers_are_kept_for_a_day(self, keys: IdempotencyKeys, clock: ManualClock) -> None:
        await keys.begin(PLACE, b"body")
        await keys.finish(PLACE, b"body", ANSWER)
        clock.advance(86_399)
        assert await keys.begin(PLACE, b"body") == ANSWER
        clock.advance(2)
        assert await keys.begin(PLACE, b"other body") is None


class TestAnswersThatCannotBeKept:
    async def test_a_passing_failure_is_outlived(self, clock: ManualClock) -> None:
        documents = InterleavedDocuments()
        keys = IdempotencyKeys(documents, clock)
        await keys.begin(PLACE, b"body")
        documents.fail("portal/idempotency/", Unavailable("disk full"))
        documents.fail("portal/idempotency/", Unavailable("disk full"))
        await keys.finish(PLACE, b"body", ANSWER)
        assert await keys.begin(PLACE, b"body") == ANSWER

    @pytest.mark.parametrize("reason", [Unavailable("disk full"), TooLarge("too large")])
    async def test_one_that_stays_is_no_failure_of_the_request(self, clock: ManualClock, reason: PlatformError) -> None:
        documents = InterleavedDocuments()
        keys = IdempotencyKeys(documents, clock)
        await keys.begin(PLACE, b"body")
        for _ in range(5):
            documents.fail("portal/idempotency/", reason)
        await keys.finish(PLACE, b"body", ANSWER)
        await keys.abandon(PLACE)
