"""Keeps credentials out of everything that leaves the container, and long texts short."""

from typing import Any


class Redactor:
    """Knows the run's secrets and takes them out of texts."""

    def __init__(self, *secrets: str) -> None:
        self._secrets = {secret for secret in secrets if secret}

    def add(self, secret: str) -> None:
        if secret:
            self._secrets.add(secret)

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[secret removed]")
        return text

    def value(self, value: Any, limit: int) -> Any:
        """`value` (JSON) with every text in it redacted and cut to `limit` characters."""
        if isinstance(value, str):
            return truncated(self.text(value), limit)
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(item, limit) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, limit) for item in value]
        return value


def truncated(text: str, limit: int) -> str:
    """Head and tail of a long text, saying how much is missing between them."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 3
    return f"{text[:head]}\n[... {len(text) - head - tail} characters left out ...]\n{text[-tail:]}"
