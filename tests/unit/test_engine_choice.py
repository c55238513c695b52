"""Which container host the local cloud takes, and what it tells people about it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.engine import ContainerChoice, EngineMissing, choose


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """A socket at which nobody answers."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "docker.sock"))
        yield f"unix://{tmp_path / 'docker.sock'}"


class TestChoose:
    def test_processes_are_taken_where_they_are_asked_for(self) -> None:
        choice = choose({"CONTAINER_HOST": "process"})
        assert not choice.docker
        assert choice.described() == ("local processes", "no isolation: commands run as you (CONTAINER_HOST=process)")

    @pytest.mark.parametrize(
        ("where", "why"),
        [
            ("unix:///nowhere/docker.sock", "no Docker engine answers at unix:///nowhere/docker.sock"),
            ("tcp://10.0.0.1:2376", "needs an engine on this machine"),
            ("ssh://somewhere", "needs an engine on this machine"),
        ],
    )
    def test_without_a_usable_engine_processes_are_taken_and_the_reason_is_told(self, where: str, why: str) -> None:
        choice = choose({"DOCKER_HOST": where})
        assert not choice.docker
        assert why in choice.described()[1]

    def test_one_that_does_not_answer_is_none(self, silent: str) -> None:
        assert "does not answer" in choose({"DOCKER_HOST": silent}).why

    def test_where_docker_is_asked_for_nothing_else_is_taken(self, silent: str) -> None:
        for where in (silent, "unix:///nowhere/docker.sock"):
            with pytest.raises(EngineMissing, match="CONTAINER_HOST=docker"):
                choose({"CONTAINER_HOST": "docker", "DOCKER_HOST": where})

    def test_a_driver_that_does_not_exist_is_an_error(self) -> None:
        with pytest.raises(EngineMissing, match="podman"):
            choose({"CONTAINER_HOST": "podman"})

    def test_an_engine_is_named_with_its_version(self) -> None:
        choice = ContainerChoice("unix:///x", "kanban-agent:1", "20.10.24")
        assert choice.described() == ("Docker engine 20.10.24", "isolated: each job in a container of its own")
