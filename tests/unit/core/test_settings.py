from dataclasses import fields

import pytest

from shared.core.errors import Invalid
from shared.core.settings import Settings


class TestFromEnv:
    def test_an_empty_environment_gives_the_defaults(self) -> None:
        assert Settings.from_env({}) == Settings()

    def test_values_take_the_type_of_their_default(self) -> None:
        settings = Settings.from_env(
            {
                "PUBLIC_WEB_URL": " https://web.example ",
                "DEMO_MODEL": "TRUE",
                "ALLOW_UNSANDBOXED": "0",
                "GITHUB_INSTALLATION_ID": "42",
                "RUN_SPEND_CAP_USD": "2.5",
                "ENTRA_ALLOWED_TENANTS": "one, two,,",
            }
        )
        assert settings.public_web_url == "https://web.example"
        assert (settings.demo_model, settings.allow_unsandboxed) == (True, False)
        assert (settings.github_installation_id, settings.run_spend_cap_usd) == (42, 2.5)
        assert settings.entra_allowed_tenants == ("one", "two")

    @pytest.mark.parametrize("blank", ["", "  "])
    def test_a_blank_value_means_the_default(self, blank: str) -> None:
        assert Settings.from_env({"RUN_TURN_LIMIT": blank}).run_turn_limit == Settings.run_turn_limit

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("DEMO_MODEL", "perhaps"),
            ("GITHUB_INSTALLATION_ID", "x"),
            ("RUN_TURN_LIMIT", "1.5"),
            ("RUN_SPEND_CAP_USD", "five"),
            ("RUN_SPEND_CAP_USD", "nan"),
            ("RUN_SPEND_CAP_USD", "inf"),
            ("RUN_SPEND_CAP_USD", "-1"),
            ("RUN_TIME_LIMIT", "-1"),
        ],
    )
    def test_a_value_that_does_not_fit_names_its_variable(self, variable: str, value: str) -> None:
        with pytest.raises(Invalid) as refusal:
            Settings.from_env({variable: value})
        assert variable in refusal.value.detail

    def test_a_refused_secret_is_not_shown(self) -> None:
        for item in fields(Settings):
            if item.metadata["secret"]:
                assert isinstance(item.default, str | tuple), "text always fits, so it is never refused"


class TestAddresses:
    def test_containers_use_the_public_address_unless_they_have_their_own(self) -> None:
        assert Settings(public_api_url="https://api").agent_api_url == "https://api"
        assert (
            Settings(public_api_url="https://api", container_api_url="http://bridge").agent_api_url == "http://bridge"
        )
