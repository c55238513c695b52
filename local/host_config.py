"""host.json, with the app settings that override it, as far as the local host honours it."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.host_app import AppInvalid

_OVERRIDE = "AzureFunctionsJobHost__extensions__"
_TIMESPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2}(?:\.\d{1,7})?)")
_MAX_BATCH = 32  # what one request to Storage queues may fetch


@dataclass(frozen=True)
class QueueOptions:
    """Seconds are floats. The last two have no setting: they are the host's own, shortened in tests."""

    batch_size: int = 16
    new_batch_threshold: int = 8 * (os.process_cpu_count() or 1)
    max_dequeue_count: int = 5
    visibility_timeout: float = 0.0
    max_polling_interval: float = 60.0
    base64: bool = True
    min_polling_interval: float = 0.1
    lease: int = 600


@dataclass(frozen=True)
class HostConfig:
    route_prefix: str = "api"
    queues: QueueOptions = QueueOptions()


def read(folder: Path, env: Mapping[str, str]) -> HostConfig:
    """Raises AppInvalid naming the setting that does not fit."""
    path = folder / "host.json"
    if not path.is_file():
        raise AppInvalid(f"There is no host.json in {folder}; the Functions host needs one.")
    try:
        extensions = json.loads(path.read_text()).get("extensions", {})
    except json.JSONDecodeError as error:
        raise AppInvalid(f"{path} is not JSON: {error}.") from None
    queues = {**extensions.get("queues", {}), **_overrides("queues", env)}
    http = {**extensions.get("http", {}), **_overrides("http", env)}
    return HostConfig(route_prefix=str(http.get("routePrefix", "api")).strip("/"), queues=_queues(queues))


def _overrides(section: str, env: Mapping[str, str]) -> dict[str, str]:
    """App settings override host.json, as in Azure: AzureFunctionsJobHost__extensions__queues__batchSize=1."""
    start = f"{_OVERRIDE}{section}__"
    return {name.removeprefix(start): value for name, value in env.items() if name.startswith(start)}


def _queues(given: Mapping[str, Any]) -> QueueOptions:
    default = QueueOptions()
    batch = _number("batchSize", given, default.batch_size, least=1, most=_MAX_BATCH)
    encoding = str(given.get("messageEncoding", "base64")).lower()
    if encoding not in ("base64", "none"):
        raise AppInvalid(f"host.json: extensions.queues.messageEncoding must be base64 or none, not {encoding}.")
    return QueueOptions(
        batch_size=batch,
        new_batch_threshold=_number("newBatchThreshold", given, batch // 2 * (os.process_cpu_count() or 1)),
        max_dequeue_count=_number("maxDequeueCount", given, default.max_dequeue_count, least=1),
        visibility_timeout=_seconds("visibilityTimeout", given, default.visibility_timeout),
        max_polling_interval=max(
            default.min_polling_interval, _seconds("maxPollingInterval", given, default.max_polling_interval)
        ),
        base64=encoding == "base64",
    )


def _number(name: str, given: Mapping[str, Any], default: int, least: int = 0, most: int = 1_000_000) -> int:
    text = str(given.get(name, default))
    if not text.isdecimal() or not least <= int(text) <= most:
        raise AppInvalid(f"host.json: extensions.queues.{name} must be a number from {least} to {most}, not {text}.")
    return int(text)


def _seconds(name: str, given: Mapping[str, Any], default: float) -> float:
    if name not in given:
        return default
    found = _TIMESPAN.fullmatch(str(given[name]))
    if not found:
        raise AppInvalid(f'host.json: extensions.queues.{name} must be like "00:00:30", not {given[name]!r}.')
    days, hours, minutes, seconds = found.groups(default="0")
    return ((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60 + float(seconds)
