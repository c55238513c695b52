"""Clients of the Anthropic API that work by changing their base URL: the official SDK, and a coding CLI."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import orjson
import pytest
from anthropic import beta_async_tool, beta_tool

from tests.contracts.gateway_stage import Stage, staged
from tests.fakes.upstream import Script, message, sse, stream_events, tool_use_events
from tests.requires import require

MODEL = "claude-sonnet-5-5"
ASKED: Any = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]}
HELLO = Script.stream(*sse(*stream_events()))
WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def calls(name: str, arguments: dict[str, Any]) -> Script:
    """A streamed answer that calls a tool."""
    return Script.stream(*sse(*tool_use_events(name, arguments)))


def called(name: str, arguments: dict[str, Any]) -> Script:
    """The same, whole."""
    block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": arguments}
    return Script.json(message() | {"content": [block], "stop_reason": "tool_use"})


@pytest.fixture
async def stage() -> AsyncGenerator[Stage]:
    async with staged({"one": {"auth": "setting"}}, [{"provider": "one"}], model=MODEL) as stage:
        yield stage


def results(stage: Stage) -> list[Any]:
    """Of the tools, as the model service was told them last."""
    last = orjson.loads(stage.services["one"].received[-1].body)["messages"][-1]
    return [block["content"] for block in last["content"] if block["type"] == "tool_result"]


async def recorded(stage: Stage, calls: int) -> list[Any]:
    await stage.world.gateway.close()
    sent = stage.world.usage()
    assert [record["status"] for record in sent] == [200] * calls
    return sent


class TestAsyncSdk:
    async def test_a_streamed_tool_call_is_put_together(self, stage: Stage):
        stage.services["one"].script = calls("weather", {"city": "Zürich", "days": [1, 2]})
        async with stage.sdk() as client, client.messages.stream(**ASKED, tools=[WEATHER]) as stream:
            final = await stream.get_final_message()
        (block,) = final.content
        assert block.type == "tool_use"
        assert (block.name, block.input, final.stop_reason) == (
            "weather",
            {"city": "Zürich", "days": [1, 2]},
            "tool_use",
        )
        await recorded(stage, 1)

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_the_tool_runner_goes_to_its_end(self, stage: Stage, streamed: bool):
        @beta_async_tool
        async def weather(city: str) -> str:
            """The weather in a city."""
            return f"Snow in {city}"

        made = calls if streamed else called
        stage.services["one"].first = [made("weather", {"city": "Bern"})]
        stage.services["one"].script = HELLO if streamed else Script.json(message())
        async with stage.sdk() as client:
            runner: Any = client.beta.messages.tool_runner(**ASKED, tools=[weather], stream=streamed, thread=False)
            final = [turn async for turn in runner][-1]
            if streamed:
                final = await final.get_final_message()
        assert final.content[0].text == "Hello"
        assert results(stage) in (["Snow in Bern"], [[{"type": "text", "text": "Snow in Bern"}]])
        await recorded(stage, 2)


class TestSyncSdk:
    """In a thread: the gateway answers from this one."""

    async def test_messages_streams_and_tokens(self, stage: Stage):
        stage.services["one"].first = [Script.json(message()), HELLO, Script.json({"input_tokens": 42})]

        def use(client: anthropic.Anthropic) -> tuple[str, str, int]:
            whole = client.messages.create(**ASKED)
            with client.messages.stream(**ASKED) as stream:
                text = "".join(stream.text_stream)
            counted = client.messages.count_tokens(model=MODEL, messages=ASKED["messages"])
            return getattr(whole.content[0], "text", ""), text, counted.input_tokens

        assert await self._run(stage, use) == ("Hello", "Hello", 42)
        await recorded(stage, 2)

    async def test_the_tool_runner_goes_to_its_end(self, stage: Stage):
        @beta_tool
        def weather(city: str) -> str:
            """The weather in a city."""
            return f"Snow in {city}"

        stage.services["one"].first = [called("weather", {"city": "Bern"})]
        stage.services["one"].script = Script.json(message())

        def use(client: anthropic.Anthropic) -> Any:
            return client.beta.messages.tool_runner(**ASKED, tools=[weather]).until_done()

        final = await self._run(stage, use)
        assert final.content[0].text == "Hello"
        await recorded(stage, 2)

    async def test_an_overloaded_provider_is_an_overloaded_error(self, stage: Stage):
        error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        stage.services["one"].script = Script.json(error, 529, [("retry-after", "30")])
        with pytest.raises(anthropic.InternalServerError) as raised:
            await self._run(stage, lambda client: client.messages.create(**ASKED))
        assert (raised.value.status_code, raised.value.response.headers["retry-after"]) == (529, "30")

    @staticmethod
    async def _run(stage: Stage, use: Any) -> Any:
        def work() -> Any:
            with anthropic.Anthropic(base_url=stage.base_url, api_key=stage.token, max_retries=0) as client:
                return use(client)

        return await asyncio.to_thread(work)


CLI = Path(__file__).parents[1] / "clients" / "node_modules" / ".bin" / "claude"


@dataclass
class Finished:
    code: int | None
    told: dict[str, Any]
    errors: str


async def claude(stage: Stage, folder: Path, task: str) -> Finished:
    """The CLI by itself, with a home of its own; every way but the one to the gateway leads nowhere."""
    require(CLI.exists(), "The coding CLI is not installed: npm ci --prefix tests/clients")
    home = folder / "home"
    home.mkdir()
    quiet = ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY")
    environment = dict.fromkeys((*quiet, "DISABLE_ERROR_REPORTING"), "1") | {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": stage.base_url,
        "ANTHROPIC_API_KEY": stage.token,
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1",
        "CLAUDE_CODE_MAX_RETRIES": "1",
    }
    options = ("--model", MODEL, "--output-format", "json", "--permission-mode", "acceptEdits")
    process = await asyncio.create_subprocess_exec(
        *(str(CLI), "-p", task, *options),
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), 100)
    finally:
        if process.returncode is None:
            process.kill()
    return Finished(process.returncode, json.loads(out) if out.startswith(b"{") else {}, f"{out!r} {errors!r}")


class TestCodingCli:
    async def test_a_task_with_a_tool_is_done_and_both_turns_are_counted(self, stage: Stage, tmp_path: Path):
        service = stage.services["one"]
        service.first = [calls("Write", {"file_path": str(tmp_path / "hello.txt"), "content": "Hello\n"})]
        service.script = HELLO
        done = await claude(stage, tmp_path, "Create hello.txt")
        assert (done.code, done.told.get("result")) == (0, "Hello"), done.errors
        assert (tmp_path / "hello.txt").read_text() == "Hello\n"
        await recorded(stage, 2)
        for got in service.received:
            assert (got.path, got.query) == ("/anthropic/v1/messages", b"beta=true")
            assert "claude-code-20250219" in got.all("anthropic-beta")[0].split(",")
            assert (got.all("x-app"), got.all("x-api-key")) == (["cli"], ["sk-of-setting"])
            assert len(got.body) > 20_000
            assert stage.token not in str(got.headers)

    async def test_a_pause_is_bridged_and_an_overload_is_tried_again(self, stage: Stage, tmp_path: Path):
        service = stage.services["one"]
        service.first = [Script.json({"type": "error", "error": {"type": "overloaded_error", "message": "!"}}, 529)]
        service.script = Script.stream(*sse(*stream_events())[:3], 0.5, *sse(*stream_events())[3:])
        done = await claude(stage, tmp_path, "Say hello")
        assert (done.code, done.told.get("result")) == (0, "Hello"), done.errors
        assert len(service.received) == 2

    async def test_a_refusal_of_the_gateway_is_told_in_its_own_words(self, tmp_path: Path):
        async with staged({"one": {}}, [{"provider": "one"}], model="another-model") as stage:
            done = await claude(stage, tmp_path, "Say hello")
        assert done.code == 1
        assert MODEL in done.told.get("result", ""), done.errors

    async def test_at_the_cap_it_is_told_what_to_raise(self, tmp_path: Path):
        async with staged({"one": {}}, [{"provider": "one"}], model=MODEL, cap=0) as stage:
            done = await claude(stage, tmp_path, "Say hello")
        assert done.code == 1
        assert "RUN_SPEND_CAP_USD" in done.told.get("result", ""), done.errors
