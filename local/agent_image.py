"""The agent's image on a Docker engine, built when it is missing. Its tag is what it is made of and for whom.

Several checkouts may share an engine: each removes its own tags only, and an image goes with its last tag.
"""

import contextlib
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docker import APIClient

CONTEXT = Path(__file__).resolve().parents[1] / "agent_container"
LOCAL_BASE = "kanban-base:trixie"
PUBLIC_BASE = "python:3.13-slim"
_REPOSITORY = "kanban-agent"
_CHECKOUT = hashlib.sha256(bytes(CONTEXT)).hexdigest()[:6]
_MADE = re.compile(rf"{_REPOSITORY}:([0-9a-f]{{12}})-([0-9a-f]{{6}})")
"""Other tags are people's own."""

type Tell = Callable[[str], None]


class ImageMissing(RuntimeError):
    """The agent's image cannot be made here; the text says why and what helps."""


def ensure(api: "APIClient", base: str = "", tell: Tell = lambda _: None) -> str:
    """The image's name. `base` replaces the base image. Raises ImageMissing."""
    from docker.errors import ImageNotFound

    base = base or _base(api, tell)
    try:
        known = api.inspect_image(base)["Id"]
    except ImageNotFound:
        raise ImageMissing(f"The base image {base} is not on this engine: pull or import it.") from None
    digest = _digest(base, known)
    tag = f"{digest}-{_CHECKOUT}"
    name = f"{_REPOSITORY}:{tag}"
    made = _made(api)
    if name not in made:
        if same := next((other for other, (sources, _) in made.items() if sources == digest), None):
            api.tag(same, _REPOSITORY, tag)
        else:
            _build(api, name, base, tell)
        _remove_others(api, name)
    return name


def _base(api: "APIClient", tell: Tell) -> str:
    from docker.errors import APIError, DockerException

    for name in (LOCAL_BASE, PUBLIC_BASE):
        if _present(api, name):
            return name
    tell(f"Pulling {PUBLIC_BASE} ...")
    try:
        api.pull(PUBLIC_BASE)
    except (APIError, DockerException, OSError) as error:
        raise ImageMissing(
            f"{PUBLIC_BASE} cannot be pulled ({getattr(error, 'explanation', None) or error}). Where no registry is "
            "reachable, make a base image as root with `.venv/bin/python -m local.base_image`, or name your own in "
            "AGENT_BASE_IMAGE."
        ) from error
    return PUBLIC_BASE


def _present(api: "APIClient", name: str) -> bool:
    from docker.errors import ImageNotFound

    try:
        api.inspect_image(name)
    except ImageNotFound:
        return False
    return True


def _files() -> Iterator[Path]:
    for path in sorted(CONTEXT.iterdir()):
        if path.is_file():
            yield path


def _digest(base: str, base_id: str) -> str:
    digest = hashlib.sha256(f"{base} {base_id}\0".encode())
    for path in _files():
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _build(api: "APIClient", name: str, base: str, tell: Tell) -> None:
    tell(f"Building the agent's image {name} from {base} (once, about half a minute) ...")
    said = list[str]()
    with tempfile.TemporaryDirectory() as folder:
        wheels = _wheels(Path(folder), api.info()["Architecture"])
        steps: Any = api.build(
            fileobj=io.BytesIO(_context(wheels)),
            custom_context=True,
            tag=name,
            buildargs={"BASE": base},
            network_mode="host",
            rm=True,
            forcerm=True,
            decode=True,
        )
        for step in steps:
            said += [line for line in step.get("stream", "").splitlines() if line.strip()]
            if "error" in step:
                raise ImageMissing("The agent's image could not be built:\n" + "\n".join([*said[-15:], step["error"]]))


def _remove_others(api: "APIClient", name: str) -> None:
    """This checkout's images of earlier sources. The engine keeps those that containers were made of."""
    from docker.errors import APIError

    for tag, (_, checkout) in _made(api).items():
        if checkout == _CHECKOUT and tag != name:
            with contextlib.suppress(APIError):
                api.remove_image(tag)


def _made(api: "APIClient") -> dict[str, tuple[str, str]]:
    """What any checkout made here: tag -> (digest of what it is made of, checkout)."""
    tags = [tag for image in api.images(name=_REPOSITORY) for tag in image["RepoTags"] or ()]
    return {tag: (found[1], found[2]) for tag in tags if (found := _MADE.fullmatch(tag))}


def _wheels(folder: Path, architecture: str) -> list[Path]:
    """The agent's packages, fetched here, where proxies and certificates are set up; the build needs no network."""
    platforms = [f"--platform=manylinux_2_{minor}_{architecture}" for minor in (17, 28, 34)]
    argv = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--no-deps", "--python-version=3.13"]
    argv += [*platforms, f"--platform=manylinux2014_{architecture}", "-d", str(folder)]
    done = subprocess.run([*argv, "-r", str(CONTEXT / "requirements.txt")], capture_output=True, text=True)
    if done.returncode:
        raise ImageMissing(f"The agent's packages could not be fetched: {done.stderr.strip()[-500:]}")
    return sorted(folder.iterdir())


def _context(wheels: list[Path]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in _files():
            archive.add(path, path.name)
        for wheel in wheels:
            archive.add(wheel, f"wheels/{wheel.name}")
    return stream.getvalue()
