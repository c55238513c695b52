"""The gateway over HTTP: real clients in front, a scripted model service behind, bytes compared at both ends."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import orjson
import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from functions import llm
from functions.model_gateway import LARGEST_BODY, ModelGateway
from shared.adapters.anthropic_upstream import AnthropicUpstream, Patience
from shared.adapters.jwt_tokens import JwtTokens
from shared.adapters.provider_credentials import api_key
from shared.core.clock import ManualClock
from shared.llm.keys import new_key
from shared.llm.upstream import Incoming, Outgoing
from tests.fakes import FakeSecrets
from tests.fakes.upstream import Script, UpstreamApp, message, sse, stream_events
from tests.serving import base_url, listening_socket, serve
from tests.unit.llm.world import RUN, World

MODEL = "claude-sonnet-5-5"
ASKED = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]}
EVENTS = sse(*stream_events(cache_read_input_tokens=1000, cache_creation_input_tokens=100))


@dataclass
class Stage:
    world: World
    app: UpstreamApp
    url: str
    token: str

    def sdk(self, **options: Any) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(
            **{"base_url": f"{self.url}/api", "auth_token": self.token, "api_key": None, "max_retries": 0} | options
        )

    def http(self, **options: Any) -> httpx.AsyncClient:
        headers = {"x-api-key": self.token, "anthropic-version": "2023-06-01"}
        return httpx.AsyncClient(base_url=f"{self.url}/api/v1", headers=headers, timeout=20, **options)

    async def usage(self) -> dict[str, Any]:
        """The next usage message; it is sent when the answer is over."""
        for _ in range(200):
            if found := self.world.usage():
                return found[0]
            await asyncio.sleep(0.01)
        raise AssertionError("no usage message came within two seconds")


type Staging = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture(scope="module")
async def staging() -> AsyncGenerator[Staging]:
    """Both servers, kept for the module; each stage has a world and a model service's script of its own."""
    app, api, worlds = UpstreamApp(), FastAPI(), list[World]()
    api.include_router(llm.router)

    async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
        await ModelGateway(api, worlds[-1].gateway)(scope, receive, send)

    async with serve(app) as model_url, serve(gateway) as url:

        @asynccontextmanager
        async def staged(
            ping_seconds: float = 15,
            cap: int = 5_000_000,
            upstream: str = "",
            silence: float = 30,
            fail_open: bool = False,
        ) -> AsyncGenerator[Stage]:
            app.received.clear()
            clock, secrets = ManualClock(), FakeSecrets()
            world = World(
                AnthropicUpstream(
                    upstream or f"{model_url}/some/path/", api_key("sk-platform"), Patience(idle=silence)
                ),
                ping_seconds,
                fail_open,
                clock,
                secrets=secrets,
                tokens=JwtTokens(secrets, url, clock),
            )
            worlds.append(world)
            yield Stage(world, app, url, await world.run_token(cap=cap))
            await world.gateway.close()

        yield staged


@pytest.fixture
async def stage(staging: Staging) -> AsyncGenerator[Stage]:
    async with staging() as stage:
        yield stage


