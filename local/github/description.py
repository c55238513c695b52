"""GitHub's own description of its API, to hold the emulator's answers and its callers' requests against."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson

_FILE = Path(__file__).parent / "spec" / "github.json"
_UNDOCUMENTED = {400, 401, 403, 404, 415, 422}


def complaints(path: str, method: str, status: int, body: Any) -> list[str]:
    """What is wrong with an answer; empty when it is as described."""
    validator = _answer(path, method, status)
    if isinstance(validator, str):
        return [validator]
    if validator is None:
        return [] if body is None else [f"a {status} has no body"]
    return _errors(validator, body)


def request_complaints(path: str, method: str, body: dict[str, Any]) -> list[str]:
    """What is wrong with a request's body."""
    schema = _request_schema(path, method)
    return _errors(_validator(schema), body) if schema else []


def without_nulls(path: str, method: str, body: dict[str, Any]) -> dict[str, Any]:
    """GitHub takes null for an optional field as leaving it out; clients send it, the description forbids it."""
    required = (_request_schema(path, method) or {}).get("required", [])
    return {name: value for name, value in body.items() if value is not None or name in required}


def _errors(validator: jsonschema_rs.Draft202012Validator, body: Any) -> list[str]:
    return [f"{'/'.join(map(str, e.instance_path))}: {e.message[:300]}" for e in validator.iter_errors(body)]


@cache
def _answer(path: str, method: str, status: int) -> jsonschema_rs.Draft202012Validator | str | None:
    responses = _description()["paths"][path][method]["responses"]
    found = responses.get(str(status))
    if found is None:
        known = status in _UNDOCUMENTED
        return _validator({"$ref": "#/components/schemas/basic-error"}) if known else f"{status} is not documented"
    if "$ref" in found:
        found = _description()["components"]["responses"][found["$ref"].rsplit("/", 1)[1]]
    if "content" in found:
        return _validator(found["content"]["application/json"]["schema"])
    return _validator({"$ref": "#/components/schemas/basic-error"}) if status >= 400 else None


@cache
def _request_schema(path: str, method: str) -> dict[str, Any] | None:
    body = _description()["paths"][path][method].get("requestBody")
    return body["content"]["application/json"]["schema"] if body else None


def _validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({"components": {"schemas": _schemas()}, **_modern(schema)})


@cache
def _description() -> dict[str, Any]:
    return orjson.loads(_FILE.read_bytes())


@cache
def _schemas() -> dict[str, Any]:
    return _modern(_description()["components"]["schemas"])


def _modern(node: Any) -> Any:
    """OpenAPI 3.0 to JSON Schema: `nullable` becomes a type, and a `$ref` loses what stands beside it."""
    if isinstance(node, list):
        return [_modern(item) for item in node]
    if not isinstance(node, dict):
        return node
    nullable = node.get("nullable") is True
    schema = {key: _modern(value) for key, value in node.items() if not (key == "nullable" and value is True)}
    if not nullable:
        return schema
    if isinstance(schema.get("enum"), list):
        schema["enum"] = [*schema["enum"], None]
    if isinstance(schema.get("type"), str):
        return schema | {"type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def route(path: str) -> str:
    """A path template of the description as a Starlette route: branches, refs and comparisons may hold slashes."""
    return (
        re.sub(r"\{(branch|ref|basehead)\}", r"{\1:path}", path)
        .replace("_id}", "_id:int}")
        .replace("pull_number}", "pull_number:int}")
    )
