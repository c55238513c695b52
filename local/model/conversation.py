"""Reads a run out of the messages of one request: the card, the comments, what was called and what came back."""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from local.model.messages import Json, Message, text_of

_COMMENT = re.compile(r"^\s*<comment\b(?P<attributes>[^>]*)>(?P<rest>.*)$")
_AUTHOR = re.compile(r'author="([^"]*)"')
_TITLE = re.compile(r"^#\s+(.+?)\s*#*$")


@dataclass(frozen=True, slots=True)
class Card:
    """`body` is what people edit: line numbers in it are the ones they see."""

    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Comment:
    author: str
    body: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool use of an earlier turn and the text of its result."""

    name: str
    input: Json
    output: str
    is_error: bool


type Entry = Comment | ToolCall


@dataclass(frozen=True, slots=True)
class Conversation:
    """`entries` in the order in which they happened."""

    card: Card
    entries: tuple[Entry, ...]


def read(messages: Sequence[Message]) -> Conversation | None:
    """None when the first user message holds no card."""
    first = next((at for at, message in enumerate(messages) if message.role == "user"), None)
    if first is None:
        return None
    opening = "\n".join(_texts(messages[first]))
    found = _element(opening.split("\n"), "card")
    if found is None:
        return None
    card_text, before, after = found
    entries: list[Entry] = [*_comments(before), *_comments(after)]
    for at, message in enumerate(messages[first + 1 :], first + 1):
        if message.role == "user":
            entries += _results(message, messages[at - 1])
            entries += _comments("\n".join(_texts(message)))
    return Conversation(_card(card_text), tuple(entries))


def _card(text: str) -> Card:
    lines = text.strip("\n").split("\n")
    title = _TITLE.match(lines[0])
    if title is None:
        return Card("", "\n".join(lines))
    body = lines[1:]
    return Card(title[1], "\n".join(body[1:] if body and not body[0].strip() else body))


def _texts(message: Message) -> Iterator[str]:
    if isinstance(message.content, str):
        yield message.content
        return
    for block in message.content:
        if block["type"] == "text":
            yield block["text"]


def _results(message: Message, previous: Message) -> Iterator[ToolCall]:
    """The tool results of a message with the calls they answer, in the order of the calls."""
    if isinstance(message.content, str) or isinstance(previous.content, str):
        return
    results = {block["tool_use_id"]: block for block in message.content if block["type"] == "tool_result"}
    for call in previous.content:
        if call["type"] == "tool_use" and (result := results.get(call["id"])) is not None:
            yield ToolCall(call["name"], call["input"], text_of(result.get("content")), bool(result.get("is_error")))


def _comments(text: str) -> Iterator[Comment]:
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        opening = _COMMENT.match(lines[at])
        if opening is None:
            at += 1
            continue
        body, end = _until_close([opening["rest"], *lines[at + 1 :]], "comment")
        author = _AUTHOR.search(opening["attributes"])
        yield Comment(html.unescape(author[1]) if author else "", body)
        at += end + 1


def _element(lines: list[str], name: str) -> tuple[str, str, str] | None:
    """Text inside the first `<name>` element, before it and after it."""
    for at, line in enumerate(lines):
        before, tag, rest = line.partition(f"<{name}>")
        if tag:
            text, end = _until_close([rest, *lines[at + 1 :]], name)
            return text, "\n".join([*lines[:at], before]), "\n".join(lines[at + end + 1 :])
    return None


def _until_close(lines: list[str], name: str) -> tuple[str, int]:
    """Text up to the closing tag, and the index of the line that holds it. Inside, agents write `<\\/name`."""
    for at, line in enumerate(lines):
        inside, tag, _ = line.partition(f"</{name}>")
        if tag:
            return _unescaped([*lines[:at], inside], name), at
    return _unescaped(lines, name), len(lines) - 1


def _unescaped(lines: list[str], name: str) -> str:
    return "\n".join(lines).strip("\n").replace(f"<\\/{name}", f"</{name}")
