"""What every container host does with jobs and services."""

import asyncio
import contextlib

import pytest

from shared.core.errors import Invalid, NotFound
from shared.core.ports import Job, Limits
from tests.contracts.hosts import (
    DockerHarness,
    Harness,
    ended,
    job,
    printed,
    service,
    waiting,
)
from tests.waiting import until

DOCKER = pytest.param("docker", marks=pytest.mark.timeout(900))
every_host = pytest.mark.parametrize("driver", ["fake", "process", DOCKER], indirect=True)
real_hosts = pytest.mark.parametrize("driver", ["process", DOCKER], indirect=True)


@every_host
class TestJobs:
    async def test_a_job_runs_and_ends_with_its_code_and_last_lines(self, harness: Harness) -> None:
        started = await harness.host.start_job(waiting(harness))
        assert started.status == "running"
        await harness.finish("run_t0_a", 3, "no disk left")
        found = await ended(harness.host, "run_t0_a")
        assert (found.name, found.exit_code) == ("run_t0_a", 3)
        assert "no disk left" in found.log_tail

    async def test_starting_again_adopts(self, harness: Harness) -> None:
        await harness.host.start_job(waiting(harness))
        assert (await harness.host.start_job(waiting(harness))).status == "running"
        await harness.finish("run_t0_a", 0, "once")
        await ended(harness.host, "run_t0_a")
        again = await harness.host.start_job(waiting(harness))
        assert (again.status, again.exit_code) == ("exited", 0)
        assert again.log_tail.count("once") == 1

    async def test_stopping_ends_it_and_repeating_is_harmless(self, harness: Harness) -> None:
        await harness.host.start_job(waiting(harness))
        await harness.host.stop_job("run_t0_a")
        await harness.host.stop_job("run_t0_a")
        assert _end(await harness.host.job("run_t0_a")) == ("exited", 143)

    async def test_killing_ends_it_at_once_and_repeating_is_harmless(self, harness: Harness) -> None:
        await harness.host.start_job(waiting(harness))
        await harness.host.kill("run_t0_a")
        await harness.host.kill("run_t0_a")
        assert _end(await ended(harness.host, "run_t0_a")) == ("exited", 137)

    async def test_a_job_that_never_was(self, harness: Harness) -> None:
        assert await harness.host.job("nobody") is None
        assert await harness.host.service("nobody") is None
        await harness.host.stop_job("nobody")
        await harness.host.kill("nobody")
        await harness.host.remove("nobody")
        with pytest.raises(NotFound):
            await anext(harness.host.logs("nobody"))

    async def test_jobs_do_not_meet(self, harness: Harness) -> None:
        await harness.host.start_job(waiting(harness, "one"))
        await harness.host.start_job(waiting(harness, "two"))
        await harness.host.stop_job("one")
        two = await harness.host.job("two")
        assert two
        assert two.status == "running"

    @pytest.mark.parametrize("name", ["../a", "", "a/b", ".", "a b", "a\n", "x" * 101])
    async def test_names_that_are_paths_are_refused(self, harness: Harness, name: str) -> None:
        with pytest.raises(Invalid):
            await harness.host.start_job(waiting(harness, name))

    async def test_one_that_was_removed_is_forgotten(self, harness: Harness) -> None:
        await harness.host.start_job(waiting(harness))
        await harness.host.remove("run_t0_a")
        await harness.host.remove("run_t0_a")
        assert await harness.host.job("run_t0_a") is None
        assert await harness.host.hosted() == []

    async def test_what_nobody_remembers_is_listed(self, harness: Harness) -> None:
        await harness.host.start_job(waiting(harness, "orphan"))
        await harness.host.start_job(waiting(harness, "ended"))
        await harness.host.start_service(service("proxy", "say_goodbye", team_id="t1"))
        await harness.finish("ended", 0, "")
        await ended(harness.host, "ended")
        found = {(each.name, each.team_id, each.kind, each.status) for each in await harness.host.hosted()}
        assert found == {
            ("orphan", "t0", "job", "running"),
            ("ended", "t0", "job", "exited"),
            ("proxy", "t1", "service", "running"),
        }
        assert [each.name for each in await harness.host.hosted("t1")] == ["proxy"]

    async def test_a_team_is_removed_with_all_it_has(self, harness: Harness) -> None:
        await harness.host.ensure_team("t1")
        await harness.host.start_job(waiting(harness, "kept"))
        await harness.host.start_job(job("gone", "say_goodbye", team_id="t1"))
        await harness.host.start_service(service("proxy", "say_goodbye", team_id="t1"))
        await harness.host.remove_team("t1")
        await harness.host.remove_team("t1")
        assert [each.name for each in await harness.host.hosted()] == ["kept"]
        assert await harness.host.service("proxy") is None


