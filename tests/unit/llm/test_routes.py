import json
import re
from pathlib import Path

import pytest

from shared.adapters.managed_identity import ManagedIdentity
from shared.bootstrap import providers
from shared.core.errors import BadRequest, Invalid, NotFound
from shared.core.settings import Settings
from shared.llm import listing, routes
from shared.llm.headers import without_betas
from shared.llm.routes import DEFAULT, Provider, Route, Routes, Target
from tests.fakes import FakeSecrets

FOUNDRY = {"kind": "foundry", "base_url": "https://acme.services.ai.azure.com/anthropic", "auth": "identity"}
TABLE = {
    "providers": {"anthropic": {"auth": "setting"}, "foundry": FOUNDRY, "local": {"base_url": "http://ollama:11434"}},
    "models": {
        "fast": {"targets": [{"provider": "foundry", "model": "haiku-prod"}, {"provider": "anthropic"}]},
        "claude-*": {"targets": [{"provider": "anthropic"}]},
        "*": {"targets": [{"provider": "local"}]},
    },
}


def table(**changes: object) -> str:
    return json.dumps(TABLE | changes)


class TestParse:
    def test_nothing_set_sends_every_model_to_the_settings_service(self):
        assert routes.parse("") is DEFAULT
        (target,) = DEFAULT.find("whatever-1").targets
        provider = DEFAULT.providers[target.provider]
        assert (provider.base_url, provider.auth, target.model) == ("", "setting", "")

    def test_the_documented_table_fits(self):
        (example,) = re.findall(r"```json\n(.*?)```", Path("docs/models.md").read_text(), re.DOTALL)
        assert routes.parse(example).find("small").targets[0].model == "qwen3:8b"

    def test_json_and_a_file_with_it_say_the_same(self, tmp_path: Path):
        file = tmp_path / "routes.json"
        file.write_text(table())
        assert routes.parse(str(file)) == routes.parse(table())

    @pytest.mark.parametrize("address", ["https://user:hush@ai", "ftp://hush", "hush", "https://ai?key=hush"])
    def test_an_address_that_would_be_shown_with_a_secret_is_refused_and_not_shown(self, address: str):
        settings = Settings(anthropic_base_url=address)
        with pytest.raises(Invalid, match="ANTHROPIC_BASE_URL") as refusal:
            providers(DEFAULT, settings, FakeSecrets(), ManagedIdentity())
        assert "hush" not in refusal.value.detail
        elsewhere = routes.parse(table(providers=dict.fromkeys(TABLE["providers"], FOUNDRY)))
        assert len(providers(elsewhere, settings, FakeSecrets(), ManagedIdentity())) == 3

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{oops", "LLM_ROUTES"),
            ("/nowhere/routes.json", "cannot be read"),
            (table(models={}), "models"),
            (table(models={"a": {"targets": []}}), "models.a.targets"),
            (table(models={"a": {"targets": [{"provider": "gone"}]}}), "'gone', which is not among providers"),
            (table(models={"a*b": {"targets": [{"provider": "local"}]}}), "a * can only end it"),
            (table(providers={"x": {"kee": "1"}}), "providers.x.kee"),
            (table(providers={"x": {"base_url": "ftp://x"}}), "providers.x.base_url"),
            (table(providers={"x": {"auth": "secret"}}), "`secret` names"),
            (table(providers={"x": {"kind": "foundry", "auth": "identity"}}), "services.ai.azure.com"),
            (table(providers={"x": FOUNDRY | {"auth": "setting"}}), "Foundry takes"),
        ],
    )
    def test_what_does_not_fit_is_named(self, text: str, said: str):
        with pytest.raises(Invalid, match=re.escape(said)):
            routes.parse(text)

    def test_a_key_has_no_place_in_it_and_is_not_repeated(self):
        with pytest.raises(Invalid) as refusal:
            routes.parse(table(providers={"x": {"api_key": "sk-very-secret"}}))
        assert "sk-very-secret" not in refusal.value.detail


class TestFind:
    @pytest.mark.parametrize(
        ("model", "provider"), [("fast", "foundry"), ("claude-opus-5", "anthropic"), ("qwen3", "local")]
    )
    def test_a_name_goes_before_patterns_and_longer_patterns_before_shorter(self, model: str, provider: str):
        assert routes.parse(table()).find(model).targets[0].provider == provider

    def test_a_model_without_a_route_is_not_found_in_anthropics_words(self):
        only = Routes(providers={"a": Provider()}, models={"fast": Route(targets=(Target(provider="a"),))})
        with pytest.raises(NotFound, match=r"^model: slow$"):
            only.find("slow")


class TestListing:
    ROUTES = Routes(
        providers={"a": Provider()},
        models={name: Route(targets=(Target(provider="a"),)) for name in ("m1", "m2", "m3", "x-*")},
    )

    @pytest.mark.parametrize(
        ("query", "ids", "more"),
        [
            ("", ["m1", "m2", "m3"], False),
            ("limit=1000", ["m1", "m2", "m3"], False),
            ("limit=2", ["m1", "m2"], True),
            ("limit=2&after_id=m2", ["m3"], False),
            ("limit=1&before_id=m3", ["m2"], True),
            ("before_id=m1", [], False),
        ],
    )
    def test_pages(self, query: str, ids: list[str], more: bool):
        page = listing.page(self.ROUTES, query)
        assert ([model["id"] for model in page["data"]], page["has_more"]) == (ids, more)
        assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))

    @pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", f"limit={'9' * 5000}", "after_id=m9"])
    def test_a_query_that_does_not_fit_is_refused(self, query: str):
        with pytest.raises(BadRequest):
            listing.page(self.ROUTES, query)


class TestBetaFilter:
    def test_what_a_provider_refuses_is_left_out(self):
        refused = Provider.model_validate(FOUNDRY).without_betas
        lines = [("anthropic-beta", "context-1m-2025-08-07, fast-mode-2026-02-01 ,effort-2025-11-24"), ("a", "b")]
        assert without_betas(lines, refused) == [
            ("anthropic-beta", "context-1m-2025-08-07,effort-2025-11-24"),
            ("a", "b"),
        ]
        assert without_betas([("anthropic-beta", "fast-mode-2026-02-01")], refused) == []

    def test_everything_else_stays_to_the_byte(self):
        lines = [("anthropic-beta", "new-1 ,  new-2"), ("anthropic-beta", "")]
        assert without_betas(lines, Provider.model_validate(FOUNDRY).without_betas) == lines
        assert without_betas([("anthropic-beta", "fast-mode-2026-02-01")], Provider().without_betas)

    @pytest.mark.parametrize(
        "offered",
        ["compact-2026-01-12", "context-management-2025-06-27", "fine-grained-tool-streaming-2025-05-14"],
    )
    def test_what_foundry_offers_reaches_it(self, offered: str):
        """As Microsoft's and Anthropic's pages say: without its flag, the API refuses the feature."""
        lines = [("anthropic-beta", f"{offered},server-side-fallback-2026-07-01")]
        assert without_betas(lines, Provider.model_validate(FOUNDRY).without_betas) == [("anthropic-beta", offered)]

    def test_an_operator_may_name_others(self):
        provider = Provider.model_validate(FOUNDRY | {"refused_betas": ["one"]})
        assert provider.without_betas == {"one"}
