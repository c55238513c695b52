"""What goes wrong is told in one form: RFC 9457, with the request's id and no word about our insides."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from local.cloud import LocalCloud
from shared.core.ports import Put
from tests.flows.world import Json, Person, events_of, make_card, make_team, problem, stored

UNSEEN = ["\x00", "\n", "\r", "\t", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\u2029", "\u202e", "\u2066"]
"""Control characters, ends of lines, and what turns the direction of writing."""
TEXTS = [
    "".join(map(chr, range(32))),
    "".join(map(chr, range(0x7F, 0xA0))),
    "\u2028\u2029\u202e\u200b\ufeff\ufffe\uffff",
    "🂡👩‍👩‍👧 \U0010ffff\U000e0001",
    "e\u0301 é \u0041\u030a Å",
    '"; DROP TABLE cards; -- <script>alert(1)</script> {{7*7}} ${7*7} %s %n ../../etc/passwd',
    "\\ud800 \\u0000 \\",
    "עברית العربية 中文 \u0e01\u0e33",
    "x" * 64_000,
    "🂡" * 15_000,
]


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
    @pytest.mark.parametrize(
        "content",
        [
            b"{",
            b"\xff\xfe",
            b'{"title": "\xff"}',
            b"[" * 100_000,
            b'{"title": ' + b"[" * 2_000 + b"]" * 2_000 + b"}",
            b'{"title": "x"} {}',
            b'{"title": "x",}',
            b"{'title': 'x'}",
            b'{"title": "half a \\ud800 character"}',
            b'{"half a \\udc00 name": 1}',
            b'{"title": "a raw \n end of line"}',
            *(b'{"title": "x", "due_date": %b}' % number for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999")),
        ],
    )
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

    @pytest.mark.parametrize(
        "path", ["/api/auth/callback", "/api/agents/agent_t0000000000_default/webhook", "/api/teams"]
    )
    async def test_a_body_of_ten_megabytes_is_413(self, ada: Person, path: str):
        """Whether its length is told, or it comes in pieces."""

        async def pieces() -> AsyncGenerator[bytes]:
            for _ in range(100):
                yield b"[" * 100_000

        for content in (b'{"name": "%b"}' % (b"x" * 10_000_000), pieces()):
            answer = await ada.request("POST", path, content=content, headers={"content-type": "application/json"})
            assert problem(answer)["status"] == 413
            assert problem(answer)["type"].endswith("/too-large")

    async def test_a_body_that_is_not_called_json_is_422(self, ada: Person):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"):
            answer = await ada.request("POST", "/api/teams", content=b'{"name": "x"}', headers={"content-type": kind})
            assert problem(answer)["status"] == 422, kind

    async def test_of_very_many_mistakes_some_are_told(self, ada: Person):
        body = {f"unknown {n} {'x' * 500}": n for n in range(3_000)}
        answer = await ada.request("POST", "/api/teams", json=body)
        assert problem(answer)["status"] == 422
        assert len(answer.content) < 20_000

    async def test_no_credentials_is_401(self, cloud: LocalCloud):
        async with Person(cloud) as visitor:
            assert (await visitor.refused("GET", "/api/auth/me"))["type"].endswith("/unauthenticated")

    @pytest.mark.parametrize(
        "path",
        [
            "/api/nothing",
            "/api/teams/",
            "/api/cards/x",
            "/api/cards/card_x_y",
            "/api/runs/run_t_1",
            *(f"/api/{kind}/{'x' * 3_000}" for kind in ("teams", "workspaces", "boards", "cards", "tasks", "runs")),
            *(f"/api/{kind}/%2e%2e" for kind in ("teams", "workspaces", "boards", "cards", "tasks", "runs")),
            *(f"/api/teams/t{odd}" for odd in ("%00", "%0d%0aset-cookie:%20x=1", "%ff%fe", "%c3%a9", "%f0%9f%82%a1")),
            "/api/boards/board_t0000000000%2f..%2fboard_t0000000001",
            "/api/invitations/" + "-" * 3_000,
        ],
    )
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
            ({"title": 5}, "title"),
            ({"title": " \t "}, "title"),
            ({"title": "\u200b\u2060"}, "title"),
            *(({"title": f"a{odd}b"}, "title") for odd in UNSEEN),
            *(({"title": "x", "labels": [f"a{odd}b"]}, "labels.0") for odd in UNSEEN),
            ({"title": "x", "due_date": 1_700_000_000}, "due_date"),
            ({"title": "x", "due_date": "2026-02-30"}, "due_date"),
            ({"title": "x", "due_date": "2026-11-25T00:00:00Z"}, "due_date"),
            ({"title": "x", "checklist": [{"text": "y", "done": 1}]}, "checklist.0.done"),
            ({"title": "x", "column_id": "y" * 10_000}, "column_id"),
            ({"title": "x", "assignee_id": "y" * 10_000}, "assignee_id"),
            ({"title": "x", "checklist": [{"text": "y"}] * 101}, "checklist"),
            ({"title": "x", "labels": ["y"] * 21}, "labels"),
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

    @pytest.mark.parametrize(
        "query",
        [
            *(f"after={wrong}" for wrong in ("-1", "x", "", "1.5", "1e3", "0x10", "null", "9" * 30, "%00")),
            "after=" + "9" * 5_000,
            *(f"limit={wrong}" for wrong in ("0", "-5", "1001", "100000", "9" * 30, "NaN", "%F0%9F%82%A1")),
        ],
    )
    async def test_a_query_that_does_not_fit_is_422(self, ada: Person, team: Json, query: str):
        for subject in (f"boards/{team['board_id']}", f"tasks/{team['task_id']}"):
            assert (await ada.refused("GET", f"/api/{subject}/events?{query}"))["status"] == 422

    async def test_a_sequence_from_elsewhere_shows_nothing(self, ada: Person, team: Json):
        page = await ada.get(f"/api/boards/{team['board_id']}/events", after=2**53)
        assert page["items"] == []
        assert page["last"] < 1_000

    async def test_a_fault_of_ours_is_500_and_tells_nothing(self, ada: Person, cloud: LocalCloud, broken_card: str):
        answer = await ada.request("GET", f"/api/cards/{broken_card}", headers={"origin": cloud.web_url})
        assert problem(answer)["status"] == 500
        assert answer.headers["access-control-allow-origin"] == cloud.web_url
        for inside in ("interior", "Traceback", "pydantic", "validation", "shared/", str(cloud.data)):
            assert inside not in answer.text

    async def test_a_callers_own_request_id_comes_back(self, ada: Person):
        answer = await ada.request("GET", "/api/auth/me", headers={"x-request-id": "abc-123"})
        assert answer.headers["x-request-id"] == "abc-123"

    @pytest.mark.parametrize("sent", ["x" * 500, "a" + 500 * "-", "a b", "<script>"])
    async def test_one_that_could_do_harm_does_not(self, ada: Person, sent: str):
        answer = await ada.request("GET", "/api/auth/me", headers={"x-request-id": sent})
        assert answer.headers["x-request-id"] not in ("", sent)


class TestText:
    """Whatever Unicode can write is kept as it was sent, or refused."""

    async def test_of_people_comes_back_as_it_was(self, ada: Person, team: Json):
        for text in TEXTS:
            checklist = [{"id": "1", "text": f"x{text[:400]}", "done": False}]
            card = await make_card(ada, team["board_id"], "Odd", text, checklist=checklist)
            comment = await ada.post(f"/api/cards/{card['id']}/comments", {"body": f"x{text[:15_000]}"})
            kept = await ada.get(f"/api/cards/{card['id']}")
            assert (kept["body"], kept["checklist"]) == (text, checklist), repr(text)[:50]
            assert comment in (await ada.get(f"/api/cards/{card['id']}/comments"))["items"]
        assert await events_of(ada, f"boards/{team['board_id']}")
        assert (await ada.get(f"/api/boards/{team['board_id']}"))["cards"]

    async def test_of_names_is_the_same_however_it_was_typed(self, ada: Person, team: Json):
        composed, decomposed = "Café Ångström", "Cafe\u0301 A\u030angstro\u0308m"
        assert composed != decomposed
        card = await make_card(ada, team["board_id"], decomposed, "crème", labels=[decomposed, "ﬁn"])
        assert (card["title"], card["labels"]) == (composed, [composed, "ﬁn"])
        for words in (composed, decomposed, composed.upper(), "cre\u0300me"):
            found = await ada.get(f"/api/boards/{team['board_id']}/search", q=words)
            assert card["id"] in [item["id"] for item in found["items"]], words
        renamed = await ada.patch(f"/api/cards/{card['id']}", {"title": decomposed})
        assert (renamed["title"], renamed["etag"]) == (composed, card["etag"])

    @pytest.mark.parametrize("path", ["/api/teams", "/api/workspaces", "/api/auth/tokens"])
    async def test_of_names_holds_nothing_unseen(self, ada: Person, path: str):
        for name in ("", "  ", "\u200b", *(f"a{odd}b" for odd in UNSEEN)):
            assert (await ada.refused("POST", path, {"name": name}))["status"] == 422, repr(name)

    @pytest.mark.parametrize("name", ["if-match", "idempotency-key", "origin", "user-agent", "x-request-id", "accept"])
    async def test_of_headers_starts_no_other_header(self, ada: Person, team: Json, name: str):
        card = await make_card(ada, team["board_id"], "Headed")
        for value in (b"\xff\xfe", b'a"b', b"x" * 4_000, "é".encode(), b"a%0d%0aset-cookie: x=1", b"W/", b'""'):
            path = f"/api/boards/{team['board_id']}/cards" if name == "idempotency-key" else f"/api/cards/{card['id']}"
            method, body = ("POST", {"title": "x"}) if name == "idempotency-key" else ("PATCH", {"body": "x"})
            answer = await ada.request(method, path, json=body, headers={name: value})
            assert answer.status_code in (200, 201, 412, 422), (value, answer.text[:200])
            assert "set-cookie" not in answer.headers
            assert "\n" not in str(answer.headers)

    async def test_of_the_host_header_names_no_address(self, ada: Person, team: Json):
        for path in ("/api/teams", "/api/teams/", "/api/docs", f"/api/teams/{team['id']}", "/api/v1", "/api/v1/"):
            answer = await ada.request("GET", path, headers={"host": "evil.example"})
            assert "evil.example" not in str(answer.headers) + answer.text


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
