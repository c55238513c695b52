"""Wall clocks that can be set, for tests in which they jump."""

import shutil
import struct
import subprocess
from pathlib import Path

from tests.requires import require


class SetClock:
    """The wall clock of processes that are started with `environ`, off by whatever seconds are set."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        require(compiler, "Setting a process's clock needs a C compiler: install gcc.")
        library, self._offset = folder / "clock.so", folder / "offset"
        source = Path(__file__).with_name("clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self._offset.write_bytes(struct.pack("q", 0))
        self.environ = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self._offset)}

    def set(self, seconds: int) -> None:
        with self._offset.open("r+b") as file:  # in place: it is mapped
            file.write(struct.pack("q", seconds))
