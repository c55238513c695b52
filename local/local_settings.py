"""local.settings.json: where `func start` takes a function app's settings from, and our host when it is told to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.host_app import AppInvalid
from shared.adapters.durable_files import replace_file

FILE = "local.settings.json"
_WRITTEN = "SETTINGS_OF_THE_LOCAL_CLOUD"
"""Names of those that were written here, comma separated: the others are a person's own."""


def read(path: Path) -> dict[str, str]:
    """Its Values. Raises AppInvalid for a file that is not as Core Tools has it."""
    values = _load(path).get("Values", {})
    if wrong := [name for name, value in values.items() if not isinstance(value, str)]:
        raise AppInvalid(f"{path}: Values.{wrong[0]} must be a string.")
    return values


def over(values: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with the settings it does not have: what is set there wins, as for Core Tools."""
    return {**values, **{name: value for name, value in environ.items() if value or name not in values}}


def write(path: Path, values: Mapping[str, str], port: int) -> None:
    """Mode 0600. What a person added stays; what was written before and is not among `values` goes."""
    kept = _load(path) if path.exists() else {}
    own = kept.get("Values", {})
    before = {_WRITTEN, *str(own.get(_WRITTEN, "")).split(",")}
    added = {name: value for name, value in own.items() if name not in before}
    content = {
        **kept,
        "IsEncrypted": False,
        "Values": {**added, **values, _WRITTEN: ",".join(values)},
        # Answering for other origins is the application's business: the host must not do it too.
        "Host": {**kept.get("Host", {}), "LocalHttpPort": port, "CORS": ""},
    }
    data = json.dumps(content, indent=2).encode() + b"\n"
    replace_file(path, data, path.with_name(path.name + ".tmp"))


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise AppInvalid(f"There is no {path}: `make cloud` writes it.") from None
    except ValueError as error:
        raise AppInvalid(f"{path} is not JSON: {error}. Mend it, or remove it.") from None
    parts = [content, *(content.get(name, {}) for name in ("Values", "Host"))] if isinstance(content, dict) else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise AppInvalid(f"{path} must hold an object with the objects Values and Host. Mend it, or remove it.")
    if content.get("IsEncrypted"):
        raise AppInvalid(f"{path} is encrypted: decrypt it with `func settings decrypt`.")
    return content
