"""A container host whose jobs and services end when a test says so."""

import re
from collections.abc import AsyncGenerator
from dataclasses import replace

from shared.core.errors import Invalid, NotFound, PlatformError
from shared.core.ports import Hosted, Job, JobSpec, LogChunk, Service, ServiceSpec


class FakeContainerHost:
    """`specs` holds every job that was really started, `services` every service; `refusal` is raised by the next start.

    `outage` is raised by every call until it is None again.
    """

    driver = "fake"

    def __init__(self, *, isolated: bool = True) -> None:
        self.isolated = isolated
        self.specs: list[JobSpec] = []
        self.services: list[ServiceSpec] = []
        self.stopped: list[str] = []
        self.teams: list[str] = []
        self.refusal: PlatformError | None = None
        self.outage: PlatformError | None = None
        self._jobs: dict[str, Job] = {}
        self._services: dict[str, Service] = {}
        self._logs: dict[str, list[str]] = {}
        self._team_of: dict[str, str] = {}

    async def start_job(self, spec: JobSpec) -> Job:
        self._check(spec.name)
        self._refuse()
        if spec.name not in self._jobs:
            self.specs.append(spec)
            self._jobs[spec.name] = Job(spec.name, "running")
            self._team_of[spec.name] = spec.team_id
        return self._jobs[spec.name]

    async def start_service(self, spec: ServiceSpec) -> Service:
        self._check(spec.name)
        self._refuse()
        there = self._services.get(spec.name)
        if there is None or there.status == "exited" or spec not in self.services:
            self.services = [each for each in self.services if each.name != spec.name] + [spec]
            self._services[spec.name] = Service(spec.name, "running", "healthy" if spec.health else None)
            self._team_of[spec.name] = spec.team_id
        return self._services[spec.name]

    async def job(self, name: str) -> Job | None:
        self._check(name)
        return self._jobs.get(name)

    async def service(self, name: str) -> Service | None:
        self._check(name)
        return self._services.get(name)

    async def stop_job(self, name: str) -> None:
        self._check(name)
        job = self._jobs.get(name)
        if job and job.status == "running":
            self.stopped.append(name)
        self._end(name, 143)

    async def stop_service(self, name: str) -> None:
        self._check(name)
        self._end(name, 143)

    async def kill(self, name: str) -> None:
        self._check(name)
        self._end(name, 137)

    async def remove(self, name: str) -> None:
        self._check(name)
        self._jobs.pop(name, None)
        self._services.pop(name, None)
        self._logs.pop(name, None)

    async def logs(self, name: str, after: str = "") -> AsyncGenerator[LogChunk]:
        """What was printed until now; it never waits."""
        self._check(name)
        if name not in self._jobs and name not in self._services:
            raise NotFound(f"{name} is not on this host.")
        for number, text in enumerate(self._logs.get(name, [])):
            if number >= int(after or 0):
                yield LogChunk(str(number + 1), text)

    async def hosted(self, team_id: str | None = None) -> list[Hosted]:
        self._answer()
        found = [Hosted(job.name, self._team_of[job.name], "job", job.status) for job in self._jobs.values()]
        found += [
            Hosted(each.name, self._team_of[each.name], "service", each.status) for each in self._services.values()
        ]
        return [each for each in found if team_id in (None, each.team_id)]

    async def ensure_team(self, team_id: str) -> None:
        self.teams.append(team_id)

    async def remove_team(self, team_id: str) -> None:
        for each in await self.hosted(team_id):
            await self.remove(each.name)
        self.teams = [each for each in self.teams if each != team_id]

    async def close(self) -> None:
        for name in list(self._jobs):
            await self.stop_job(name)

    def finish(self, name: str, exit_code: int = 0, log_tail: str = "") -> None:
        """It ends by itself."""
        self._logs.setdefault(name, []).append(log_tail)
        if name in self._jobs:
            self._jobs[name] = Job(name, "exited", exit_code, log_tail)
        else:
            self._services[name] = Service(name, "exited", None, exit_code, log_tail)

    def lose(self, name: str) -> None:
        """The job is gone without a trace, as after a host's reinstallation."""
        del self._jobs[name]

    def _end(self, name: str, exit_code: int) -> None:
        job, service = self._jobs.get(name), self._services.get(name)
        if job and job.status == "running":
            self._jobs[name] = replace(job, status="exited", exit_code=exit_code)
        if service and service.status == "running":
            self._services[name] = replace(service, status="exited", health=None, exit_code=exit_code)

    def _refuse(self) -> None:
        if self.refusal:
            refusal, self.refusal = self.refusal, None
            raise refusal

    def _answer(self) -> None:
        if self.outage:
            raise self.outage

    def _check(self, name: str) -> None:
        self._answer()
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):
            raise Invalid(f"{name!r} cannot be the name of a job or service.")