@every_host
class TestServices:
    async def test_a_service_that_is_there_is_adopted(self, harness: Harness) -> None:
        spec = service("proxy", "say_goodbye")
        first = await harness.host.start_service(spec)
        assert (first.name, first.status, first.health) == ("proxy", "running", None)
        await harness.host.start_service(spec)
        assert await harness.host.job("proxy") is None
        assert len(await harness.host.hosted()) == 1

    async def test_a_stopped_one_stays_ended_until_it_is_started(self, harness: Harness) -> None:
        await harness.host.start_service(service("proxy", "be_deaf"))
        await harness.host.kill("proxy")
        await asyncio.sleep(0.5)
        found = await harness.host.service("proxy")
        assert found
        assert (found.status, found.exit_code) == ("exited", 137)
        assert (await harness.host.start_service(service("proxy", "be_deaf"))).status == "running"


@real_hosts
class TestEnds:
    @pytest.mark.parametrize(
        ("program", "argument", "code"), [("exit_with", "0", 0), ("exit_with", "255", 255), ("end_by", "10", 138)]
    )
    async def test_the_exit_code_is_the_program_s_or_tells_its_signal(
        self, harness: Harness, program: str, argument: str, code: int
    ) -> None:
        await harness.host.start_job(job("run", program, argument))
        assert (await ended(harness.host, "run")).exit_code == code

    async def test_the_time_limit_ends_it(self, harness: Harness) -> None:
        await harness.host.start_job(job("run", "say_goodbye", time_limit=2))
        found = await ended(harness.host, "run")
        assert found.exit_code == 124
        assert "Stopped after 2 seconds, the time limit of this job." in found.log_tail

    async def test_a_stopped_job_may_finish_first(self, harness: Harness) -> None:
        await harness.host.start_job(job("run", "say_goodbye"))
        await printed(harness.host, "run", "ready")
        await harness.host.stop_job("run")
        found = await harness.host.job("run")
        assert found
        assert (found.exit_code, "goodbye" in found.log_tail) == (0, True)

    async def test_one_that_does_not_listen_is_killed(self, harness: Harness) -> None:
        await harness.host.start_job(job("run", "be_deaf"))
        await printed(harness.host, "run", "ready")
        async with asyncio.timeout(12):
            await harness.host.stop_job("run")
        assert _end(await harness.host.job("run")) == ("exited", 137)

    async def test_the_memory_limit_ends_it_and_says_so(self, harness: Harness) -> None:
        await harness.host.start_job(job("run", "eat", "200", limits=Limits(memory_mb=96)))
        found = await ended(harness.host, "run")
        assert found.exit_code == 137
        assert "Ended by its memory limit of 96 MB." in found.log_tail

    async def test_it_has_no_more_processes_than_its_limit(self, harness: Harness) -> None:
        await harness.host.start_job(job("run", "fork", "40", limits=Limits(pids=20)))
        found = await ended(harness.host, "run")
        refused = "no more processes" if isinstance(harness, DockerHarness) else "Ended by its limit of 20 processes."
        assert found.exit_code == (9 if isinstance(harness, DockerHarness) else 137)
        assert refused in found.log_tail


@real_hosts
class TestAtTheSameTime:
    async def test_parallel_starts_of_one_name_give_one_job(self, harness: Harness) -> None:
        found = await asyncio.gather(*(harness.host.start_job(waiting(harness)) for _ in range(8)))
        assert {each.status for each in found} == {"running"}
        await harness.finish("run_t0_a", 0, "only one")
        assert (await ended(harness.host, "run_t0_a")).log_tail.count("only one") == 1
        assert len(await harness.host.hosted()) == 1

    async def test_parallel_starts_of_one_service_give_one(self, harness: Harness) -> None:
        await harness.host.start_service(service("proxy", "remember", "old", volumes={"data": "/data"}))
        await printed(harness.host, "proxy", "start 1 old")
        spec = service("proxy", "remember", "new", volumes={"data": "/data"})
        await asyncio.gather(*(harness.host.start_service(spec) for _ in range(6)))
        await printed(harness.host, "proxy", "start 2 new")
        assert len(await harness.host.hosted()) == 1

    async def test_looking_while_it_is_removed_finds_it_or_nothing(self, harness: Harness) -> None:
        """And starting it meanwhile starts another."""
        for _ in range(3):
            await harness.host.start_job(waiting(harness))
            looks = [harness.host.job("run_t0_a") for _ in range(6)]
            _, *found = await asyncio.gather(harness.host.remove("run_t0_a"), *looks, harness.host.hosted())
            assert {each.name for each in found[:6] if isinstance(each, Job)} <= {"run_t0_a"}
        await asyncio.gather(harness.host.remove("run_t0_a"), harness.host.start_job(waiting(harness, "run_t0_b")))
        assert [each.name for each in await harness.host.hosted()] == ["run_t0_b"]


