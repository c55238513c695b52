"""Which models there are, and which providers answer for them: one typed table, read once.

`DEFAULT` sends every model to the service at ANTHROPIC_BASE_URL. The setting LLM_ROUTES replaces it.
"""

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.core.errors import Invalid, NotFound

FOUNDRY_REFUSES = (
    *("advisor-tool-2026-03-01", "fast-mode-2026-02-01"),
    *("server-side-fallback-2026-06-01", "server-side-fallback-2026-07-01"),
    *("mcp-servers-2025-12-04", "output-128k-2025-02-19", "thinking-binding-controls-2026-08-01"),
    *("token-efficient-tools-2025-02-19",),
)
"""Beta flags of what Azure AI Foundry has not: it answers them with 400.

The advisor, fast mode and server-side fallback: Anthropic's pages "Claude in Microsoft Foundry" and "Features
overview". The others: what LiteLLM leaves out for `azure_ai` (anthropic_beta_headers_config.json). Read in November
2026. Where that list and these pages, or Microsoft's "Claude models in Microsoft Foundry", disagree, the pages hold:
they offer compaction and fine-grained tool streaming.
"""

_ADDRESS = r"https?://[^\s?#@]+"
"""It is shown to callers, so no password can stand in it."""

type Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/\[\]-]{0,199}$")]
type Seconds = Annotated[float, Field(gt=0, le=3600)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Provider(_Strict):
    """A service that speaks the Anthropic Messages API at `base_url`; empty: ANTHROPIC_BASE_URL.

    `auth`: `setting` sends ANTHROPIC_API_KEY, `secret` what the secret store keeps under `secret`, both as x-api-key;
    `identity` sends an Entra token of the function app's identity. Keys never stand here.
    """

    kind: Literal["anthropic", "foundry"] = "anthropic"
    base_url: str = Field(default="", pattern=rf"^({_ADDRESS})?$")
    auth: Literal["none", "setting", "secret", "identity"] = "none"
    secret: str = Field(default="", pattern=r"^[a-zA-Z0-9-]{0,100}$")
    refused_betas: tuple[str, ...] | None = None
    """Values of `anthropic-beta` that are left out for it; unset: those that its kind is known to refuse."""
    concurrent: int = Field(default=0, ge=0)
    """Most calls under way in this process; 0: as many as come."""
    connect_seconds: Seconds = 10
    first_byte_seconds: Seconds = 120
    """Until a stream begins."""
    answer_seconds: Seconds = 600
    """Until an answer begins that is no stream: not before the model is done."""
    idle_seconds: Seconds = 300
    """Of silence within an answer."""
    breaker_failures: int = Field(default=5, ge=1)
    """Failures in a row after which it is left alone ..."""
    breaker_seconds: Seconds = 30
    """... for this long; then one call tries it."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.auth == "secret") != bool(self.secret):
            raise ValueError('`secret` names the secret of `auth: "secret"`, and nothing else')
        if self.kind == "foundry" and not self.base_url:
            raise ValueError("base_url of Foundry is https://<resource>.services.ai.azure.com/anthropic")
        if self.kind == "foundry" and self.auth not in ("identity", "secret"):
            raise ValueError("Foundry takes `identity` or `secret`")
        return self

    @property
    def without_betas(self) -> frozenset[str]:
        known = FOUNDRY_REFUSES if self.kind == "foundry" else ()
        return frozenset(known if self.refused_betas is None else self.refused_betas)


class Target(_Strict):
    """One way to answer. `model` is the provider's name for it (Foundry: the deployment); empty: as asked."""

    provider: str
    model: Name | Literal[""] = ""
    weight: int = Field(default=0, ge=0)


class Route(_Strict):
    """Tried in order. Where some have a weight, the first try is drawn among those by weight."""

    targets: tuple[Target, ...] = Field(min_length=1)
    display_name: str = Field(default="", max_length=200)
    created_at: str = Field(default="1970-01-01T00:00:00Z", pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    """As the model lists tell it; Anthropic's own is the epoch where it is not known."""

    @cached_property
    def weights(self) -> list[int]:
        return [target.weight for target in self.targets]

    def names(self, asked: str) -> list[str]:
        """What the providers call it when a client asks for `asked`."""
        return list(dict.fromkeys(target.model or asked for target in self.targets))


class Routes(_Strict):
    """`models`: what clients ask for -> who answers. A name that ends in `*` stands for all that begin so."""

    providers: dict[str, Provider]
    models: dict[str, Route] = Field(min_length=1)
    retries: int = Field(default=1, ge=0, le=10)
    """How often all targets are tried once more."""
    longest_wait_seconds: float = Field(default=4, ge=0, le=60)
    """What asks for a longer wait is the client's to try again."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name, route in self.models.items():
            if "*" in name[:-1] or not name:
                raise ValueError(f"{name!r} is no model's name: a * can only end it")
            for target in route.targets:
                if target.provider not in self.providers:
                    raise ValueError(f"model {name!r} names provider {target.provider!r}, which is not among providers")
        return self

    def find(self, model: str) -> Route:
        """Its own route, or that of the longest pattern it fits. Raises NotFound, in Anthropic's words."""
        if model in self.models:
            return self.models[model]
        fitting = [name for name in self.models if name.endswith("*") and model.startswith(name[:-1])]
        if not fitting:
            raise NotFound(f"model: {model[:200]}")
        return self.models[max(fitting, key=len)]

    @property
    def named(self) -> dict[str, Route]:
        return {name: route for name, route in self.models.items() if not name.endswith("*")}


DEFAULT = Routes(
    providers={"anthropic": Provider(auth="setting")},
    models={"*": Route(targets=(Target(provider="anthropic"),))},
)


def service_address(setting: str) -> str:
    """`setting`: ANTHROPIC_BASE_URL, which may be a provider's base_url. Raises Invalid for what may not."""
    if not re.fullmatch(_ADDRESS, setting):
        raise Invalid("ANTHROPIC_BASE_URL is http:// or https://, a host and perhaps a path, and nothing else.")
    return setting


def parse(setting: str) -> Routes:
    """`setting`: empty for DEFAULT, JSON, or the path of a file with it. Raises Invalid saying what does not fit."""
    if not setting:
        return DEFAULT
    try:
        text = setting if setting.lstrip().startswith("{") else Path(setting).read_text()
        return Routes.model_validate_json(text)
    except OSError as error:
        raise Invalid(f"LLM_ROUTES names a file that cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"LLM_ROUTES: {place}: {first['msg']}.") from None
