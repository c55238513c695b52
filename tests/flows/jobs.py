"""What runs in a run's job, as this machine sees it on either container host."""

import contextlib
import signal
from typing import Any

import psutil
from docker import APIClient
from docker.errors import APIError

from local.cloud import LocalCloud
from shared.adapters.docker_containers import container_name


def job_name(run_id: str) -> str:
    return run_id.replace("_", "-")


def processes(cloud: LocalCloud, run_id: str) -> list[psutil.Process]:
    """Whatever runs in that run's job. In a container, only the superuser may look at them closely."""
    found = list[psutil.Process]()
    for pid in _in_container(cloud, run_id) if cloud.containers.docker else _in_folder(cloud, run_id):
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(pid))
    return found


def command_lines(cloud: LocalCloud, run_id: str) -> list[str]:
    lines = list[str]()
    for process in processes(cloud, run_id):
        with contextlib.suppress(psutil.Error):
            lines.append(" ".join(process.cmdline()))
    return lines


def token(cloud: LocalCloud, run_id: str) -> str | None:
    """The run token that the job was given, if a process was told it."""
    for process in processes(cloud, run_id):
        with contextlib.suppress(psutil.Error):
            if found := process.environ().get("RUN_TOKEN"):
                return found
    return None


def kill(cloud: LocalCloud, run_id: str) -> None:
    """As a lack of memory or an operator would: the job is gone, and nothing was reported."""
    if not cloud.containers.docker:
        _keeper(cloud, run_id).send_signal(signal.SIGKILL)
        return
    with contextlib.closing(_engine(cloud)) as api:
        api.kill(container_name(job_name(run_id)))


def _engine(cloud: LocalCloud) -> APIClient:
    return APIClient(cloud.containers.endpoint, version="auto")


def _in_container(cloud: LocalCloud, run_id: str) -> list[int]:
    with contextlib.closing(_engine(cloud)) as api:
        try:
            listed: Any = api.top(container_name(job_name(run_id)))
        except APIError:  # not running, or gone
            return []
    return [int(row[listed["Titles"].index("PID")]) for row in listed["Processes"]]


def _in_folder(cloud: LocalCloud, run_id: str) -> list[int]:
    found = list[int]()
    for process in psutil.process_iter(["pid"]):
        with contextlib.suppress(psutil.Error):
            place = " ".join([process.cwd(), *process.cmdline()])
            if job_name(run_id) in place and str(cloud.data) in place:
                found.append(process.pid)
    return found


def _keeper(cloud: LocalCloud, run_id: str) -> psutil.Process:
    import orjson

    return psutil.Process(orjson.loads((cloud.data / "jobs" / job_name(run_id) / "job.json").read_bytes())["pid"])