class TestStreaming:
    async def test_the_clients_bytes_are_the_model_services_bytes(self, stage: Stage):
        halves = [b"".join(EVENTS)[:333], b"".join(EVENTS)[333:]]
        stage.app.script = Script.stream(*halves)
        async with stage.http() as http, http.stream("POST", "/messages", json=ASKED | {"stream": True}) as answer:
            assert b"".join([chunk async for chunk in answer.aiter_raw()]) == b"".join(EVENTS)
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["request-id"] == "req_up"

    async def test_the_first_chunk_arrives_before_the_last_is_produced(self, stage: Stage):
        read = asyncio.Event()
        stage.app.script = Script(200, Script.stream().headers, [EVENTS[0], read, *EVENTS[1:]])  # type: ignore[list-item]
        async with stage.http() as http, http.stream("POST", "/messages", json=ASKED | {"stream": True}) as answer:
            chunks = answer.aiter_raw()
            assert await anext(chunks) == EVENTS[0]
            assert stage.app.received[0].sent == EVENTS[:1]
            read.set()
            assert b"".join([chunk async for chunk in chunks]) == b"".join(EVENTS[1:])

    async def test_the_sdk_assembles_the_message_and_its_usage(self, stage: Stage):
        stage.app.script = Script.stream(*EVENTS)
        async with stage.sdk() as client, client.messages.stream(**ASKED) as stream:  # type: ignore[arg-type]
            final = await stream.get_final_message()
        assert [block.text for block in final.content if block.type == "text"] == ["Hello"]
        assert (final.usage.output_tokens, final.usage.cache_read_input_tokens) == (12, 1000)
        sent = await stage.usage()
        assert (sent["input_tokens"], sent["cache_read_tokens"], sent["cache_write_tokens"]) == (10, 1000, 100)
        assert sent["cost_micro_usd"] == 10 * 2 + 12 * 10 + 100 + 250
        assert (sent["run_id"], sent["status"]) == (RUN, 200)

    async def test_a_silent_stream_carries_pings_the_sdk_understands(self, staging: Staging):
        async with staging(ping_seconds=0.05) as stage:
            stage.app.script = Script.stream(*EVENTS[:3], 0.2, *EVENTS[3:])
            async with stage.http() as http:
                body = (await http.post("/messages", json=ASKED | {"stream": True})).content
            assert body.count(b"event: ping\n") >= 2
            assert body.replace(b'event: ping\ndata: {"type": "ping"}\n\n', b"") == b"".join(EVENTS)
            async with stage.sdk() as client, client.messages.stream(**ASKED) as stream:  # type: ignore[arg-type]
                assert await stream.get_final_text() == "Hello"

    async def test_a_stream_compressed_against_our_wish_passes_and_is_billed(self, stage: Stage):
        headers = [("content-type", "text/event-stream"), ("content-encoding", "gzip")]
        stage.app.script = Script(200, headers, [gzip.compress(b"".join(EVENTS))])
        async with stage.http() as http:
            assert (await http.post("/messages", json=ASKED | {"stream": True})).content == b"".join(EVENTS)
        assert stage.app.received[0].all("accept-encoding") == ["identity"]
        assert (await stage.usage())["output_tokens"] == 12


class TestDisconnect:
    async def test_leaving_a_stream_ends_it_at_the_model_service(self, stage: Stage):
        stage.app.script = Script.stream(*EVENTS[:3], 60.0)
        async with stage.http() as http, http.stream("POST", "/messages", json=ASKED | {"stream": True}) as answer:
            await anext(answer.aiter_raw())
        await asyncio.wait_for(stage.app.received[0].cancelled.wait(), 5)
        sent = await stage.usage()
        assert (sent["input_tokens"], sent["cache_read_tokens"], sent["status"]) == (10, 1000, 499)

    async def test_leaving_before_an_answer_ends_it_too(self, stage: Stage):
        stage.app.script = Script(steps=[60.0])
        async with stage.http() as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.post("/messages", json=ASKED, timeout=0.2)
        await asyncio.wait_for(stage.app.received[0].cancelled.wait(), 5)
        assert (await stage.usage())["status"] == 499


