"""The one error hierarchy: each class declares the HTTP status and the stable problem type it becomes."""

from typing import Any, ClassVar


class PlatformError(Exception):
    """Base of every error a caller may see. `detail` says what happened and what to do about it."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    transient: ClassVar[bool] = False

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class BadRequest(PlatformError):
    """The request cannot be parsed."""

    status, type, title = 400, "bad-request", "Bad request"


class Unauthenticated(PlatformError):
    """No credentials, or credentials that are not valid."""

    status, type, title = 401, "unauthenticated", "Sign in first"


class PaymentRequired(PlatformError):
    """A spend cap is used up."""

    status, type, title = 402, "spend-cap", "Spend cap reached"


class Forbidden(PlatformError):
    """The caller is known, may know the thing exists, and may not do this to it."""

    status, type, title = 403, "forbidden", "Not allowed"


class NotFound(PlatformError):
    """It does not exist, or the caller may not know that it does."""

    status, type, title = 404, "not-found", "Not found"


class Conflict(PlatformError):
    """A rule forbids this in the present state."""

    status, type, title = 409, "conflict", "Conflict"


class Exists(Conflict):
    """A document to be created is there already."""

    type, title = "exists", "Already exists"


class Stale(PlatformError):
    """The document changed since the caller read it."""

    status, type, title = 412, "stale", "Changed in the meantime"


class TooLarge(PlatformError):
    """More than can be kept at once."""

    status, type, title = 413, "too-large", "Too large"


class Invalid(PlatformError):
    """Well-formed, but not valid."""

    status, type, title = 422, "invalid", "Not valid"


class RateLimited(PlatformError):
    """Too many requests; `retry_after` is in seconds."""

    status, type, title, transient = 429, "rate-limited", "Too many requests", True

    def __init__(self, detail: str, retry_after: float = 1.0, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.retry_after = retry_after


class Unavailable(PlatformError):
    """Something we depend on did not answer; trying again may help. `retry_after` is in seconds."""

    status, type, title, transient = 503, "unavailable", "Temporarily unavailable", True

    def __init__(self, detail: str, retry_after: float | None = None, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.retry_after = retry_after
