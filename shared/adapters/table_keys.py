"""Names as keys of Table Storage: the same order, none of the characters that keys may not hold.

Letters, digits and `_` stay. Any other character becomes a marker that sorts where it does, and its code point.
learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model
"""

import re
from bisect import bisect_right

_MARKERS = "-.:[`{"
"""Each the lowest of its stretch of characters that are neither letters, digits nor `_`."""
_POINTS = [ord(marker) for marker in _MARKERS]
_OTHER = re.compile(r"[^A-Za-z0-9_]")
_ENCODED = re.compile(r"\.([-.])|([-:\[`{])([0-9a-f]{6})")
LAST = "~"
"""Sorts after every encoded character."""
LONGEST = 512
"""Characters of a key: 1 KiB of UTF-16."""


def encode(name: str) -> str:
    return _OTHER.sub(_encoded, name)


def decode(key: str) -> str:
    return _ENCODED.sub(_decoded, key)


def _encoded(found: re.Match[str]) -> str:
    character = found[0]
    if character == "/":  # most frequent by far, so short; only `.` shares its marker
        return ".."
    if character == ".":
        return ".-"
    marker = _MARKERS[max(0, bisect_right(_POINTS, ord(character)) - 1)]
    return f"{marker}{ord(character):06x}"


def _decoded(found: re.Match[str]) -> str:
    if found[1]:
        return "/" if found[1] == "." else "."
    return chr(int(found[3], 16))
