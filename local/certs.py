"""TLS on localhost: a throw-away certificate authority whose only certificate serves the local cloud."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from shared.core.clock import Clock, SystemClock

_HOSTS = ("localhost", "127.0.0.1")
_LIFETIME = timedelta(days=365)
_RENEW_BEFORE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in the certificate folder.

    `server` holds chain and key (mode 0600); `ca` the authority; `bundle` public roots and the authority together.
    """

    server: Path
    ca: Path
    bundle: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes a Python process (requests, httpx, urllib) and Node trust the authority."""
        return {
            "REQUESTS_CA_BUNDLE": str(self.bundle),
            "SSL_CERT_FILE": str(self.bundle),
            "NODE_EXTRA_CA_CERTS": str(self.bundle),
        }


def ensure(
    folder: Path, env: Mapping[str, str] | None = None, hosts: Sequence[str] = _HOSTS, clock: Clock | None = None
) -> Certificates:
    """Keeps what is there and fits; makes it anew when it is missing, damaged or within 30 days of its end.

    The bundle starts from the one `env` (this process's, unless given) names already: SSL_CERT_FILE, then
    REQUESTS_CA_BUNDLE, else certifi's.
    """
    clock = clock or SystemClock()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = Certificates(server=folder / "server.pem", ca=folder / "ca.pem", bundle=folder / "bundle.pem")
    if not _usable(files, hosts, clock):
        _issue(files, hosts, clock)
    _write(
        files.bundle, _roots(os.environ if env is None else env, files.bundle) + b"\n" + files.ca.read_bytes(), 0o644
    )
    return files


def _issue(files: Certificates, hosts: Sequence[str], clock: Clock) -> None:
    """The authority's own key is never written: nothing can be signed with it later."""
    import trustme

    authority = trustme.CA(organization_name="Kanban local cloud")
    leaf = authority.issue_cert(*hosts, not_after=clock.now() + _LIFETIME)
    _write(files.ca, authority.cert_pem.bytes(), 0o644)
    _write(files.server, leaf.private_key_and_cert_chain_pem.bytes(), 0o600)


def _usable(files: Certificates, hosts: Sequence[str], clock: Clock) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        authority = x509.load_pem_x509_certificate(files.ca.read_bytes())
        pem = files.server.read_bytes()
        leaf = x509.load_pem_x509_certificate(pem)
        leaf.verify_directly_issued_by(authority)
        matches = load_pem_private_key(pem, None).public_key() == leaf.public_key()
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    covered = {str(name.value) for name in names}
    fresh = leaf.not_valid_after_utc - clock.now() > _RENEW_BEFORE
    private = files.server.stat().st_mode & 0o077 == 0
    return matches and fresh and private and covered.issuperset(hosts)


def _roots(env: Mapping[str, str], own: Path) -> bytes:
    import certifi

    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        path = Path(env.get(name, ""))
        if path.is_file() and path.resolve() != own.resolve():
            return path.read_bytes()
    return Path(certifi.where()).read_bytes()


def _write(path: Path, data: bytes, mode: int) -> None:
    """Replaces atomically; the file never exists with wider permissions than `mode`."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
