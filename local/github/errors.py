"""Refusals in GitHub's shape: {message, documentation_url, status[, errors]}."""

from typing import Any

DOCUMENTATION = "https://docs.github.com/rest"


class GitHubError(Exception):
    """An answer that is an error. `errors` are GitHub's details of a 422."""

    def __init__(self, status: int, message: str, errors: list[Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"message": self.message}
        if self.errors is not None:
            body["errors"] = self.errors
        return body | {"documentation_url": DOCUMENTATION, "status": str(self.status)}


def not_found(message: str = "Not Found") -> GitHubError:
    return GitHubError(404, message)


def forbidden(message: str = "Resource not accessible by integration") -> GitHubError:
    return GitHubError(403, message)


def unauthenticated(message: str = "Bad credentials") -> GitHubError:
    return GitHubError(401, message)


def invalid(resource: str, field: str, message: str, code: str = "custom") -> GitHubError:
    """A 422 about one field."""
    detail = {"resource": resource, "code": code, "field": field, "message": message}
    return GitHubError(422, "Validation Failed", [detail])
