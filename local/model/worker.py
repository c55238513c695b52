"""Carries out a card, one tool call a turn. The progress so far is replayed from the conversation: nothing is kept."""

from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass

from local.model.conversation import Card, Comment, Conversation, ToolCall
from local.model.grammar import UNDERSTOOD, Append, Create, GrammarError, Instruction, Replace, Run, parse
from local.model.markdown import code
from local.model.messages import Json
from local.model.outputs import View, failure, is_missing, last_line, nothing_to_commit
from local.model.usage import compact, tokens

_TOOLS: dict[type, tuple[str, ...]] = {
    Create: ("create",),
    Replace: ("view", "replace"),
    Append: ("view", "create", "insert"),
    Run: ("bash",),
}


@dataclass(frozen=True, slots=True)
class Call:
    """A tool use: the tool's name and its input."""

    name: str
    input: Json


@dataclass(frozen=True, slots=True)
class Turn:
    """What the model says and the tool it uses; without a call the turn ends the conversation."""

    text: str
    call: Call | None = None


class Blocked(Exception):
    """The work cannot go on; the text is the reason people read."""


type Turns[T] = Generator[Turn, ToolCall | None, T]


def next_turn(conversation: Conversation, offered: frozenset[str], room: int) -> Turn:
    """Replays what was called so far (calls that are not this worker's are passed over) and says what comes next.

    `room` is how many tokens the turn may have.
    """
    worker = _Worker(conversation.card, offered, room)
    turns = worker.turns()
    turn: Turn | None = None
    answer: ToolCall | None = None

    def go_on() -> Turn:
        if turn is None:
            ahead = next(turns)
        elif answer or not turn.call:
            ahead = turns.send(answer)
        else:
            ahead = turn
        while ahead.call is None and worker.inbox:
            ahead = next(turns)
        return ahead

    for entry in conversation.entries:
        if isinstance(entry, Comment):
            worker.inbox.append(entry)
            continue
        turn = go_on()
        answer = entry if turn.call and _is(turn.call, entry) else None
    return go_on()


def _is(call: Call, entry: ToolCall) -> bool:
    same = (call.input.get(name) == entry.input.get(name) for name in ("path", "command"))
    return call.name == entry.name and all(same)