class TestRequest:
    async def test_body_betas_and_query_reach_the_model_service_byte_for_byte(self, stage: Stage):
        stage.app.script = Script.json(message())
        body = b'{"model": "claude-sonnet-5-5",  "new_field": {"pi": 3.140}, "messages": [], "max_tokens": 1}\n'
        beta = {"anthropic-beta": "one-2026-01-01,two-2026-02-02", "content-type": "application/json"}
        async with stage.http() as http:
            await http.post("/messages?beta=true&x=%20%41%7e", content=body, headers=beta)
        (got,) = stage.app.received
        assert (got.path, got.query, got.body) == ("/some/path/v1/messages", b"beta=true&x=%20%41%7e", body)
        assert got.all("anthropic-beta") == [beta["anthropic-beta"]]
        assert got.all("anthropic-version") == ["2023-06-01"]
        assert got.all("content-type") == ["application/json"]

    async def test_a_path_goes_on_as_it_was_understood(self, stage: Stage):
        stage.app.script = Script.json(message())
        async with stage.http() as http:
            assert (await http.post("/%6dessages", json=ASKED)).status_code == 200
        assert [got.path for got in stage.app.received] == ["/some/path/v1/messages"]

    async def test_the_platforms_key_takes_the_place_of_the_callers(self, stage: Stage):
        stage.app.script = Script.json(message())
        async with stage.sdk() as client:
            await client.messages.create(**ASKED)  # type: ignore[arg-type]
        (got,) = stage.app.received
        assert got.all("x-api-key") == ["sk-platform"]
        assert got.all("authorization") == []
        assert stage.token not in str(got)
        assert got.all("user-agent")[0].startswith("AsyncAnthropic/Python")

    async def test_the_sdks_beta_calls_work(self, stage: Stage):
        stage.app.script = Script.json(message())
        async with stage.sdk() as client:
            await client.beta.messages.create(
                **ASKED,  # type: ignore[arg-type]
                betas=["files-api-2025-04-14"],
                extra_body={"novel": [1]},
                extra_query={"beta": "true"},
            )
        (got,) = stage.app.received
        assert (got.query, got.all("anthropic-beta")) == (b"beta=true", ["files-api-2025-04-14"])
        assert orjson.loads(got.body)["novel"] == [1]

    async def test_a_large_body_passes_and_one_over_32_mb_is_refused(self, stage: Stage):
        stage.app.script = Script.json(message())
        large = orjson.dumps(ASKED | {"padding": "x" * (31 * 1024 * 1024)})
        async with stage.http() as http:
            assert (await http.post("/messages", content=large)).status_code == 200
            refused = await http.post("/messages", content=large + b" " * (1024 * 1024))
        assert stage.app.received[0].body == large
        assert (refused.status_code, refused.json()["error"]["type"]) == (413, "request_too_large")
        assert len(stage.app.received) == 1

    async def test_nothing_of_a_large_body_is_kept_for_whom_no_key_is_known(self, stage: Stage):
        """It is read to its end all the same, or they would see no answer but a cut connection."""
        left, answered = [b"x" * 1024**2] * (LARGEST_BODY // 1024**2), list[Message]()

        async def receive() -> Message:
            body = bytes(bytearray(left.pop()))  # a copy: what is kept of it takes room
            return {"type": "http.request", "body": body, "more_body": bool(left)}

        async def send(sent: Message) -> None:
            answered.append(sent)

        async def nowhere(*_: object) -> None: ...

        scope: Scope = {"type": "http", "method": "POST", "path": "/api/v1/messages", "query_string": b""}
        tracemalloc.start()
        await ModelGateway(nowhere, stage.world.gateway)(scope | {"headers": [(b"x-api-key", b"?")]}, receive, send)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (answered[0]["status"], left) == (401, [])
        assert peak < 4 * 1024**2


class TestAnswer:
    async def test_compressed_json_passes_as_it_is_and_is_billed(self, stage: Stage):
        packed = gzip.compress(orjson.dumps(message(cache_read_input_tokens=7)))
        headers = [("content-type", "application/json"), ("content-encoding", "gzip")]
        stage.app.script = Script(200, headers, [packed])
        async with stage.http() as http, http.stream("POST", "/messages", json=ASKED) as answer:
            assert b"".join([chunk async for chunk in answer.aiter_raw()]) == packed
        assert answer.headers["content-encoding"] == "gzip"
        assert (await stage.usage())["cache_read_tokens"] == 7

    async def test_a_client_that_takes_no_gzip_gets_none(self, stage: Stage):
        stage.app.script = Script.json(message())
        async with stage.http() as http:
            await http.post("/messages", json=ASKED, headers={"accept-encoding": "br"})
        assert stage.app.received[0].all("accept-encoding") == ["identity"]

    @pytest.mark.parametrize(("status", "kind"), [(429, "rate_limit_error"), (529, "overloaded_error")])
    async def test_errors_pass_with_status_headers_and_body(self, stage: Stage, status: int, kind: str):
        passed = {
            "retry-after": "7",
            "anthropic-ratelimit-requests-remaining": "0",
            "request-id": "req_9",
            "x-new": "1",
        }
        body = {"type": "error", "error": {"type": kind, "message": "Later."}, "request_id": "req_9"}
        stage.app.script = Script.json(body, status, list(passed.items()))
        async with stage.http() as http:
            answer = await http.post("/messages", json=ASKED)
        assert (answer.status_code, answer.content) == (status, orjson.dumps(body))
        assert {name: answer.headers[name] for name in passed} == passed
        assert stage.world.usage() == []

    async def test_the_sdk_raises_what_the_model_service_said(self, stage: Stage):
        stage.app.script = Script.json({"type": "error", "error": {"type": "overloaded_error", "message": "!"}}, 529)
        async with stage.sdk() as client:
            with pytest.raises(anthropic.APIStatusError) as raised:
                await client.messages.create(**ASKED)  # type: ignore[arg-type]
        assert raised.value.status_code == 529

    async def test_connection_headers_and_cookies_of_the_model_service_stay_there(self, stage: Stage):
        private = [("set-cookie", "a=1"), ("server", "theirs"), ("access-control-allow-origin", "*")]
        private += [("x-request-id", "theirs")]
        stage.app.script = Script.json(message(), headers=private)
        async with stage.http() as http:
            answer = await http.post("/messages", json=ASKED)
        assert not {"set-cookie", "access-control-allow-origin", "x-request-id"} & set(answer.headers)
        assert answer.headers.get_list("server") != ["theirs"]
        assert len(answer.headers.get_list("content-length")) == 1


class Broken:
    async def send(self, request: Outgoing) -> Incoming:
        raise ZeroDivisionError("the inside")

    async def close(self) -> None:
        pass


class TestOwnErrors:
    async def test_at_the_cap_the_sdk_raises_402_with_a_way_out(self, staging: Staging):
        async with staging(cap=1) as stage:
            stage.app.script = Script.json(message())
            async with stage.sdk(max_retries=2) as client:
                await client.messages.create(**ASKED)  # type: ignore[arg-type]
                with pytest.raises(anthropic.APIStatusError) as raised:
                    await client.messages.create(**ASKED)  # type: ignore[arg-type]
            assert len(stage.app.received) == 1
        error = raised.value
        assert error.status_code == 402
        assert isinstance(error.body, dict)
        assert error.body["type"] == "error"
        assert error.body["error"]["type"] == "billing_error"
        assert "spend cap" in error.body["error"]["message"]
        assert "RUN_SPEND_CAP_USD" in error.body["error"]["message"]
        assert error.body["request_id"] == error.request_id

    async def test_an_unknown_key_is_an_authentication_error(self, stage: Stage):
        async with stage.sdk(auth_token=None, api_key=new_key()) as client:
            with pytest.raises(anthropic.AuthenticationError, match="not known"):
                await client.messages.create(**ASKED)  # type: ignore[arg-type]

    async def test_a_disabled_key_is_a_permission_error(self, stage: Stage):
        _, record = await stage.world.key()
        await stage.world.keys.change(record.key_hash, lambda _: {"disabled": True})
        async with stage.sdk() as client:
            with pytest.raises(anthropic.PermissionDeniedError, match="disabled") as raised:
                await client.messages.create(**ASKED)  # type: ignore[arg-type]
        assert isinstance(raised.value.body, dict)
        assert raised.value.body["error"]["type"] == "permission_error"

    async def test_calls_that_may_reach_the_cap_together_are_a_rate_limit_error(self, staging: Staging):
        async with staging(cap=700) as stage, stage.sdk() as client:
            stage.app.script = Script.json(message())
            stage.app.delay = 0.5
            calls = [client.messages.create(**ASKED | {"max_tokens": 60}) for _ in range(2)]  # type: ignore[arg-type]
            results = await asyncio.gather(*calls, return_exceptions=True)
            stage.app.delay = 0
        (refused,) = [result for result in results if isinstance(result, anthropic.RateLimitError)]
        assert int(refused.response.headers["retry-after"]) >= 1
        assert isinstance(refused.body, dict)
        assert refused.body["error"]["type"] == "rate_limit_error"

    async def test_what_nobody_foresaw_is_an_api_error_and_says_nothing_of_the_inside(self):
        world = World(Broken())
        async with serve(ModelGateway(FastAPI(), world.gateway)) as url, httpx.AsyncClient() as http:
            headers = {"x-api-key": await world.run_token()}
            answer = await http.post(f"{url}/api/v1/messages", json=ASKED, headers=headers)
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "api_error")
        assert "inside" not in answer.text
        assert answer.json()["request_id"] == answer.headers["request-id"]

    async def test_a_body_that_is_not_json_is_an_invalid_request(self, stage: Stage):
        async with stage.http() as http:
            answer = await http.post("/messages", content=b"{oops")
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")

    @pytest.mark.parametrize(
        ("method", "path"), [("POST", "/messages/batches"), ("GET", "/messages"), ("GET", "/files")]
    )
    async def test_what_the_gateway_does_not_have_is_not_found(self, stage: Stage, method: str, path: str):
        async with stage.http() as http:
            answer = await http.request(method, path)
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
        assert stage.app.received == []

    async def test_a_model_service_that_is_down_is_overloaded(self, staging: Staging):
        sock = listening_socket()  # bound, but nobody listens
        async with staging(upstream=base_url(sock)) as stage, stage.http() as http:
            answer = await http.post("/messages", json=ASKED)
        sock.close()
        assert (answer.status_code, answer.json()["error"]["type"]) == (529, "overloaded_error")
        assert answer.headers["retry-after"] == "2"

    async def test_a_redirect_is_not_followed(self, stage: Stage):
        stage.app.script = Script(307, [("location", "/elsewhere")])
        async with stage.http() as http:
            answer = await http.post("/messages", json=ASKED)
        assert (answer.status_code, {got.path for got in stage.app.received}) == (529, {"/some/path/v1/messages"})
        assert "ANTHROPIC_BASE_URL" in answer.json()["error"]["message"]

    async def test_redis_away_means_overloaded_and_nothing_spent(self, stage: Stage):
        stage.world.ledger.down = True
        async with stage.http() as http:
            answer = await http.post("/messages", json=ASKED)
        assert (answer.status_code, answer.headers["retry-after"]) == (529, "2")
        assert "Limits and budgets cannot be checked" in answer.json()["error"]["message"]
        assert stage.app.received == []

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_redis_away_lets_calls_through_where_a_setting_says_so(self, staging: Staging, streamed: bool):
        async with staging(fail_open=True) as stage, stage.http() as http:
            stage.app.script = Script.stream(*EVENTS) if streamed else Script.json(message())
            stage.world.ledger.down = True
            answer = await http.post("/messages", json=ASKED | {"stream": streamed})
            assert (answer.status_code, answer.headers["x-kanban-limits"]) == (200, "not-enforced")
            stage.world.ledger.down = False
            assert "x-kanban-limits" not in (await http.post("/messages", json=ASKED)).headers
            assert await stage.world.spent(f"run/{RUN}") >= 2 * 10 * 2