@real_hosts
class TestLogs:
    async def test_output_comes_while_it_runs_and_the_stream_ends_with_it(self, harness: Harness) -> None:
        await harness.host.start_job(waiting(harness))
        async with contextlib.aclosing(harness.host.logs("run_t0_a")) as logs:
            assert (await anext(logs)).text == "waiting\n"
            found = await harness.host.job("run_t0_a")
            assert found
            assert found.status == "running"
            await harness.finish("run_t0_a", 0, "the end")
            assert "".join([chunk.text async for chunk in logs]) == "the end\n"

    async def test_reading_on_after_any_cursor_loses_and_doubles_nothing(self, harness: Harness) -> None:
        """Also in the middle of many lines of one moment, and of letters of several bytes."""
        await harness.host.start_job(job("run", "print_lines", "2000"))
        await ended(harness.host, "run")
        whole = [chunk async for chunk in harness.host.logs("run")]
        text = "".join(chunk.text for chunk in whole)
        assert text == "".join(f"line {number} {'ü' * 90}\n" for number in range(2000))
        for place in (0, len(whole) // 3, len(whole) - 2, len(whole) - 1):
            after = [chunk.text async for chunk in harness.host.logs("run", whole[place].cursor)]
            assert after == [chunk.text for chunk in whole[place + 1 :]]

    async def test_a_reader_who_leaves_again_and_again_misses_nothing(self, harness: Harness) -> None:
        await harness.host.start_job(job("run", "count_until", harness.place("enough")))
        text, cursor = "", ""
        for _ in range(4):
            async with contextlib.aclosing(harness.host.logs("run", cursor)) as logs:
                for _ in range(5):
                    chunk = await anext(logs)
                    text, cursor = text + chunk.text, chunk.cursor
        await harness.put("run", "enough", "")
        text += "".join([chunk.text async for chunk in harness.host.logs("run", cursor)])
        *numbers, last = text.splitlines()
        assert [int(number) for number in numbers] == list(range(len(numbers)))
        assert last == f"last {len(numbers)}"

    async def test_the_tail_is_cut_to_whole_lines(self, harness: Harness) -> None:
        await harness.host.start_job(job("loud", "print_lines", "5000"))
        tail = (await ended(harness.host, "loud")).log_tail
        assert len(tail.encode()) < 17_000
        assert tail.startswith("line ")
        assert tail.splitlines()[-1].startswith("line 4999 ")


@real_hosts
class TestHealth:
    async def test_it_becomes_healthy_and_unhealthy(self, harness: Harness) -> None:
        check = ("tests.contracts.container_jobs", "exists", harness.place("well"))
        seen = [(await harness.host.start_service(service("proxy", "be_deaf", health=check))).health]

        async def told(wanted: str) -> bool:
            found = await harness.host.service("proxy")
            assert found
            if found.health != seen[-1]:
                seen.append(found.health)
            return found.health == wanted

        await asyncio.sleep(1)
        await harness.put("proxy", "well", "")
        await until(lambda: told("healthy"))
        await harness.take("proxy", "well")
        await until(lambda: told("unhealthy"))
        assert seen == ["starting", "healthy", "unhealthy"]
        await harness.host.kill("proxy")
        found = await harness.host.service("proxy")
        assert found
        assert found.health is None


@real_hosts
class TestVolumes:
    async def test_a_service_writes_and_its_successor_finds_it(self, harness: Harness) -> None:
        volumes = {"data": "/data", "more-data": "/more"}
        await harness.host.start_service(service("proxy", "remember", "one", volumes=volumes))
        await printed(harness.host, "proxy", "start 1 one")
        await harness.host.start_service(service("proxy", "remember", "two", volumes=volumes))
        await printed(harness.host, "proxy", "start 2 two")
        await harness.host.remove("proxy")
        await harness.host.start_service(service("other", "remember", "three", volumes=volumes))
        await printed(harness.host, "other", "start 3 three")

    async def test_they_go_with_the_team(self, harness: Harness) -> None:
        spec = service("proxy", "remember", "one", team_id="t1", volumes={"data": "/data"})
        await harness.host.start_service(spec)
        await printed(harness.host, "proxy", "start 1")
        await harness.host.remove_team("t1")
        await harness.host.start_service(spec)
        assert "start 1 one" in (await printed(harness.host, "proxy", "start")).log_tail

    @pytest.mark.parametrize("name", ["../data", "", "a/b"])
    async def test_names_that_are_paths_are_refused(self, harness: Harness, name: str) -> None:
        with pytest.raises(Invalid):
            await harness.host.start_service(service("proxy", "remember", volumes={name: "/data"}))


class TestClosing:
    @pytest.mark.parametrize("driver", ["fake", "process"], indirect=True)
    async def test_what_cannot_outlive_the_host_ends_with_it(self, harness: Harness) -> None:
        await harness.host.start_job(waiting(harness))
        await harness.host.close()
        found = await harness.host.job("run_t0_a")
        assert found
        assert found.status == "exited"

    async def test_containers_outlive_it(self, docker: DockerHarness) -> None:
        await docker.another().start_job(waiting(docker))
        await docker.finish("run_t0_a", 7, "later")
        assert (await ended(docker.another(), "run_t0_a")).exit_code == 7


def _end(found: Job | None) -> tuple[str, int | None]:
    assert found
    return found.status, found.exit_code