class _Worker:
    def __init__(self, card: Card, offered: frozenset[str], room: int) -> None:
        self.inbox: deque[Comment] = deque()
        self._card = card
        self._offered = offered
        self._room = room

    def turns(self) -> Turns[None]:
        try:
            yield from self._work()
        except Blocked as blocked:
            yield from self._stop(str(blocked))
        while True:
            self.inbox.clear()
            yield Turn("This run has ended. Start a new one to go on.")

    def _work(self) -> Turns[None]:
        todo = deque(self._instructions("the card", self._card.body))
        todo += self._from_comments()
        if not todo:
            raise Blocked(f"The card holds no instruction. {UNDERSTOOD}")
        report: list[str] = []
        while True:
            while todo:
                self._require(todo)
                report.append((yield from self._carry_out(todo.popleft())))
                todo += self._from_comments()
            report.append((yield from self._commit()))
            todo += self._from_comments()
            if not todo:
                yield from self._finish(report)
                report = []
            while not (todo := todo or deque(self._from_comments())):
                yield Turn("The card is done. A comment with further instructions would be carried out as well.")

    def _instructions(self, where: str, text: str) -> list[Instruction]:
        try:
            return parse(text)
        except GrammarError as error:
            raise Blocked(f"I cannot carry out {where}: {error}. {UNDERSTOOD}") from None

    def _from_comments(self) -> list[Instruction]:
        found: list[Instruction] = []
        while self.inbox:
            comment = self.inbox.popleft()
            found += self._instructions(f"the comment of {comment.author or 'a person'}", comment.body)
        return found

    def _require(self, todo: Iterable[Instruction]) -> None:
        needed = {tool for instruction in todo for tool in _TOOLS[type(instruction)]} | {"commit"}
        if missing := sorted(needed - self._offered):
            raise Blocked(f"I need the tools {', '.join(missing)} for this card, and they are not offered to me.")

    def _carry_out(self, instruction: Instruction) -> Turns[str]:
        match instruction:
            case Create():
                return (yield from self._create(instruction.path, instruction.content))
            case Replace():
                return (yield from self._replace(instruction))
            case Append():
                return (yield from self._append(instruction))
            case Run():
                return (yield from self._run(instruction))

    def _create(self, path: str, content: str) -> Turns[str]:
        said = f"I create {code(path)} with {_lines(content)}."
        yield from self._must(said, "create", {"path": path, "content": content})
        return f"Created {code(path)} ({_lines(content)})."

    def _replace(self, wanted: Replace) -> Turns[str]:
        path = code(wanted.path)
        view = View((yield from self._must(f"I look at {path} before I change it.", "view", {"path": wanted.path})))
        if view.shows_replaced(wanted):
            return f"Left {path} as it is: the new text is there already, and the old one is not."
        old = wanted.old
        if not wanted.new and view.has_lines(old):
            old += "\n"  # whole lines go, and leave no empty line behind
        change = {"path": wanted.path, "old": old, "new": wanted.new}
        yield from self._must(f"I replace {_lines(wanted.old)} in {path}.", "replace", change)
        return f"Replaced {_lines(wanted.old)} in {path}."

    def _append(self, wanted: Append) -> Turns[str]:
        path = code(wanted.path)
        seen = yield from self._use(f"I look at {path} to find its end.", "view", {"path": wanted.path})
        if seen.is_error and is_missing(seen.output):
            return (yield from self._create(wanted.path, wanted.text))
        if seen.is_error:
            raise Blocked(f"I could not look at {path}: {last_line(seen.output)}")
        view = View(seen.output)
        if view.ends_with(wanted.text):
            return f"Left {path} as it is: it ends with that text already."
        end = {"path": wanted.path, "line": view.count, "text": wanted.text}
        yield from self._must(f"I append {_lines(wanted.text)} to {path}.", "insert", end)
        return f"Appended {_lines(wanted.text)} to {path}."

    def _run(self, wanted: Run) -> Turns[str]:
        name = _command_name(wanted.command)
        result = yield from self._use(f"I run {name}.", "bash", {"command": wanted.command})
        if reason := failure(result.output, result.is_error):
            raise Blocked(f"The command {name} failed ({reason[0]}): {reason[1]}")
        return f"Ran {name}: it succeeded."

    def _commit(self) -> Turns[str]:
        message = self._card.title or "Carry out the card"
        said = "Every instruction is carried out, so I commit the work."
        result = yield from self._use(said, "commit", {"message": message})
        if nothing_to_commit(result.output):
            return "Nothing changed, so there is no commit."
        if result.is_error:
            raise Blocked(f"The commit failed: {last_line(result.output)}")
        return f"Committed as {message!r}."

    def _finish(self, report: list[str]) -> Turns[None]:
        summary = "\n".join(f"- {line}" for line in report)
        if "finish" in self._offered:
            yield from self._use("The card is done.", "finish", {"outcome": "done", "summary": summary})
        else:
            yield Turn(f"The card is done:\n\n{summary}")

    def _stop(self, reason: str) -> Turns[None]:
        said = f"I stop here. {reason}"
        if "finish" in self._offered:
            yield from self._use(said, "finish", {"outcome": "blocked", "summary": reason})
        else:
            yield Turn(said)

    def _must(self, said: str, tool: str, arguments: Json) -> Turns[str]:
        """The output of a call that has to succeed."""
        result = yield from self._use(said, tool, arguments)
        if result.is_error:
            raise Blocked(f"The tool {tool} failed for {code(arguments['path'])}: {last_line(result.output)}")
        return result.output

    def _use(self, said: str, tool: str, arguments: Json) -> Turns[ToolCall]:
        size = tokens(said) + tokens(tool) + tokens(compact(arguments))
        if tool != "finish" and size > self._room:
            raise Blocked(
                f"The next step ({tool}) takes about {size} tokens, and an answer may have {self._room} only. "
                "Divide a long block into a Create and several Appends."
            )
        result = yield Turn(said, Call(tool, arguments))
        if result is None:
            raise RuntimeError("A turn with a call goes on with its result.")
        return result


def _lines(text: str) -> str:
    count = len(text.removesuffix("\n").split("\n")) if text else 0
    return "1 line" if count == 1 else f"{count} lines"


def _command_name(command: str) -> str:
    return f"a script of {_lines(command.removeprefix('set -e\n'))}" if "\n" in command else code(command)
