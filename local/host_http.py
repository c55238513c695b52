"""HTTP triggers: ASP.NET route templates and the call of the function on the raw connection."""

import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi.encoders import jsonable_encoder
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from local.host_app import AppInvalid, HttpFunction
from shared.core.log import Log

_INVOCATION_HEADER = b"x-ms-invocation-id"
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_PARAMETER = re.compile(r"\{(?P<all>\*{0,2})(?P<name>\w+)(?::(?P<kind>\w+))?(?P<optional>\?)?\}")
_KINDS = {
    "int": r"-?\d+",
    "long": r"-?\d+",
    "alpha": r"[A-Za-z]+",
    "bool": r"(?i:true|false)",
    "guid": r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
}

log = Log("local.host.http")


@dataclass(frozen=True)
class Route:
    """A compiled template. Lower `precedence` is tried first: literal, constrained, any segment, the rest."""

    pattern: re.Pattern[str]
    precedence: tuple[int, ...]
    function: HttpFunction

    def match(self, method: str, path: str) -> dict[str, str] | None:
        if self.function.methods is not None and method not in self.function.methods:
            return None
        found = self.pattern.fullmatch(path)
        return None if found is None else {name: value for name, value in found.groupdict().items() if value}


def compile_route(prefix: str, function: HttpFunction) -> Route:
    """Literals match in any case, a slash at the end is ignored, as in ASP.NET."""
    pattern, precedence = "", list[int]()
    for segment in f"{prefix}/{function.route}".strip("/").split("/"):
        text, rank = _segment(segment, function)
        pattern += text
        precedence.append(rank)
    return Route(re.compile(pattern + "/?", re.DOTALL), tuple(precedence), function)


def _segment(segment: str, function: HttpFunction) -> tuple[str, int]:
    if "{" not in segment and "}" not in segment:
        return f"/(?i:{re.escape(segment)})", 1
    found = _PARAMETER.fullmatch(segment)
    kind = found["kind"] if found else None
    if found is None or (kind and kind not in _KINDS):
        raise AppInvalid(
            f"Function {function.name}: route segment {segment!r} is not understood; use a literal, {{name}}, "
            f"{{name?}}, {{*name}} or a constraint of {', '.join(_KINDS)}."
        )
    if found["all"]:
        return f"(?:/(?P<{found['name']}>.*))?", 5
    value = f"/(?P<{found['name']}>{_KINDS[kind] if kind else '[^/]+'})"
    return (f"(?:{value})?" if found["optional"] else value), 2 if kind else 3


class HttpFunctions:
    """The ASGI application of a function app's HTTP triggers. No route, or no such method: 404, as in Azure."""

    def __init__(self, functions: Sequence[HttpFunction], prefix: str, wrote: Callable[[], None]) -> None:
        """`wrote` is called after each invocation by a method that may change something."""
        self._wrote = wrote
        self._routes = sorted((compile_route(prefix, function) for function in functions), key=lambda r: r.precedence)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for route in self._routes:
            parameters = route.match(scope["method"], scope["path"])
            if parameters is not None:
                await _invoke(route.function, {**_stamped(scope), "path_params": parameters}, receive, send)
                return None if scope["method"] in _SAFE else self._wrote()
        return await Response(status_code=404)(scope, receive, send)


def _stamped(scope: Scope) -> Scope:
    """With the host's invocation id, whatever the client sent."""
    headers = [pair for pair in scope["headers"] if pair[0] != _INVOCATION_HEADER]
    return {**scope, "headers": [*headers, (_INVOCATION_HEADER, str(uuid.uuid4()).encode())]}


async def _invoke(function: HttpFunction, scope: Scope, receive: Receive, send: Send) -> None:
    started = False

    async def watched_send(message: Message) -> None:
        nonlocal started
        started = True
        await send(message)

    try:
        response = _as_response(await function.call(**{function.argument: Request(scope, receive)}))
        await response(scope, receive, watched_send)
    except Exception:
        log.exception("function.failed", function=function.name, method=scope["method"], path=scope["path"])
        if started:
            raise  # the server cuts the connection: the client must not take a part for the whole
        await Response(status_code=500)(scope, receive, send)


def _as_response(result: Any) -> Response:
    """The worker answers a value that is not a response as FastAPI does."""
    return result if isinstance(result, Response) else JSONResponse(jsonable_encoder(result))
