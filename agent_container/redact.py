"""Keeps credentials out of everything that leaves the container, and long texts short."""

from typing import Any

_DEEPEST = 50
_HIGHEST = 2**53


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

    def value(self, value: Any, limit: int, depth: int = 0) -> Any:
        """`value` (JSON) with every text in it redacted and cut to `limit` characters.

        What no JSON store takes becomes text: numbers without end, half characters, endless nesting.
        """
        if isinstance(value, str):
            return truncated(self.text(value), limit).encode(errors="replace").decode()
        if isinstance(value, dict | list) and depth == _DEEPEST:
            return "[nested too deeply]"
        if isinstance(value, dict):
            return {self.value(str(key), limit): self.value(item, limit, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, limit, depth + 1) for item in value]
        if isinstance(value, int | float) and not abs(value) <= _HIGHEST:  # NaN is not either
            return truncated(str(value), limit)
        return value


def truncated(text: str, limit: int) -> str:
    """Head and tail of a long text, saying how much is missing between them."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 3
    return f"{text[:head]}\n[... {len(text) - head - tail} characters left out ...]\n{text[-tail:]}"
