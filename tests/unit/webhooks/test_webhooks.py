from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from shared.adapters.standard_webhooks import StandardWebhooks
from shared.core.clock import ManualClock
from shared.core.errors import Invalid, Unauthenticated, Unavailable
from shared.core.events import CardData, CardEvent
from shared.core.ports import Json
from shared.core.resources import Actor, CardSummary
from shared.webhooks.service import WebhookService
from tests.fakes import FakeSecrets
from tests.fakes.webhooks import FakeWebhookSender
from tests.unit.world import StoreWorld, World

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "https://agent.example/hook"
SCOPE = "w0123456789"
EVENT = CardEvent(
    id="evt_1",
    type="card.moved",
    time="2026-01-01T00:00:00.000Z",
    subject=f"board/board_{SCOPE}",
    sequence=0,
    data=CardData(
        team_id="t0123456789",
        board_id=f"board_{SCOPE}",
        by=Actor(id="u1", name="Ada", kind="user"),
        from_column="ready",
        card=CardSummary(
            id=f"card_{SCOPE}_1",
            column_id="progress",
            rank="a",
            title="Ünïcode",
            updated_at="2026-01-01T00:00:00.000Z",
        ),
    ),
).model_dump(mode="json", exclude={"sequence"})
MESSAGE: Json = {"version": 1, "url": URL, "secret_name": f"webhook-{SCOPE}", "event": EVENT}


def with_data(**changes: Any) -> Json:
    return MESSAGE | {"event": EVENT | {"data": EVENT["data"] | changes}}


class Post:
    def __init__(self) -> None:
        self.sender, self.secrets = FakeWebhookSender(), FakeSecrets()
        world = StoreWorld(clock=ManualClock(datetime.now(UTC)))
        self.queues = world.queues
        self.secrets.secrets[f"webhook-{SCOPE}"] = SECRET
        self.service = WebhookService(world.store, self.secrets, StandardWebhooks(), self.sender, self.queues)


@pytest.fixture
def post() -> Post:
    return Post()


class TestDeliver:
    async def test_the_event_is_posted_and_its_signature_verifies(self, post: Post) -> None:
        await post.service.deliver(MESSAGE)
        ((url, body, headers),) = post.sender.posts
        assert (url, orjson.loads(body)) == (URL, EVENT)
        assert headers["content-type"] == "application/json"
        assert StandardWebhooks().verify(SECRET, headers, body) == "evt_1"
        with pytest.raises(Unauthenticated):
            StandardWebhooks().verify(SECRET, headers, body + b" ")
        assert post.queues.sent == []

    async def test_delivering_it_again_carries_the_same_id(self, post: Post) -> None:
        for _ in range(2):
            await post.service.deliver(MESSAGE)
        assert {headers["webhook-id"] for _, _, headers in post.sender.posts} == {"evt_1"}

    @pytest.mark.parametrize("status", [500, 502, 503, 408, 425, 429])
    async def test_a_subscriber_in_trouble_is_tried_again(self, post: Post, status: int) -> None:
        post.sender.status = status
        with pytest.raises(Unavailable, match=str(status)):
            await post.service.deliver(MESSAGE)
        assert post.queues.sent == []

    async def test_a_subscriber_that_does_not_answer_is_tried_again(self, post: Post) -> None:
        post.sender.down = True
        with pytest.raises(Unavailable):
            await post.service.deliver(MESSAGE)

    @pytest.mark.parametrize("status", [301, 400, 401, 404, 410, 422])
    async def test_a_subscriber_that_refuses_is_given_up(self, post: Post, status: int) -> None:
        post.sender.status = status
        await post.service.deliver(MESSAGE)
        (told,) = post.queues.bodies("agent-runs")
        assert told["undelivered"] == EVENT
        assert told["reason"] == f"The webhook could not be delivered: the agent's address answered {status}."

    async def test_without_its_secret_nothing_is_sent(self, post: Post) -> None:
        post.secrets.secrets.clear()
        await post.service.deliver(MESSAGE)
        assert post.sender.posts == []
        assert "secret is gone" in post.queues.bodies("agent-runs")[0]["reason"]

    @pytest.mark.parametrize(
        "message",
        [
            {},
            {"raw": "x"},
            *(
                MESSAGE | changed
                for changed in (
                    {"version": 2},
                    {"version": True},
                    {"version": "1"},
                    {"extra": 1},
                    {"url": 5},
                    {"url": "file:///etc/passwd"},
                    {"url": "http://a\r\nx: y"},
                    {"secret_name": "token-signing-key"},
                    {"secret_name": "webhook-w9999999999"},
                    {"event": {}},
                    {"event": "card.moved"},
                    {"event": {name: value for name, value in EVENT.items() if name != "id"}},
                    {"event": EVENT | {"id": ""}},
                    {"event": EVENT | {"type": "card.updated"}},
                    {"event": EVENT | {"type": "unheard.of"}},
                )
            ),
            with_data(board_id="board_w9999999999"),
            with_data(board_id="../.."),
            with_data(card=EVENT["data"]["card"] | {"id": "card_w9999999999_1"}),
            with_data(card=EVENT["data"]["card"] | {"id": "nonsense"}),
        ],
    )
    async def test_what_is_no_delivery_is_an_error(self, post: Post, message: Json) -> None:
        with pytest.raises(Invalid):
            await post.service.deliver(message)
        with pytest.raises(Invalid):
            await post.service.give_up(message, "nobody answered")
        assert post.sender.posts == []


class TestWatch:
    """A host that dies while it delivers hides the message; the move must not wait for the queue."""

    async def test_a_delivery_whose_message_is_lost_is_sent_again_and_starts_one_run(self) -> None:
        world = World()
        ada = await world.person("Ada")
        workspace = await world.workspace(ada)
        card = await world.card(ada, workspace.board_id)
        await world.move(ada, card.id, "progress")
        world.lose_messages()
        assert await world.platform.webhooks.watch() == 0
        world.clock.advance(46)
        assert await world.platform.webhooks.watch() == 1
        await world.pump()
        assert len(await world.platform.runs.of_card(ada, card.id)) == 1
        assert world.open_rows("delivery/") == []
        assert world.rows(f"boards/{workspace.id}", "delivery/") == []

    async def test_what_arrived_is_not_sent_again(self) -> None:
        world = World()
        ada = await world.person("Ada")
        workspace = await world.workspace(ada)
        card = await world.card(ada, workspace.board_id)
        await world.move(ada, card.id, "progress")
        assert len(world.open_rows("delivery/")) == 1
        await world.pump()
        assert world.open_rows("delivery/") == []
        world.clock.advance(46)
        assert await world.platform.webhooks.watch() == 0
