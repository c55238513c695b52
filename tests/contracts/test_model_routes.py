"""Routes over HTTP: several model services behind one gateway, and what each of them saw on the wire."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import anthropic
import jwt
import pytest

from local.keyvault import KeyVault
from local.keyvault import create_app as create_vault
from shared.adapters.managed_identity import ManagedIdentity
from tests.contracts.gateway_stage import staged
from tests.fakes import FakeSecrets
from tests.fakes.upstream import Script, message, sse, stream_events
from tests.serving import base_url, listening_socket, serve
from tests.unit.llm.world import RUN

ASKED = {"model": "fast", "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]}
EVENTS = sse(*stream_events())
SPENT = f"run/{RUN}"

TWO = [{"provider": "one", "model": "model-of-one"}, {"provider": "two", "model": "model-of-two"}]


class TestFallback:
    async def test_an_overloaded_provider_is_passed_over_and_the_client_sees_one_answer(self):
        async with staged({"one": {}, "two": {}}, TWO) as stage:
            stage.services["one"].script = Script.json({}, 529)
            stage.services["two"].script = Script.stream(*EVENTS)
            async with stage.sdk() as client, client.messages.stream(**ASKED) as stream:  # type: ignore[arg-type]
                assert await stream.get_final_text() == "Hello"
            assert (stage.asked("one"), stage.asked("two")) == (["model-of-one"], ["model-of-two"])

    async def test_a_provider_that_is_gone_is_passed_over(self):
        sock = listening_socket()  # bound, but nobody listens
        async with staged({"one": {"base_url": base_url(sock)}, "two": {}}, TWO) as stage:
            stage.services["two"].script = Script.json(message())
            async with stage.http() as http:
                assert (await http.post("/messages", json=ASKED)).status_code == 200
        sock.close()

    async def test_a_stream_that_does_not_begin_goes_on_and_a_prompt_is_charged(self):
        async with staged({"one": {"first_byte_seconds": 0.2}, "two": {}}, TWO) as stage:
            silence = asyncio.Event()
            stage.services["one"].silence = silence
            stage.services["two"].script = Script.stream(*EVENTS)
            body = ASKED | {"stream": True, "padding": "x" * 40_000}
            async with stage.http() as http:
                assert (await http.post("/messages", json=body)).content == b"".join(EVENTS)
            await asyncio.wait_for(stage.services["one"].received[0].cancelled.wait(), 5)
            await stage.world.gateway.close()
            (sent,) = stage.world.usage()
            assert sent["input_tokens"] == 10
            assert await stage.world.spent(SPENT) > sent["cost_micro_usd"] + 10_000

    async def test_any_other_call_ends_in_a_timeout_and_is_sent_once(self):
        async with staged({"one": {"answer_seconds": 0.2}, "two": {}}, TWO) as stage:
            stage.services["one"].silence = asyncio.Event()
            async with stage.http() as http:
                answer = await http.post("/messages", json=ASKED)
            assert (answer.status_code, answer.json()["error"]["type"]) == (504, "timeout_error")
            assert (len(stage.services["one"].received), len(stage.services["two"].received)) == (1, 0)
            assert await stage.world.spent(SPENT) > 0

    async def test_a_late_stream_is_waited_for_as_long_as_the_provider_may_take(self):
        async with staged({"one": {"first_byte_seconds": 5}}, TWO[:1]) as stage:
            stage.services["one"].delay = 0.5
            stage.services["one"].script = Script.stream(*EVENTS)
            began = time.monotonic()
            async with stage.http() as http:
                assert (await http.post("/messages", json=ASKED | {"stream": True})).status_code == 200
            assert time.monotonic() - began >= 0.5

    async def test_the_dearest_target_is_what_a_budget_must_have_room_for(self):
        """Two calls of the first target's model would fit."""
        targets = [{"provider": "one", "model": "claude-haiku-4-5"}, {"provider": "two", "model": "claude-opus-5"}]
        async with staged({"one": {}, "two": {}}, targets, cap=20_000) as stage, stage.http() as http:
            stage.services["one"].script = Script.json(message())
            stage.services["one"].delay = 0.5
            calls = [http.post("/messages", json=ASKED | {"max_tokens": 1000}) for _ in range(2)]
            assert sorted(answer.status_code for answer in await asyncio.gather(*calls)) == [200, 429]


