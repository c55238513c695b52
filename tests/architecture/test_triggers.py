"""Every trigger of the function app, as the Functions host sees it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_LIST = """
import json
import function_app
found = [(f.get_function_name(), f.get_dict_repr()["bindings"]) for f in function_app.app.get_functions()]
print(json.dumps(found, default=str))
"""

type Bindings = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def functions() -> Bindings:
    """Bindings by function name; in a process of its own, since they can be listed only once."""
    done = subprocess.run([sys.executable, "-c", _LIST], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def triggers(functions: Bindings, kind: str) -> list[dict[str, Any]]:
    return [binding for bindings in functions.values() for binding in bindings if binding["type"] == kind]


class TestHttp:
    def test_the_api_authenticates_itself(self, functions: Bindings) -> None:
        found = triggers(functions, "httpTrigger")
        assert len(found) > 10
        assert {binding["authLevel"].lower() for binding in found} == {"anonymous"}

    def test_every_router_has_a_route(self, functions: Bindings) -> None:
        code = """
import json
from functions.api import AREAS
print(json.dumps([route.path for area in AREAS for route in area.router.routes]))
"""
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
        routes = [binding["route"].replace("{*path}", "").rstrip("/") for binding in triggers(functions, "httpTrigger")]
        for path in json.loads(done.stdout):
            area = path.removeprefix("/api/")
            assert any(area == route or area.startswith(route + "/") for route in routes), path

    def test_every_method_of_the_api_reaches_it(self, functions: Bindings) -> None:
        for binding in triggers(functions, "httpTrigger"):
            assert {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} <= set(binding["methods"])


class TestQueues:
    def test_every_queue_has_a_poison_trigger(self, functions: Bindings) -> None:
        queues = {binding["queueName"] for binding in triggers(functions, "queueTrigger")}
        plain = {queue for queue in queues if not queue.endswith("-poison")}
        assert plain == {"provisioning", "agent-runs", "webhooks", "usage"}
        assert queues == plain | {f"{queue}-poison" for queue in plain}

    def test_every_queue_the_platform_sends_to_is_consumed(self, functions: Bindings) -> None:
        from shared.agents.changes import RUNS_QUEUE
        from shared.core.deliveries import QUEUE as WEBHOOKS
        from shared.tasks.changes import QUEUE
        from shared.webhooks.service import RUNS_QUEUE as UNDELIVERED

        queues = {binding["queueName"] for binding in triggers(functions, "queueTrigger")}
        assert {RUNS_QUEUE, WEBHOOKS, QUEUE, UNDELIVERED, "usage"} <= queues

    def test_failures_are_tried_again_after_a_pause(self) -> None:
        settings = json.loads((ROOT / "host.json").read_text())["extensions"]["queues"]
        assert settings["visibilityTimeout"] != "00:00:00"
        assert settings["maxDequeueCount"] > 1


class TestTimers:
    def test_watchdog_and_sweeper_come_within_a_minute(self, functions: Bindings) -> None:
        assert {"watchdog", "outbox_sweeper"} <= functions.keys()
        for binding in triggers(functions, "timerTrigger"):
            seconds = binding["schedule"].split()[0]
            assert seconds.startswith("*/"), binding["schedule"]
            assert int(seconds.removeprefix("*/")) <= 30
