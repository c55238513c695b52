"""What goes wrong is told in one form: RFC 9457, with the request's id and no word about our insides."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from local.cloud import LocalCloud
from shared.core.ports import Put
from tests.flows.world import Json, Person, make_card, make_team, problem, stored


@pytest.fixture(scope="module")
async def team(ada: Person) -> Json:
    return await make_team(ada, "Mistakes")


@pytest.fixture
async def broken_card(ada: Person, cloud: LocalCloud, team: Json) -> str:
    """A card whose document no longer is one, as a fault of ours would leave it."""
    card_id = (await make_card(ada, team["board_id"], "Broken"))["id"]
    partition = f"boards/{team['id']}"
    async with stored(cloud) as documents:
        kept = await documents.get(partition, f"card/{card_id}")
        assert kept is not None
        await documents.commit(partition, [Put(f"card/{card_id}", {"secret": "interior"}, kept.etag)])
        yield card_id
        await documents.commit(partition, [Put(f"card/{card_id}", kept.body, "*")])


class TestProblem:
    @pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"title": NaN}x'])
    async def test_a_body_that_cannot_be_read_is_400(self, ada: Person, team: Json, content: bytes):
        answer = await ada.request(
            "POST",
            f"/api/boards/{team['board_id']}/cards",
            content=content,
            headers={"content-type": "application/json"},
        )
        body = problem(answer)
        assert body["status"] == 400
        assert body["type"].endswith("/bad-request")
        assert "JSON" in body["detail"]

    @pytest.mark.parametrize("path", ["/api/auth/callback", "/api/agents/agent_t0000000000_default/webhook"])
    async def test_a_body_larger_than_any_route_takes_is_413(self, ada: Person, path: str):
        async def endless() -> AsyncGenerator[bytes]:
            for _ in range(64):
                yield b"[" * 100_000

        answer = await ada.request("POST", path, content=endless(), headers={"content-type": "application/json"})
        assert problem(answer)["type"].endswith("/too-large")

    async def test_no_credentials_is_401(self, cloud: LocalCloud):
        async with Person(cloud) as visitor:
            assert (await visitor.refused("GET", "/api/auth/me"))["type"].endswith("/unauthenticated")

    @pytest.mark.parametrize("path", ["/api/nothing", "/api/cards/x", "/api/cards/card_x_y", "/api/runs/run_t_1"])
    async def test_what_is_not_there_is_404(self, ada: Person, path: str):
        answer = await ada.request("GET", path)
        assert answer.status_code == 404
        if path != "/api/nothing":  # no function has that route: the host answers
            assert problem(answer)["type"].endswith("/not-found")

    async def test_a_method_that_does_not_fit_is_405(self, ada: Person):
        answer = await ada.request("DELETE", "/api/auth/me")
        assert problem(answer)["status"] == 405
        assert answer.headers["allow"] == "GET"

    async def test_a_broken_rule_is_409(self, ada: Person, team: Json):
        body = {"title": "Straight to work", "column_id": "progress"}
        refused = await ada.refused("POST", f"/api/boards/{team['board_id']}/cards", body)
        assert refused["type"].endswith("/conflict")

    async def test_a_stale_etag_is_412(self, ada: Person, team: Json):
        card = await make_card(ada, team["board_id"], "Stale")
        await ada.patch(f"/api/cards/{card['id']}", {"title": "Fresh"})
        headers = {"if-match": f'"{card["etag"]}"'}
        answer = await ada.request("PATCH", f"/api/cards/{card['id']}", json={"title": "Mine"}, headers=headers)
        assert problem(answer)["type"].endswith("/stale")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "title"),
            ({"title": ""}, "title"),
            ({"title": "x" * 201}, "title"),
            ({"title": "a\x00b"}, "title"),
            ({"title": "a\nb"}, "title"),
            ({"title": "x", "checklist": [{"id": "x" * 65, "text": "y"}]}, "checklist.0.id"),
            ({"title": "x", "due_date": "tomorrow"}, "due_date"),
            ({"title": "x", "labels": "red"}, "labels"),
            ({"title": "x", "labels": [""]}, "labels.0"),
            ({"title": "x", "unknown": 1}, "unknown"),
            ({"title": "x", "body": "y" * 64_001}, "body"),
            ([], ""),
            ("x", ""),
            (None, ""),
        ],
    )
    async def test_a_field_that_does_not_fit_is_422_and_named(self, ada: Person, team: Json, body: Any, field: str):
        refused = await ada.refused("POST", f"/api/boards/{team['board_id']}/cards", body)
        assert refused["status"] == 422
        assert field in [error["field"] for error in refused["errors"]]
        assert refused["detail"]

    async def test_text_that_is_no_text_is_422(self, ada: Person, team: Json):
        answer = await ada.request(
            "POST",
            f"/api/boards/{team['board_id']}/cards",
            content=b'{"title": "half a \\ud800 character"}',
            headers={"content-type": "application/json"},
        )
        assert problem(answer)["status"] == 422

    @pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=0", "limit=100000"])
    async def test_a_query_that_does_not_fit_is_422(self, ada: Person, team: Json, query: str):
        assert (await ada.refused("GET", f"/api/boards/{team['board_id']}/events?{query}"))["status"] == 422

    async def test_a_fault_of_ours_is_500_and_tells_nothing(self, ada: Person, cloud: LocalCloud, broken_card: str):
        answer = await ada.request("GET", f"/api/cards/{broken_card}", headers={"origin": cloud.web_url})
        assert problem(answer)["status"] == 500
        assert answer.headers["access-control-allow-origin"] == cloud.web_url
        for inside in ("interior", "Traceback", "pydantic", "validation", "shared/", str(cloud.data)):
            assert inside not in answer.text

    async def test_a_callers_own_request_id_comes_back(self, ada: Person):
        answer = await ada.request("GET", "/api/auth/me", headers={"x-request-id": "abc-123"})
        assert answer.headers["x-request-id"] == "abc-123"

    @pytest.mark.parametrize("sent", ["x" * 500, "a b", "<script>"])
    async def test_one_that_could_do_harm_does_not(self, ada: Person, sent: str):
        answer = await ada.request("GET", "/api/auth/me", headers={"x-request-id": sent})
        assert answer.headers["x-request-id"] not in ("", sent)


class TestCors:
    async def _preflight(self, person: Person, origin: str) -> Any:
        headers = {
            "origin": origin,
            "access-control-request-method": "PATCH",
            "access-control-request-headers": "authorization,content-type,if-match,idempotency-key",
        }
        return await person.request("OPTIONS", "/api/cards/any", headers=headers)

    async def test_the_web_app_may_call(self, ada: Person, cloud: LocalCloud):
        answer = await self._preflight(ada, cloud.web_url)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == cloud.web_url
        assert "PATCH" in answer.headers["access-control-allow-methods"]
        assert "if-match" in answer.headers["access-control-allow-headers"].lower()

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1"])
    async def test_other_origins_may_not(self, ada: Person, origin: str):
        answer = await self._preflight(ada, origin)
        assert answer.status_code == 400
        assert "access-control-allow-origin" not in answer.headers
        answer = await ada.request("GET", "/api/auth/me", headers={"origin": origin})
        assert "access-control-allow-origin" not in answer.headers

    async def test_the_web_app_may_read_what_it_needs(self, ada: Person, cloud: LocalCloud):
        answer = await ada.request("GET", "/api/auth/me", headers={"origin": cloud.web_url})
        exposed = answer.headers["access-control-expose-headers"].lower()
        for name in ("etag", "location", "retry-after", "x-request-id"):
            assert name in exposed

    async def test_errors_can_be_read_too(self, cloud: LocalCloud):
        async with Person(cloud) as visitor:
            answer = await visitor.request("GET", "/api/auth/me", headers={"origin": cloud.web_url})
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == cloud.web_url


class TestDescription:
    async def test_health_needs_no_credentials(self, cloud: LocalCloud):
        async with Person(cloud) as visitor:
            health = await visitor.get("/api/health")
        assert health["status"] == "ok"
        assert health["version"]

    async def test_openapi_names_every_area(self, cloud: LocalCloud):
        async with Person(cloud) as visitor:
            description = await visitor.get("/api/openapi.json")
            docs = await visitor.request("GET", "/api/docs")
        assert description["openapi"].startswith("3.")
        areas = {path.split("/")[2] for path in description["paths"]}
        assert {"auth", "teams", "workspaces", "boards", "cards", "tasks", "runs", "agents", "v1"} <= areas
        assert docs.status_code == 200
        assert "openapi.json" in docs.text