class TestModels:
    async def test_an_unknown_model_is_not_found_in_anthropics_words(self):
        async with staged({"one": {}}, TWO[:1]) as stage, stage.sdk() as client:
            with pytest.raises(anthropic.NotFoundError) as raised:
                await client.messages.create(**ASKED | {"model": "slow"})  # type: ignore[arg-type]
            error = {"type": "not_found_error", "message": "model: slow"}
            assert raised.value.body == {"type": "error", "error": error, "request_id": raised.value.request_id}
            assert stage.services["one"].received == []

    async def test_the_routed_models_are_listed_and_found(self):
        async with staged({"one": {}}, TWO[:1]) as stage, stage.sdk() as client:
            assert [model.id async for model in client.models.list(limit=1000)] == ["fast"]
            assert (await client.models.retrieve("fast")).display_name == "fast"
            with pytest.raises(anthropic.NotFoundError, match="model: slow"):
                await client.models.retrieve("slow")
            assert stage.services["one"].received == []

    async def test_tokens_are_counted_by_the_models_provider(self):
        async with staged({"one": {}}, TWO[:1]) as stage, stage.sdk() as client:
            stage.services["one"].script = Script.json({"input_tokens": 42})
            counted = await client.messages.count_tokens(model="fast", messages=[{"role": "user", "content": "Hi"}])
            assert (counted.input_tokens, stage.asked("one")) == (42, ["model-of-one"])


class TestCredentials:
    @pytest.mark.parametrize(
        ("provider", "key"),
        [({}, []), ({"auth": "setting"}, ["sk-of-setting"]), ({"auth": "secret", "secret": "of-one"}, ["sk-of-vault"])],
    )
    async def test_each_provider_gets_its_own_key_and_nobody_elses(self, provider: dict[str, Any], key: list[str]):
        secrets = FakeSecrets()
        await secrets.put("of-one", "sk-of-vault")
        async with staged({"one": provider}, TWO[:1], secrets=secrets) as stage:
            stage.services["one"].script = Script.json(message())
            async with stage.http() as http:
                await http.post("/messages", json=ASKED)
            (got,) = stage.services["one"].received
            assert (got.all("x-api-key"), got.all("authorization")) == (key, [])
            assert stage.token not in str(got)

    async def test_a_missing_secret_stops_the_call_and_names_the_secret_only(self):
        async with staged({"one": {"auth": "secret", "secret": "of-one"}}, TWO[:1]) as stage, stage.http() as http:
            answer = await http.post("/messages", json=ASKED)
            assert (answer.status_code, stage.services["one"].received) == (529, [])
            assert "of-one" in answer.json()["error"]["message"]


class TestFoundry:
    @pytest.fixture
    async def vault(self, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[KeyVault]:
        """The emulator's managed identity endpoint, which azure-identity finds in the environment."""
        vault = KeyVault("https://unused")
        async with serve(create_vault(vault)) as url:
            monkeypatch.setenv("IDENTITY_ENDPOINT", f"{url}/msi/token")
            monkeypatch.setenv("IDENTITY_HEADER", vault.identity_header)
            yield vault

    async def test_the_identitys_token_and_the_deployments_name_are_sent(self, vault: KeyVault):
        identity = ManagedIdentity("platform")
        target = [{"provider": "foundry", "model": "sonnet-production"}]
        async with staged({"foundry": {"kind": "foundry", "auth": "identity"}}, target, identity) as stage:
            stage.services["foundry"].script = Script.json(message())
            betas = {"anthropic-beta": "context-1m-2025-08-07,fast-mode-2026-02-01"}
            async with stage.http() as http:
                for _ in range(2):
                    assert (await http.post("/messages", json=ASKED, headers=betas)).status_code == 200
            got, again = stage.services["foundry"].received
            assert got.path == "/anthropic/v1/messages"
            assert stage.asked("foundry") == ["sonnet-production"] * 2
            assert got.all("x-api-key") == []
            assert got.all("authorization") == again.all("authorization")
            token = got.all("authorization")[0].removeprefix("Bearer ")
            assert jwt.decode(token, options={"verify_signature": False})["aud"] == "https://ai.azure.com"
            assert got.all("anthropic-beta") == ["context-1m-2025-08-07"]
        await identity.close()

    async def test_without_a_token_nothing_is_sent(self, vault: KeyVault, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("IDENTITY_HEADER", "wrong")
        identity = ManagedIdentity("platform")
        target = [{"provider": "foundry"}]
        async with staged({"foundry": {"kind": "foundry", "auth": "identity"}}, target, identity) as stage:
            async with stage.http() as http:
                answer = await http.post("/messages", json=ASKED)
            assert (answer.status_code, stage.services["foundry"].received) == (529, [])
        await identity.close()
