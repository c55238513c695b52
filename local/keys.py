"""The private key of the local GitHub App, made once and kept."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@dataclass(frozen=True, slots=True)
class AppKey:
    """PEM texts."""

    private: str = field(repr=False)
    public: str


def app_key(path: Path) -> AppKey:
    """The key at `path`, made with mode 0600 when it is not there yet."""
    if not path.exists():
        _make(path)
    private = path.read_bytes()
    key = serialization.load_pem_private_key(private, None)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return AppKey(private.decode(), public.decode())


def _make(path: Path) -> None:
    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    temporary.replace(path)
