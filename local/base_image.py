"""A base image for the agent from Debian's own package server, for engines that reach no image registry.

`.venv/bin/python -m local.base_image` as root, with debootstrap installed: about a minute, once. The archive is
kept in the cache folder.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from local.agent_image import LOCAL_BASE, ImageMissing

if TYPE_CHECKING:
    from docker import APIClient

SUITE = "trixie"
PACKAGES = ("ca-certificates", "git", "python3", "python3-venv", "ripgrep")
_UNWANTED = (
    "dev",
    "proc",
    "sys",
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
)


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kanban-platform"


def missing() -> str:
    """What is needed to make one here, or nothing."""
    if os.geteuid() != 0:
        return "A base image is made by root: run `.venv/bin/python -m local.base_image` as root."
    return "" if shutil.which("debootstrap") else "Install debootstrap (apt-get install debootstrap)."


def archive(cache: Path) -> Path:
    """The base as a tar file, made when it is not there. Raises ImageMissing."""
    kept = cache / f"base-{SUITE}.tar"
    if kept.exists():
        return kept
    if missing():
        raise ImageMissing(missing())
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        root, draft = Path(folder, "root"), Path(folder, "base.tar")
        argv = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root)]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise ImageMissing(f"debootstrap failed:\n{done.stdout[-1500:]}")
        with tarfile.open(draft, "w") as tar:
            tar.add(root, ".", filter=_wanted)
        draft.replace(kept)
    return kept


def ensure(api: "APIClient", cache: Path) -> str:
    """The image's name."""
    from docker.errors import ImageNotFound

    try:
        api.inspect_image(LOCAL_BASE)
    except ImageNotFound:
        name, tag = LOCAL_BASE.split(":")
        api.import_image_from_file(str(archive(cache)), repository=name, tag=tag)
    return LOCAL_BASE


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    path = member.name.removeprefix("./")
    return None if any(path == each or path.startswith(f"{each}/") for each in _UNWANTED) else member


def main() -> int:
    from local.engine import EngineMissing, connect

    try:
        api = connect(os.environ)
        print(f"{ensure(api, cache_folder())} is on this engine.")
    except (EngineMissing, ImageMissing) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
