"""The routed models, as the Anthropic API lists models."""

from urllib.parse import parse_qs

from shared.core.errors import BadRequest, NotFound
from shared.core.ports import Json
from shared.llm.routes import Route, Routes

_MOST = 1000
_USUAL = 20


def description(name: str, route: Route) -> Json:
    return {
        "type": "model",
        "id": name,
        "display_name": route.display_name or name,
        "created_at": route.created_at,
    }


def page(routes: Routes, query: str) -> Json:
    """One page of the named models, in the order of the routes; `query` as the API takes it. Raises BadRequest."""
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    names = list(routes.named)
    limit = _limit(asked.get("limit", str(_USUAL)))
    first, end = 0, len(names)
    if "after_id" in asked:
        first = _place(names, "after_id", asked["after_id"]) + 1
    if "before_id" in asked:
        end = _place(names, "before_id", asked["before_id"])
        first = max(first, end - limit)
    shown = names[first:end][:limit]
    more = first > 0 if "before_id" in asked else first + len(shown) < end
    return {
        "data": [description(name, routes.named[name]) for name in shown],
        "has_more": more,
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
    }


def provider_of_all(routes: Routes) -> str:
    """Who answers for every name there is. Raises NotFound where nobody does."""
    route = routes.models.get("*")
    if route is None:
        raise NotFound("No model is named here: LLM_ROUTES has patterns only. Ask for one that fits.")
    return route.targets[0].provider


def _limit(text: str) -> int:
    if not text.isdecimal() or len(text) > len(str(_MOST)) or not 1 <= int(text) <= _MOST:
        raise BadRequest(f"limit: between 1 and {_MOST}.")
    return int(text)


def _place(names: list[str], parameter: str, name: str) -> int:
    if name not in names:
        raise BadRequest(f"{parameter}: there is no model {name[:200]}.")
    return names.index(name)
