"""How containers reach what the platform knows under another address."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from shared.core.errors import Invalid


@dataclass(frozen=True, slots=True)
class ContainerAddresses:
    """`pairs` are `prefix=replacement`; the longest prefix that fits an address is replaced in it."""

    pairs: Sequence[tuple[str, str]] = field(default=(), repr=False)

    @classmethod
    def parse(cls, pairs: Sequence[str]) -> "ContainerAddresses":
        parts = [pair.partition("=") for pair in pairs]
        if not all(prefix and replacement for prefix, _, replacement in parts):
            raise Invalid("Setting CONTAINER_URLS needs pairs like http://localhost:4283=http://git.internal.")
        longest_first = sorted(parts, key=lambda part: len(part[0]), reverse=True)
        return cls(tuple((prefix, replacement) for prefix, _, replacement in longest_first))

    def inside(self, url: str) -> str:
        """The address that a container has to use."""
        for prefix, replacement in self.pairs:
            if url.startswith(prefix):
                return replacement + url.removeprefix(prefix)
        return url

    def outside(self, text: str) -> str:
        """What a container says, with the addresses that people know."""
        for prefix, replacement in self.pairs:
            parts = urlsplit(replacement)
            without_login = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
            text = text.replace(without_login, prefix)
        return text
