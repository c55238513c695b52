"""The container hosts that one contract holds for, each with a way to reach into what it runs."""

import asyncio
import io
import tarfile
from pathlib import Path
from typing import Any, Protocol

from shared.adapters.docker_containers import USER, container_name
from shared.adapters.docker_engine import DockerEngine
from shared.adapters.docker_host import DockerHost
from shared.adapters.process_host import ProcessHost
from shared.core.ports import ContainerHost, Job, JobSpec, Service, ServiceSpec
from tests.contracts import container_jobs
from tests.engine import Engine
from tests.fakes.container_host import FakeContainerHost
from tests.waiting import until

PROGRAMS = "tests.contracts.container_jobs"
TEAM = "t0"


class Harness(Protocol):
    """A host, the path of a file that its programs can wait for, and a way to write it."""

    @property
    def host(self) -> ContainerHost: ...

    def place(self, name: str) -> str: ...

    async def put(self, job: str, name: str, text: str) -> None:
        """Writes that file for that job or service."""
        ...

    async def take(self, job: str, name: str) -> None:
        """Removes it."""
        ...

    async def finish(self, job: str, code: int, text: str) -> None:
        """Lets a job of `waiting` end."""
        ...


class FakeHarness:
    def __init__(self) -> None:
        self.host = FakeContainerHost()

    def place(self, name: str) -> str:
        return name

    async def put(self, job: str, name: str, text: str) -> None:
        raise AssertionError("The fake runs no programs.")

    async def take(self, job: str, name: str) -> None:
        raise AssertionError("The fake runs no programs.")

    async def finish(self, job: str, code: int, text: str) -> None:
        self.host.finish(job, code, text)


class ProcessHarness:
    def __init__(self, folder: Path) -> None:
        self.host = ProcessHost(folder / "host")
        self._folder = folder

    def place(self, name: str) -> str:
        return str(self._folder / name)

    async def put(self, job: str, name: str, text: str) -> None:
        draft = self._folder / f"{name}.draft"
        draft.write_text(text)
        draft.replace(self._folder / name)

    async def take(self, job: str, name: str) -> None:
        (self._folder / name).unlink()

    async def finish(self, job: str, code: int, text: str) -> None:
        await self.put(job, job, f"{code} {text}")


class DockerHarness:
    def __init__(self, engine: Engine, image: str) -> None:
        self.engine = engine
        self.image = image
        self._hosts = list[DockerHost]()
        self.host = self.another()

    def another(
        self,
        platform: str = "http://contract.test",
        *,
        endpoint: str = "",
        certificates: str = "",
        subnets: str = "",
        patience: int = 60,
    ) -> DockerHost:
        """A host of another process or platform, on the same engine."""
        docker = DockerEngine(endpoint or self.engine.endpoint, certificates, patience)
        self._hosts.append(DockerHost(docker, platform, self.image, subnets or self.engine.subnets))
        return self._hosts[-1]

    async def close(self) -> None:
        """Leaves the engine without containers and volumes; networks are used again."""
        await self.engine.clear(networks=False)
        for host in self._hosts:
            await host.close()

    def place(self, name: str) -> str:
        return f"/tmp/{name}"

    async def put(self, job: str, name: str, text: str) -> None:
        script = 'printf %s "$1" > "$2.draft" && mv "$2.draft" "$2"'
        await asyncio.to_thread(self.run_in, job, ["sh", "-c", script, "sh", text, self.place(name)])

    async def take(self, job: str, name: str) -> None:
        await asyncio.to_thread(self.run_in, job, ["rm", self.place(name)])

    async def finish(self, job: str, code: int, text: str) -> None:
        await self.put(job, job, f"{code} {text}")

    def run_in(self, job: str, command: list[str]) -> str:
        """What a command prints inside a running container."""
        api = self.engine.api()
        started = api.exec_create(container_name(job), command, user=USER)
        printed: bytes = api.exec_start(started["Id"])
        return printed.decode()

    async def inspect(self, job: str) -> dict[str, Any]:
        return await asyncio.to_thread(self.engine.api().inspect_container, container_name(job))


def job(name: str, program: str, *arguments: str, **fields: Any) -> JobSpec:
    return JobSpec(name, fields.pop("team_id", TEAM), (PROGRAMS, program, *arguments), fields.pop("env", {}), **fields)


def service(name: str, program: str, *arguments: str, **fields: Any) -> ServiceSpec:
    return ServiceSpec(name, fields.pop("team_id", TEAM), (PROGRAMS, program, *arguments), **fields)


def waiting(harness: Harness, name: str = "run_t0_a") -> JobSpec:
    return job(name, "wait_for", harness.place(name), env={"GREETING": "hi"})


async def ended(host: ContainerHost, name: str) -> Job:
    async def look() -> Job | None:
        found = await host.job(name)
        assert found, f"{name} is gone"
        return found if found.status == "exited" else None

    found = await until(look)
    assert found
    return found


async def printed(host: ContainerHost, name: str, text: str) -> Job | Service:
    """When it has printed `text`."""

    async def look() -> Job | Service | None:
        found = await host.job(name) or await host.service(name)
        return found if found and text in found.log_tail else None

    found = await until(look)
    assert found
    return found


def build_job_image(engine: Engine, agent_image: str) -> str:
    """The agent's image with the contract's programs."""
    programs = Path(container_jobs.__file__).read_bytes()
    dockerfile = f"FROM {agent_image}\nCOPY container_jobs.py /opt/agent/tests/contracts/\n".encode()
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, content in (("Dockerfile", dockerfile), ("container_jobs.py", programs)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    context.seek(0)
    name = "kanban-contract-jobs:latest"
    said = list(engine.api().build(fileobj=context, custom_context=True, tag=name, rm=True, decode=True))
    assert not [line for line in said if "error" in line], said
    return name
