"""Small disks, for tests that fill them."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.requires import require


@contextmanager
def mounted(folder: Path, megabytes: int) -> Generator[None]:
    """A disk in memory at `folder`, which exists. Skips where this user may not mount one."""
    argv = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    done = subprocess.run(argv, check=False, capture_output=True)
    require(done.returncode == 0, "Mounting a small disk: run as root, where root may mount (CAP_SYS_ADMIN).")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
