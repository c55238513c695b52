"""The two pieces of Markdown the grammar needs: fenced blocks and inline code, as CommonMark defines them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_OPENING = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})(?P<info>.*)$")
_INLINE_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")


@dataclass(frozen=True, slots=True)
class Line:
    """A line outside any block; `number` starts at 1."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block; `number` is its opening line's. `closed` is False when the text ends before the block does."""

    number: int
    lines: tuple[str, ...]
    closed: bool

    @property
    def text(self) -> str:
        """What a file with these lines holds: every line ends with a newline."""
        return "".join(f"{line}\n" for line in self.lines)


def blocks(text: str) -> Iterator[Line | Fence]:
    """The lines and fenced blocks of a text, in order."""
    lines = text.replace("\r\n", "\n").split("\n")
    at = 0
    while at < len(lines):
        opening = _opening(lines[at])
        if opening is None:
            yield Line(at + 1, lines[at])
            at += 1
            continue
        end = _closing(lines, at + 1, opening)
        indent = len(opening["indent"])
        inner = tuple(_dedent(line, indent) for line in lines[at + 1 : end])
        yield Fence(at + 1, inner, closed=end < len(lines))
        at = end + 1


def inline_code(text: str) -> list[tuple[str, int, int]]:
    """Each code span with where it starts and ends, backticks included."""
    return [(_span(match[2]), match.start(), match.end()) for match in _INLINE_CODE.finditer(text)]


def code(text: str) -> str:
    """`text` as a code span, whatever backticks it holds itself."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{'`' * (longest + 1)}{pad}{text}{pad}{'`' * (longest + 1)}"


def _opening(line: str) -> re.Match[str] | None:
    found = _OPENING.match(line)
    if found and found["fence"][0] == "`" and "`" in found["info"]:
        return None  # an inline code span of three backticks
    return found


def _closing(lines: list[str], start: int, opening: re.Match[str]) -> int:
    """Index of the line that closes the block, or the number of lines. A deeper indented fence is content."""
    deepest = len(opening["indent"]) + 3
    for at in range(start, len(lines)):
        bare = lines[at].strip(" \t")
        indent = len(lines[at]) - len(lines[at].lstrip(" \t"))
        if indent <= deepest and len(bare) >= len(opening["fence"]) and set(bare) == {opening["fence"][0]}:
            return at
    return len(lines)


def _dedent(line: str, width: int) -> str:
    lead = len(line) - len(line.lstrip(" \t"))
    return line[min(lead, width) :]


def _span(text: str) -> str:
    if text.startswith(" ") and text.endswith(" ") and text.strip():
        return text[1:-1]
    return text
