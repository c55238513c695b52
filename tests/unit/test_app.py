"""The API is made by the first request that needs it, however that goes."""

import asyncio
import sys
import threading
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from functions.app import Later, create_app
from shared.bootstrap import adapters, build
from shared.core.settings import Settings

WEB = "https://web.test"


class Making:
    """Makes an application when it is `free` to; the first `failures` times it cannot."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.times = failures, 0
        self.free = threading.Event()
        self.free.set()

    def __call__(self) -> ASGIApp:
        self.times += 1
        self.free.wait(10)
        if self.times <= self.failures:
            raise RuntimeError("no room on the disk")
        return PlainTextResponse("made")


def client(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test")


async def begun(making: Making) -> None:
    while not making.times:
        await asyncio.sleep(0.001)


class TestLater:
    async def test_first_requests_at_once_make_it_once(self):
        making = Making()
        async with client(Later(making)) as http:
            answers = await asyncio.gather(*(http.get("/") for _ in range(5)))
        assert [answer.text for answer in answers] == ["made"] * 5
        assert making.times == 1

    async def test_what_could_not_be_made_is_made_by_the_next_request(self):
        making = Making(failures=1)
        async with client(Later(making)) as http:
            with pytest.raises(RuntimeError):
                await http.get("/")
            assert (await http.get("/")).text == "made"
        assert making.times == 2

    async def test_requests_that_wait_for_the_same_attempt_share_its_failure(self):
        making = Making(failures=1)
        async with client(Later(making)) as http:
            answers = await asyncio.gather(*(http.get("/") for _ in range(5)), return_exceptions=True)
            assert [str(answer) for answer in answers] == ["no room on the disk"] * 5
            assert making.times == 1
            assert (await http.get("/")).text == "made"

    @pytest.mark.parametrize("times", [1, 2])
    async def test_a_first_request_that_is_given_up_keeps_no_other_from_it(self, times: int):
        making = Making()
        making.free.clear()
        async with client(Later(making)) as http:
            first, second = (asyncio.create_task(http.get("/")) for _ in range(2))
            await begun(making)
            for _ in range(times):
                first.cancel()
                await asyncio.sleep(0)
            making.free.set()
            assert (await second).text == "made"
        await asyncio.wait({first})
        assert first.cancelled()


class TestCreateApp:
    async def test_an_api_that_cannot_be_made_is_told_as_a_problem_and_made_later(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        settings = Settings(data_dir=tmp_path, public_web_url=WEB)
        async with client(create_app(build(settings, adapters(settings)))) as http:
            with monkeypatch.context() as broken:
                broken.setitem(sys.modules, "functions.api", None)
                refused = await http.get("/api/health", headers={"origin": WEB, "x-request-id": "mine"})
            assert refused.status_code == 500
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.headers["access-control-allow-origin"] == WEB
            assert refused.json()["request_id"] == refused.headers["x-request-id"] == "mine"
            assert "functions" not in refused.text
            assert [(record.message, bool(record.exc_info)) for record in caplog.records] == [
                ("api.unexpected_error", True)
            ]
            assert (await http.get("/api/health")).status_code == 200
