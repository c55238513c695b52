"""A container host whose jobs end when a test says so."""

import re
from dataclasses import replace

from shared.core.errors import Invalid, PlatformError
from shared.core.ports import Job, JobSpec


class FakeContainerHost:
    """`specs` holds every job that was really started; `refusal` is raised by the next start."""

    driver = "fake"

    def __init__(self, *, isolated: bool = True) -> None:
        self.isolated = isolated
        self.specs: list[JobSpec] = []
        self.stopped: list[str] = []
        self.refusal: PlatformError | None = None
        self._jobs: dict[str, Job] = {}

    async def start_job(self, spec: JobSpec) -> Job:
        _check(spec.name)
        if self.refusal:
            refusal, self.refusal = self.refusal, None
            raise refusal
        if spec.name not in self._jobs:
            self.specs.append(spec)
            self._jobs[spec.name] = Job(spec.name, "running")
        return self._jobs[spec.name]

    async def job(self, name: str) -> Job | None:
        _check(name)
        return self._jobs.get(name)

    async def stop_job(self, name: str) -> None:
        _check(name)
        job = self._jobs.get(name)
        if job and job.status == "running":
            self.stopped.append(name)
            self._jobs[name] = replace(job, status="exited", exit_code=143)

    async def close(self) -> None:
        for name in list(self._jobs):
            await self.stop_job(name)

    def finish(self, name: str, exit_code: int = 0, log_tail: str = "") -> None:
        """The job ends by itself."""
        self._jobs[name] = Job(name, "exited", exit_code, log_tail)

    def lose(self, name: str) -> None:
        """The job is gone without a trace, as after a host's reinstallation."""
        del self._jobs[name]


def _check(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):
        raise Invalid(f"{name!r} cannot be the name of a job.")