class TestBrokenModelService:
    async def test_a_stream_cut_between_events_ends_with_an_error_event(self, staging: Staging):
        async with cutting_service(b"".join(EVENTS[:2])) as url, staging(upstream=url) as stage, stage.sdk() as client:
            with pytest.raises(anthropic.APIStatusError, match="broke off"):
                async with client.messages.stream(**ASKED) as stream:  # type: ignore[arg-type]
                    await stream.get_final_message()
            sent = await stage.usage()
        assert (sent["input_tokens"], sent["status"]) == (10, 502)

    async def test_a_stream_cut_inside_an_event_ends_with_one_too(self, staging: Staging):
        part = b"".join(EVENTS[:2])[:-5]
        async with cutting_service(part) as url, staging(upstream=url) as stage, stage.http() as http:
            body = (await http.post("/messages", json=ASKED | {"stream": True})).content
        assert body.removeprefix(EVENTS[0]).startswith(b"event: error\ndata: ")

    async def test_silence_beyond_the_limit_ends_the_wait(self, staging: Staging):
        async with staging(silence=0.3) as stage, stage.http() as http:
            stage.app.script = Script.stream(EVENTS[0], 60.0)
            body = (await http.post("/messages", json=ASKED | {"stream": True})).content
            assert body.removeprefix(EVENTS[0]).startswith(b"event: error\n")
            await asyncio.wait_for(stage.app.received[0].cancelled.wait(), 5)

    async def test_silence_within_a_whole_answer_is_an_error_and_never_its_end(self, staging: Staging):
        async with staging(silence=0.1) as stage, stage.http() as http:
            headers = [("content-type", "application/json"), ("content-length", "1000")]
            stage.app.script = Script(200, headers, [b'{"type": "message"', 60.0])
            answers = await asyncio.gather(*(http.post("/messages", json=ASKED) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {529}


@asynccontextmanager
async def cutting_service(sent: bytes) -> AsyncGenerator[str]:
    """A model service that sends the beginning of a stream and hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + b"%x\r\n%b\r\n" % (len(sent), sent))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class TestOtherCalls:
    async def test_count_tokens_passes_and_costs_nothing(self, stage: Stage):
        stage.app.script = Script.json({"input_tokens": 42})
        async with stage.sdk() as client:
            counted = await client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
        assert counted.input_tokens == 42
        assert stage.app.received[0].path == "/some/path/v1/messages/count_tokens"
        assert stage.world.usage() == []

    async def test_models_are_listed_and_found(self, stage: Stage):
        model = {"type": "model", "id": MODEL, "display_name": "Sonnet", "created_at": "2025-09-29T00:00:00Z"}
        async with stage.sdk() as client:
            stage.app.script = Script.json({"data": [model], "has_more": False, "first_id": MODEL, "last_id": MODEL})
            assert [found.id async for found in client.models.list(limit=1000)] == [MODEL]
            stage.app.script = Script.json(model)
            assert (await client.models.retrieve(MODEL)).id == MODEL
        assert [(got.path, got.query) for got in stage.app.received] == [
            ("/some/path/v1/models", b"limit=1000"),
            (f"/some/path/v1/models/{MODEL}", b""),
        ]

    async def test_models_need_a_key(self, stage: Stage):
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{stage.url}/api/v1/models")).status_code == 401

    @pytest.mark.parametrize("path", ["", "/"])
    async def test_a_probe_is_answered(self, stage: Stage, path: str):
        async with httpx.AsyncClient() as http:
            assert (await http.head(f"{stage.url}/api/v1{path}")).status_code == 200
