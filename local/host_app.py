"""What a function app declares, read from its decorators the way the Functions worker indexes it."""

import asyncio
import importlib
import inspect
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

import azure.functions as func

Call = Callable[..., Awaitable[Any]]


class AppInvalid(RuntimeError):
    """The function app, or its host.json, asks for what this host does not do. The text says what to change."""


@dataclass(frozen=True)
class HttpFunction:
    name: str
    argument: str
    route: str
    methods: frozenset[str] | None  # None: all
    call: Call


@dataclass(frozen=True)
class QueueFunction:
    name: str
    argument: str
    queue: str
    connection: str  # the name of the setting with the connection string
    call: Call


@dataclass(frozen=True)
class TimerFunction:
    name: str
    argument: str
    schedule: str
    run_on_startup: bool
    call: Call


Function = HttpFunction | QueueFunction | TimerFunction


def load(folder: Path) -> func.FunctionApp:
    """The `app` of function_app.py in `folder`, which goes first on the import path, as in the worker."""
    if not (folder / "function_app.py").is_file():
        raise AppInvalid(f"There is no function_app.py in {folder}: pass the function app's folder as --app-dir.")
    sys.path.insert(0, str(folder))
    app = getattr(importlib.import_module("function_app"), "app", None)
    if not isinstance(app, func.FunctionApp):
        raise AppInvalid("function_app.py must define `app`, an azure.functions.FunctionApp.")
    return app


def read(app: func.FunctionApp, env: Mapping[str, str]) -> list[Function]:
    """Every function of `app`; `%NAME%` in a trigger is replaced from `env`. Works once for an app."""
    return [_read(declared, env) for declared in app.get_functions()]


def _read(declared: Any, env: Mapping[str, str]) -> Function:
    name: str = declared.get_function_name()
    trigger = {key: _plain(value, env, name) for key, value in declared.get_trigger().get_dict_repr().items()}
    kind, argument, target = trigger["type"], trigger["name"], declared.get_user_function()
    _check(name, argument, target, [binding.get_dict_repr() for binding in declared.get_bindings()])
    call = _asynchronous(target)
    match kind:
        case "httpTrigger":
            _check_streaming(name, argument, target)
            methods = frozenset(trigger["methods"]) if trigger.get("methods") else None
            return HttpFunction(name, argument, trigger.get("route") or name, methods, call)
        case "queueTrigger":
            connection = trigger.get("connection") or "AzureWebJobsStorage"
            return QueueFunction(name, argument, trigger["queueName"].lower(), connection, call)
        case "timerTrigger":
            return TimerFunction(name, argument, trigger["schedule"], bool(trigger.get("runOnStartup")), call)
        case _:
            raise AppInvalid(f"Function {name} has a {kind}; the local host runs HTTP, queue and timer triggers.")


def _plain(value: Any, env: Mapping[str, str], function: str) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (list, tuple)):
        return [_plain(item, env, function) for item in value]
    if isinstance(value, str):
        return re.sub("%([^%]+)%", lambda found: _setting(found[1], env, function), value)
    return value


def _setting(name: str, env: Mapping[str, str], function: str) -> str:
    if name not in env:
        raise AppInvalid(f"Function {function} refers to the setting {name}, which is not set.")
    return env[name]


def _check(name: str, argument: str, target: Any, bindings: list[dict[str, Any]]) -> None:
    if extra := [b["name"] for b in bindings if b["name"] not in (argument, "$return")]:
        raise AppInvalid(f"Function {name} has bindings besides its trigger ({', '.join(extra)}); use an SDK instead.")
    if list(inspect.signature(target).parameters) != [argument]:
        raise AppInvalid(f"Function {name} must take exactly one parameter, `{argument}`, its trigger.")


def _check_streaming(name: str, argument: str, target: Any) -> None:
    from azurefunctions.extensions.base import RequestTrackerMeta

    if not RequestTrackerMeta.check_type(get_type_hints(target).get(argument, object)):
        raise AppInvalid(
            f"HTTP function {name} must annotate `{argument}` with Request of azurefunctions.extensions.http.fastapi: "
            "one function without it turns streaming off for the whole app."
        )


def _asynchronous(target: Any) -> Call:
    if inspect.iscoroutinefunction(target):
        return target

    async def in_thread(**arguments: Any) -> Any:
        return await asyncio.to_thread(target, **arguments)

    return in_thread
