"""Text to seconds."""

import re

SECONDS = {"s": 1, "m": 60, "h": 3600}
PART = re.compile(r"(\d+)\s*([a-z])")


def parse(text: str) -> int:
    """The seconds in a text such as "1h 30m"."""
    total = 0
    for number, unit in PART.findall(text):
        if unit not in SECONDS:
            raise ValueError(f"unknown unit {unit!r} in {text!r}")
        total += int(number) * SECONDS[unit]
    return total
