"""What runs in a run's job, as this machine sees it on either container host."""

import contextlib
import signal
from typing import Any

import psutil
from docker import APIClient
from docker.errors import APIError

from local.cloud import LocalCloud
from shared.adapters.docker_containers import PLATFORM, container_name


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
    return [_command_line(process.pid) for process in processes(cloud, run_id)]


def all_command_lines(cloud: LocalCloud) -> list[str]:
    """Those of the cloud's own processes and of whatever runs in its jobs; others may share this machine."""
    pids = {process.pid for process in psutil.Process().children(recursive=True)}
    if cloud.containers.docker:
        with contextlib.closing(_engine(cloud)) as api:
            for container in _ours(api, cloud):
                pids.update(_top(api, container["Id"]))
    else:
        pids.update(_under(str(cloud.data)))
    return [_command_line(pid) for pid in pids]


def token(cloud: LocalCloud, run_id: str) -> str | None:
    """The run token that the job was given, if a process was told it."""
    for process in processes(cloud, run_id):
        with contextlib.suppress(psutil.Error):
            if found := process.environ().get("RUN_TOKEN"):
                return found
    return None


def printed(cloud: LocalCloud) -> list[bytes]:
    """What each job of this cloud printed."""
    if not cloud.containers.docker:
        return [path.read_bytes() for path in (cloud.data / "jobs").glob("*/job.log")]
    with contextlib.closing(_engine(cloud)) as api:
        return [api.logs(container["Id"]) for container in _ours(api, cloud)]


def kill(cloud: LocalCloud, run_id: str) -> None:
    """As a lack of memory or an operator would: the job is gone, and nothing was reported."""
    if not cloud.containers.docker:
        _keeper(cloud, run_id).send_signal(signal.SIGKILL)
        return
    with contextlib.closing(_engine(cloud)) as api:
        api.kill(container_name(job_name(run_id)))


def _engine(cloud: LocalCloud) -> APIClient:
    return APIClient(cloud.containers.endpoint, version="auto")


def _ours(api: APIClient, cloud: LocalCloud) -> list[dict[str, Any]]:
    return api.containers(all=True, filters={"label": f"{PLATFORM}={cloud.api_url}"})


def _in_container(cloud: LocalCloud, run_id: str) -> list[int]:
    with contextlib.closing(_engine(cloud)) as api:
        return _top(api, container_name(job_name(run_id)))


def _top(api: APIClient, container: str) -> list[int]:
    try:
        listed: Any = api.top(container)
    except APIError:  # not running, or gone
        return []
    return [int(row[listed["Titles"].index("PID")]) for row in listed["Processes"] or ()]


def _in_folder(cloud: LocalCloud, run_id: str) -> list[int]:
    return _under(str(cloud.data / "jobs" / job_name(run_id)))


def _under(folder: str) -> list[int]:
    """Processes that work in this folder or are told of it."""
    found = list[int]()
    for process in psutil.process_iter(["pid"]):
        with contextlib.suppress(psutil.Error):
            if folder in " ".join([process.cwd(), *process.cmdline()]):
                found.append(process.pid)
    return found


def _command_line(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def _keeper(cloud: LocalCloud, run_id: str) -> psutil.Process:
    import orjson

    return psutil.Process(orjson.loads((cloud.data / "jobs" / job_name(run_id) / "job.json").read_bytes())["pid"])
