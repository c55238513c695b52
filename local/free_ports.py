"""Free ports that no other process is about to use: each process takes them from a block of its own."""

import fcntl
import itertools
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_RANGE = range(20_000, 32_768)
"""Below those that connections get by themselves."""
_BLOCK = 128


def free_port() -> int:
    """A TCP port on the loopback that nothing uses, and that no other process is given. RuntimeError: none is left."""
    for port in itertools.islice(_own(), _BLOCK):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("No port of this process's block is free.")


@cache
def _own() -> Iterator[int]:
    """The ports of this process, round and round. They are claimed by a lock on a file until it ends."""
    folder = Path(tempfile.gettempdir()) / f"kanban-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    starts = _RANGE[::_BLOCK][: len(_RANGE) // _BLOCK]
    for start in random.sample(starts, len(starts)):
        handle = os.open(folder / str(start), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        return itertools.cycle(range(start, start + _BLOCK))  # the handle stays open
    raise RuntimeError("Other processes have claimed all blocks of ports.")
