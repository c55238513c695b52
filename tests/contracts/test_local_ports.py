"""A port in use is named together with who uses it."""

import os
import socket
import sys
from collections.abc import Generator
from dataclasses import replace
from subprocess import PIPE, Popen

import pytest

from local.free_ports import free_port
from local.ports import CloudPorts, PortsTaken, require_all_free


@pytest.fixture
def taken() -> Generator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


class TestPorts:
    def test_free_ports_pass(self) -> None:
        require_all_free(CloudPorts.free())

    def test_a_port_in_use_names_the_port_its_purpose_and_its_owner(self, taken: int) -> None:
        with pytest.raises(PortsTaken) as caught:
            require_all_free(replace(CloudPorts.free(), github=taken))
        assert f"port {taken} (github) is in use by" in str(caught.value)
        assert f"(process {os.getpid()})" in str(caught.value)

    def test_every_port_in_use_is_told_at_once(self, taken: int) -> None:
        with pytest.raises(PortsTaken) as caught:
            require_all_free(replace(CloudPorts.free(), github=taken, web=taken))
        assert str(caught.value).count(f"port {taken}") == 2

    def test_free_ones_are_given_to_one_process_only(self) -> None:
        given = "from local.free_ports import free_port; print(*(free_port() for _ in range(40)))"
        others = [
            Popen([sys.executable, "-c", f"{given}; input()"], stdin=PIPE, stdout=PIPE, text=True) for _ in range(3)
        ]
        ports = [str(free_port()) for _ in range(40)]
        for other in others:
            assert other.stdout is not None
            ports += other.stdout.readline().split()
        for other in others:
            other.communicate("\n")
        assert len(set(ports)) == len(ports) == 160
