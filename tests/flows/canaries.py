"""Looks for secrets where none belong: exact values in every common encoding, and whatever is shaped like one."""

import base64
import binascii
import contextlib
import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

SHAPES = {
    "a JSON web token": rb"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}",
    "an API token": rb"kbp_[a-z0-9]{8,}_[a-z0-9]{8,}_[a-z0-9]{20,}",
    "a virtual key": rb"kvk_[0-9a-z]{20,}",
    "a webhook secret": rb"whsec_[A-Za-z0-9+/]{20,}",
    "a provider key": rb"sk-ant-[A-Za-z0-9-]{10,}",
    "a GitHub token": rb"gh[ps]_[A-Za-z0-9]{10,}",
    "a private key": rb"PRIVATE KEY-----",
    "a PKCE verifier": rb"code_verifier.{0,12}[A-Za-z0-9._~-]{43}",
}
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
_SHORTEST = 8


class Scanner:
    """`secrets`: name -> value. `found(data)` names what is in there."""

    def __init__(self, secrets: dict[str, str]) -> None:
        assert all(len(value) >= _SHORTEST for value in secrets.values()), "too short to tell from other text"
        self._forms = {form: name for name, value in secrets.items() for form in forms(value)}
        self._exact = re.compile(b"|".join(re.escape(form) for form in self._forms) or rb"(?!)")
        self._shapes = {name: re.compile(pattern) for name, pattern in SHAPES.items()}

    def found(self, data: bytes) -> set[str]:
        names = self._found_plain(data)
        for piece in _decoded(data):
            names |= self._found_plain(piece)
        return names

    def _found_plain(self, data: bytes) -> set[str]:
        names = {self._forms[match.group()] for match in self._exact.finditer(data)}
        return names | {name for name, shape in self._shapes.items() if shape.search(data)}

    def in_files(self, files: Iterable[Path]) -> list[str]:
        """`file: what` for each find."""
        finds: list[str] = []
        for path in files:
            with contextlib.suppress(FileNotFoundError):
                finds += [f"{path}: {name}" for name in sorted(self.found(path.read_bytes()))]
        return finds

    def in_git(self, repository: Path) -> list[str]:
        """Every object, reachable or not."""
        listed = ["git", "-C", str(repository), "cat-file", "--batch-all-objects", "--batch"]
        objects = subprocess.run(listed, capture_output=True, check=True).stdout
        return [f"{repository}: {name}" for name in sorted(self.found(objects))]


def forms(value: str) -> set[bytes]:
    """As it stands, in a URL, inside JSON, and as base64 wherever it begins within its three bytes."""
    raw = value.encode()
    found = {raw, quote(value, safe="").encode(), quote(value).encode(), json.dumps(value)[1:-1].encode()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            inner = encode(b"\0" * shift + raw)
            begin, end = -(-shift * 8 // 6), (shift + len(raw)) * 8 // 6
            found.add(inner[begin:end])
    return found


def _decoded(data: bytes) -> Iterator[bytes]:
    for match in _BASE64.finditer(data):
        text = match.group().rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        with contextlib.suppress(binascii.Error):
            yield base64.b64decode(text + b"=" * (-len(text) % 4))


def files_under(folder: Path, *without: Path) -> list[Path]:
    skipped = [path.resolve() for path in without]
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(path.resolve().is_relative_to(other) for other in skipped)
    ]


def environment_of(variable: str, value: str) -> dict[str, str]:
    """The environment of a process that has `variable=value` in it; empty when there is none."""
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            pairs = [item.decode(errors="replace").partition("=") for item in entry.read_bytes().split(b"\0")]
            found = {name: text for name, _, text in pairs}
            if found.get(variable) == value:
                return found
    return {}
