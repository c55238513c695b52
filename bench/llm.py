"""The LLM gateway beside other gateways, a bare pass-through with one Redis call, and no gateway at all.

Each gateway has the first core to itself. On the other, the load, the model service and Redis come first; what keeps
our usage records waits for them: elsewhere that is another machine.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import llm_peers, llm_wire
from bench.boards import come_first, leave_first_core
from bench.llm_peers import Missing, Subject
from bench.report import OURS, Row, report
from local.child import Child, ChildFailed, accepts_connections
from local.client import Client
from local.cloud import ROOT, LocalCloud
from local.free_ports import free_port
from local.ports import CloudPorts

WARM_UP = 1.0
IDLE_STREAMS = 250
BARE = "limit: bare ASGI + aiohttp + one Redis call"
WORKER = "ours, in Microsoft's Functions worker"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    workers: int
    stream: bool = False
    max_tokens: int = 64


CASES = (
    Case("json-1", 1),
    Case("json-32", 32),
    Case("sse-1", 1, stream=True),
    Case("sse-32", 32, stream=True),
    Case("json-32-100ms", 32, max_tokens=llm_wire.DELAYED),
    Case("sse-1-paced", 1, stream=True, max_tokens=llm_wire.PACED),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a second per case, without the peers that install much")
    parser.add_argument("--only", metavar="TEXT", help="the subjects with TEXT in their name")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("run it as root: load and model service come first on their core")
    leave_first_core()
    with tempfile.TemporaryDirectory(prefix="kanban-bench-") as folder:
        report("llm", asyncio.run(_Bench(Path(folder), options.quick, options.only or "").run()))


class _Bench:
    def __init__(self, folder: Path, quick: bool, only: str) -> None:
        self._folder, self._quick, self._only = folder, quick, only
        self._seconds = 1.0 if quick else 5.0
        self._upstream_port = free_port()
        self._upstream = f"http://127.0.0.1:{self._upstream_port}"

    async def run(self) -> list[Row]:
        argv = _serve("upstream", str(self._upstream_port))
        async with self._child("upstream", argv, self._upstream_port) as upstream:
            come_first(os.getpid())
            come_first(upstream.pid)
            rows = await self._direct()
            async with self._cloud() as cloud, Client(cloud.api_url) as client:
                await client.sign_in("ada@contoso.test")
                key = await _team_key(client, cloud.data)
                come_first(cloud.valkey.child.pid)
                for name, make in self._subjects(cloud, key).items():
                    if self._only.lower() in name.lower():
                        rows += await self._subject(name, make)
        return rows

    def _cloud(self) -> LocalCloud:
        environ = dict(os.environ) | {"ANTHROPIC_BASE_URL": self._upstream, "ANTHROPIC_API_KEY": "sk-bench"}
        return LocalCloud(self._folder / "data", CloudPorts.free(), environ, eager_saves=False)

    def _subjects(self, cloud: LocalCloud, key: str) -> dict[str, Callable[[], Awaitable[Subject]]]:
        """Ours twice: as the gateway's own process, and behind the worker that Azure runs."""
        path, headers = "/api/v1/messages", {"x-api-key": key, "anthropic-version": "2023-06-01"}

        async def ours() -> Subject:
            port = free_port()
            return Subject(OURS, _serve("ours", str(port)), port, headers, path, cloud.settings)

        async def worker() -> Subject:
            port = free_port()
            argv = [sys.executable, "-m", "tests.contracts.worker_host", str(ROOT), str(port)]
            return Subject(WORKER, argv, port, headers, path, cloud.settings)

        async def bare() -> Subject:
            port = free_port()
            argv = _serve("bare", str(port), self._upstream, cloud.valkey.url)
            return Subject(BARE, argv, port)

        def peer(make: Callable[[Path, int, str], Awaitable[Subject]]) -> Callable[[], Awaitable[Subject]]:
            return lambda: make(self._folder, free_port(), self._upstream)

        found = {OURS: ours, BARE: bare, "nginx": peer(llm_peers.nginx)}
        if not self._quick or self._only:
            found |= {WORKER: worker, "Portkey": peer(llm_peers.portkey), "LiteLLM": peer(llm_peers.litellm)}
        return found

    async def _direct(self) -> list[Row]:
        """What the load and the model service can do without anything between."""
        subject = Subject("limit: no gateway", [], self._upstream_port)
        return [row for case in CASES for row in await self._case(subject, case)]

    async def _subject(self, name: str, make: Callable[[], Awaitable[Subject]]) -> list[Row]:
        """Its rows; where it cannot run, one with the reason."""
        try:
            subject = await make()
            env = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "PYTHONPATH": str(ROOT)} | dict(subject.env)
            began = time.perf_counter()
            async with self._child(name.split()[0], subject.argv, subject.port, env, first_core=True) as child:
                await llm_wire.once(subject.port, _request(subject, CASES[0]))
                cold = time.perf_counter() - began
                rows = [row for case in CASES for row in await self._case(subject, case)]
                rows.append(Row("at rest", subject.name, "cold_s", cold, "s"))
                rows.append(Row("after all of it", subject.name, "rss_mb", _rss_mb(child.pid), "MB"))
                rows.append(await self._idle(subject, child.pid))
                if "llm.usage_" in (log := child.log_path.read_text(errors="replace")):
                    raise RuntimeError(f"not all usage was sent to be kept: {log[log.index('llm.usage_') :]}")
                return rows
        except (Missing, ChildFailed, RuntimeError, OSError, ExceptionGroup) as error:
            return [Row(CASES[0].name, name, "rps", None, f"{type(error).__name__}: {error}"[:300])]

    async def _idle(self, subject: Subject, pid: int) -> Row:
        sent = _request(subject, Case("", 1, stream=True, max_tokens=llm_wire.SILENT))
        async with llm_wire.idle(subject.port, sent, IDLE_STREAMS):
            return Row(f"{IDLE_STREAMS} idle streams", subject.name, "rss_mb", _rss_mb(pid), "MB")

    async def _case(self, subject: Subject, case: Case) -> list[Row]:
        sent = _request(subject, case)
        await llm_wire.load(subject.port, sent, case.workers, WARM_UP)
        timings = await llm_wire.load(subject.port, sent, case.workers, self._seconds)
        whole = sorted(timing.whole * 1000 for timing in timings)
        figures = {
            "rps": (len(timings) / self._seconds, "req/s"),
            "p50_ms": (statistics.median(whole), "ms"),
            "p95_ms": (whole[int(len(whole) * 0.95)], "ms"),
            "p99_ms": (whole[int(len(whole) * 0.99)], "ms"),
            "ttfb_p50_ms": (statistics.median(timing.first * 1000 for timing in timings), "ms"),
        }
        return [Row(case.name, subject.name, metric, value, unit) for metric, (value, unit) in figures.items()]

    def _child(
        self, name: str, argv: list[str], port: int, env: Mapping[str, str] | None = None, *, first_core: bool = False
    ) -> Child:
        pinned = ["taskset", "-c", "0", *argv] if first_core else argv
        return Child(
            name,
            pinned,
            env or dict(os.environ),
            self._folder / f"{name}.log",
            lambda: accepts_connections(port),
            cwd=ROOT,
            start_timeout=120,
        )


def _request(subject: Subject, case: Case) -> bytes:
    headers = {"anthropic-version": "2023-06-01"} | dict(subject.headers)
    content = llm_wire.body(stream=case.stream, max_tokens=case.max_tokens)
    return llm_wire.request(subject.path, subject.port, headers, content)


def _rss_mb(pid: int) -> float:
    process = psutil.Process(pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / 1024**2


def _serve(what: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench.llm_served", what, *arguments]


async def _team_key(client: Client, data: Path) -> str:
    started = await client.post("/api/teams", {"name": "Benchmark"})
    await client.finished(started["task_id"])
    return (data / "secrets" / f"llm-key-{started['team']['id']}").read_text()


if __name__ == "__main__":
    main()
