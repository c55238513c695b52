"""What a vault with soft delete keeps, and when a name can be used."""

from dataclasses import dataclass, field
from uuid import uuid4

from shared.core.clock import Clock

RETENTION = 90 * 86_400


class Refusal(Exception):
    """An error answer: `{"error": {"code", "message", "innererror"?: {"code"}}}`."""

    def __init__(self, status: int, code: str, message: str, inner: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.inner = status, code, message, inner


@dataclass(slots=True)
class Secret:
    """`versions`: id -> (value, created); `settled`: when the deletion or recovery that was begun is done."""

    name: str
    versions: dict[str, tuple[str, int]] = field(default_factory=dict)
    deleted_at: int | None = None
    settled: float = 0


class Vault:
    """Names are the same in any case; deletions and recoveries take `settling` seconds."""

    def __init__(self, clock: Clock, settling: float) -> None:
        self._clock, self._settling = clock, settling
        self._secrets: dict[str, Secret] = {}

    def put(self, name: str, value: str) -> tuple[Secret, str]:
        secret = self._secrets.setdefault(name.lower(), Secret(name))
        self._refuse_unsettled(secret)
        if secret.deleted_at is not None:
            raise Refusal(
                409,
                "Conflict",
                f"Secret {name} is currently in a deleted but recoverable state, and its name cannot be reused; "
                "in this state, the secret can only be recovered or purged.",
                "ObjectIsDeletedButRecoverable",
            )
        version = uuid4().hex
        secret.versions[version] = (value, int(self._now()))
        return secret, version

    def get(self, name: str, version: str = "") -> tuple[Secret, str]:
        secret = self._secrets.get(name.lower())
        if secret is None or secret.deleted_at is not None or not self._is_settled(secret):
            raise _not_found(name)
        version = version or list(secret.versions)[-1]
        if version not in secret.versions:
            raise _not_found(f"{name}/{version}")
        return secret, version

    def delete(self, name: str) -> tuple[Secret, str]:
        secret = self._secrets.get(name.lower())
        if secret is None or (secret.deleted_at is not None and self._is_settled(secret)):
            raise _not_found(name)
        self._refuse_unsettled(secret)
        secret.deleted_at, secret.settled = int(self._now()), self._now() + self._settling
        return secret, list(secret.versions)[-1]

    def deleted(self, name: str) -> tuple[Secret, str]:
        secret = self._secrets.get(name.lower())
        if secret is None or secret.deleted_at is None or not self._is_settled(secret):
            raise _not_found(name)
        return secret, list(secret.versions)[-1]

    def recover(self, name: str) -> tuple[Secret, str]:
        secret = self._secrets.get(name.lower())
        if secret is None or secret.deleted_at is None:
            raise _not_found(name)
        self._refuse_unsettled(secret)
        secret.deleted_at, secret.settled = None, self._now() + self._settling
        return secret, list(secret.versions)[-1]

    def _refuse_unsettled(self, secret: Secret) -> None:
        if self._is_settled(secret):
            return
        doing, inner = (
            ("recovered", "ObjectIsBeingRecovered")
            if secret.deleted_at is None
            else ("deleted", "ObjectIsBeingDeleted")
        )
        raise Refusal(409, "Conflict", f"Secret {secret.name} is currently being {doing}.", inner)

    def _is_settled(self, secret: Secret) -> bool:
        return self._now() >= secret.settled

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _not_found(name: str) -> Refusal:
    return Refusal(404, "SecretNotFound", f"A secret with (name/id) {name} was not found in this key vault.")
