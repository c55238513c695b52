"""The local server of the built web app: what a browser gets for each kind of address."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from local.web import create_app

API = "http://localhost:7071"
REALTIME = "http://localhost:4284"


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    dist = tmp_path / "dist"
    (dist / "assets").mkdir(parents=True)
    (dist / "index.html").write_text("<title>Kanban Platform</title>")
    (dist / "favicon.svg").write_text("<svg/>")
    (dist / "assets" / "index-3f2a.js").write_text("start()")
    (tmp_path / "secret.txt").write_text("not for browsers")
    return dist


@pytest.fixture
def browser(dist: Path) -> TestClient:
    return TestClient(create_app(dist, API, (REALTIME,)))


class TestPages:
    @pytest.mark.parametrize("path", ["/", "/boards/board_1", "/boards/board_1/cards/card_1", "/invite/abc"])
    def test_every_address_of_the_app_is_the_page_and_never_stale(self, browser: TestClient, path: str):
        answer = browser.get(path)
        assert answer.status_code == 200
        assert "Kanban Platform" in answer.text
        assert answer.headers["content-type"].startswith("text/html")
        assert answer.headers["cache-control"] == "no-cache"

    def test_app_that_is_not_built_says_what_to_run(self, tmp_path: Path):
        answer = TestClient(create_app(tmp_path / "missing", API)).get("/")
        assert answer.status_code == 503
        assert "make start" in answer.text


class TestFiles:
    def test_hashed_assets_are_kept_by_the_browser_for_ever(self, browser: TestClient):
        answer = browser.get("/assets/index-3f2a.js")
        assert answer.text == "start()"
        assert "javascript" in answer.headers["content-type"]
        assert "immutable" in answer.headers["cache-control"]

    def test_other_files_are_asked_for_again(self, browser: TestClient):
        assert browser.get("/favicon.svg").headers["cache-control"] == "no-cache"

    @pytest.mark.parametrize("path", ["/assets/index-old.js", "/assets/gone", "/robots.txt"])
    def test_missing_file_is_404_and_not_the_page(self, browser: TestClient, path: str):
        answer = browser.get(path)
        assert answer.status_code == 404
        assert "<title>" not in answer.text

    @pytest.mark.parametrize("path", ["/%2e%2e/secret.txt", "/assets/%2e%2e/%2e%2e/secret.txt", "//etc/passwd", "/%00"])
    def test_nothing_outside_the_build_is_served(self, browser: TestClient, path: str):
        answer = browser.get(path)
        assert "not for browsers" not in answer.text
        assert "root:" not in answer.text
        assert answer.status_code in {200, 404}


class TestConfiguration:
    def test_page_learns_where_the_api_is(self, browser: TestClient):
        answer = browser.get("/config.json")
        assert answer.json() == {"apiUrl": API}
        assert answer.headers["cache-control"] == "no-cache"


class TestSecurityHeaders:
    @pytest.mark.parametrize("path", ["/", "/config.json", "/assets/index-3f2a.js", "/assets/gone"])
    def test_every_answer_has_them(self, browser: TestClient, path: str):
        headers = browser.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]

    def test_page_may_call_the_api_and_open_the_realtime_socket_only(self, browser: TestClient):
        policy = browser.get("/").headers["content-security-policy"]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["connect-src"].split() == ["'self'", API, REALTIME, "ws://localhost:4284"]

    def test_inline_scripts_are_forbidden(self, browser: TestClient):
        policy = browser.get("/").headers["content-security-policy"]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert "script-src" not in rules
        assert rules["default-src"] == "'self'"
