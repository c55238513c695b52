"""What a card may ask of the demo model. The grammar is documented in docs/demo-model.md; everything else is prose."""

import re
from dataclasses import dataclass

from local.model.markdown import Fence, Line, blocks, code, inline_code

UNDERSTOOD = (
    "What I understand: 'Create `path`:' and a fenced block; 'Replace in `path`:' and a fenced block, then 'With:' and "
    "a fenced block; 'Append to `path`:' and a fenced block; 'Run: `command`' (see docs/demo-model.md)."
)


@dataclass(frozen=True, slots=True)
class Create:
    path: str
    content: str


@dataclass(frozen=True, slots=True)
class Replace:
    """`old` and `new` without a last newline, so that they may be part of a line."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Append:
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    command: str


type Instruction = Create | Replace | Append | Run


class GrammarError(Exception):
    """A line begins like an instruction and is not one. The text names the line and says what is wrong."""


_MARKER = re.compile(r"^\s*(?:#{1,6}\s+|[-*+]\s+|\d{1,9}[.)]\s+|\[[ xX]\]\s+)+|^\s+")
_EMPHASIS = re.compile(r"^(\*\*|__|\*|_)(?=\w)")
_ARTICLE = r"(?:(?:(?:a|the)\s+)?(?:new\s+)?file\s+)?"
_PATH_VERBS = {
    "create": re.compile(rf"^create\s+{_ARTICLE}(?=`)", re.I),
    "replace": re.compile(rf"^replace\s+(?:this\s+|text\s+|the\s+text\s+)?in\s+{_ARTICLE}(?=`)", re.I),
    "append": re.compile(rf"^(?:append|add)\s+(?:this\s+)?to\s+(?:the\s+end\s+of\s+)?{_ARTICLE}(?=`)", re.I),
}
_RUN = re.compile(
    r"^run(?:\s+(?:(?:the|this|these)\s+)?(?:following\s+)?(?:commands?|tests?|checks?|script))?(?P<colon>\s*:)?\s*",
    re.I,
)
_WITH = re.compile(r"^(?:with|by)(?:\s+(?:this|the\s+following))?\s*:?$", re.I)
_REST = re.compile(
    r"^(?:\s+(?:with|containing)(?:\s+(?:this|the(?:\s+following)?))?(?:\s+(?:contents?|text|lines?))?)?\s*[:.]?$", re.I
)
_UNQUOTED = re.compile(rf"^(?:create|replace\s+in|append\s+to)\s+{_ARTICLE}[^\s`]+\s*:$", re.I)
_REPLACE_CODE = re.compile(r"^replace\s+`", re.I)


def parse(text: str) -> list[Instruction]:
    """The instructions of a text, in order; an empty list when it is all prose. Raises GrammarError."""
    parser = _Parser(list(blocks(text)))
    return parser.instructions()


class _Parser:
    def __init__(self, found: list[Line | Fence]) -> None:
        self._blocks = [b for b in found if isinstance(b, Fence) or b.text.strip()]
        self._at = 0

    def instructions(self) -> list[Instruction]:
        result: list[Instruction] = []
        while self._at < len(self._blocks):
            block = self._blocks[self._at]
            self._at += 1
            if isinstance(block, Fence):
                _closed(block)
            elif (instruction := self._instruction(block)) is not None:
                result.append(instruction)
        return result

    def _instruction(self, line: Line) -> Instruction | None:
        head = _bare(line.text)
        for verb, pattern in _PATH_VERBS.items():
            if found := pattern.match(head):
                return self._on_path(verb, line, head[found.end() :])
        if found := _RUN.match(head):
            return self._run(line, head[found.end() :], bool(found["colon"]))
        if _REPLACE_CODE.match(head):
            raise _wrong(line, "a replacement names its file first: Replace in `path`:")
        if _UNQUOTED.match(head) and isinstance(self._peek(), Fence):
            raise _wrong(line, "the path must be in backticks")
        return None

    def _on_path(self, verb: str, line: Line, rest: str) -> Instruction:
        spans = inline_code(rest)
        if not spans or spans[0][1] != 0:
            raise _wrong(line, "the path's backticks are not closed")
        path, _, end = spans[0]
        if not _REST.match(rest[end:]):
            raise _wrong(line, f"there is more after the path than I understand ({rest[end:].strip()!r})")
        _check_path(line, path)
        first = self._fence(line, "this line")
        if verb == "create":
            return Create(path, first.text)
        if not first.lines or first.text.strip() == "":
            raise _wrong(line, "its fenced block is empty")
        if verb == "append":
            return Append(path, first.text)
        return Replace(path, "\n".join(first.lines), "\n".join(self._with(line).lines))

    def _run(self, line: Line, rest: str, colon: bool) -> Run | None:
        if not rest:
            return Run(_script(line, self._fence(line, "this line"))) if colon else None
        spans = inline_code(rest)
        if spans and spans[0][1] == 0:
            command, _, end = spans[0]
            if rest[end:].strip() not in {"", ".", ":"}:
                raise _wrong(line, f"there is more after the command than I understand ({rest[end:].strip()!r})")
            return Run(command)
        if colon:
            raise _wrong(line, "the command must be in backticks, or in a fenced block below")
        return None

    def _with(self, line: Line) -> Fence:
        block = self._peek()
        if not isinstance(block, Line) or not _WITH.match(_bare(block.text)):
            raise _wrong(
                line, "after the block with the old text there must be a line 'With:' and a block with the new one"
            )
        self._at += 1
        return self._fence(block, "'With:'")

    def _fence(self, line: Line, after: str) -> Fence:
        block = self._peek()
        if not isinstance(block, Fence):
            raise _wrong(line, f"a fenced block must follow {after}")
        self._at += 1
        return _closed(block)

    def _peek(self) -> Line | Fence | None:
        return self._blocks[self._at] if self._at < len(self._blocks) else None


def _bare(text: str) -> str:
    """The line without list marker, heading, checkbox and the emphasis around it."""
    head = _MARKER.sub("", text).strip()
    if found := _EMPHASIS.match(head):
        mark = found[1]
        head = head[len(mark) :]
        head = head.removesuffix(mark) if head.endswith(mark) else _close_emphasis(head, mark)
    return head.strip()


def _close_emphasis(head: str, mark: str) -> str:
    """`Create** `a`:` and `Run:** `b`` lose the first closing mark that stands outside a code span."""
    spans = inline_code(head)
    at = head.find(mark)
    while at >= 0 and any(start <= at < end for _, start, end in spans):
        at = head.find(mark, at + 1)
    return head if at < 0 else head[:at] + head[at + len(mark) :]


def _check_path(line: Line, path: str) -> None:
    parts = path.split("/")
    if path.startswith(("/", "~")) or re.match(r"^[A-Za-z]:", path) or "\\" in path:
        raise _wrong(line, f"the path {code(path)} must be relative to the repository, with / between its parts")
    if ".." in parts:
        raise _wrong(line, f"the path {code(path)} must not contain '..'")
    if parts[-1] in {"", "."} or not path.isprintable() or path != path.strip():
        raise _wrong(line, f"{code(path)} is not the path of a file")


def _closed(fence: Fence) -> Fence:
    if not fence.closed:
        raise GrammarError(f"the fenced block that begins in line {fence.number} is not closed")
    return fence


def _script(line: Line, fence: Fence) -> str:
    """Several lines run as one script that stops at the first command that fails."""
    if not fence.text.strip():
        raise _wrong(line, "its fenced block is empty")
    lines = [text for text in fence.lines if text.strip()]
    return lines[0] if len(lines) == 1 else "set -e\n" + "\n".join(fence.lines)


def _wrong(line: Line, reason: str) -> GrammarError:
    return GrammarError(f"line {line.number} ({line.text.strip()!r}): {reason}")
