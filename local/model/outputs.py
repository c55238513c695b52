"""What the outputs of the agent's tools say."""

import re

from local.model.grammar import Replace

_NUMBERED = re.compile(r"^ *(\d+)\t(.*)$")
_NOT_SHOWN = re.compile(r"^\[lines \d+ to (\d+) not shown.*\]$", re.M)
_CHARACTERS_LEFT_OUT = re.compile(r"^\[\.\.\. \d+ characters left out \.\.\.\]$", re.M)
_FAILED = re.compile(r"\[(exit status -?[1-9]\d*|stopped after \d+ seconds[^\]\n]*)\]\s*$")
_MISSING = re.compile(r"does not exist|no such file", re.I)
_NOTHING = re.compile(r"^(there is )?nothing to commit", re.I)


class View:
    """What the output of the tool view says of a file. `count` is how many lines the file has."""

    def __init__(self, output: str) -> None:
        numbered = [found for line in output.split("\n") if (found := _NUMBERED.match(line))]
        hidden = _NOT_SHOWN.search(output)
        self.count = int(hidden[1]) if hidden else max((int(found[1]) for found in numbered), default=0)
        self._whole = hidden is None and not _CHARACTERS_LEFT_OUT.search(output)
        self._text = "".join(f"{found[2]}\n" for found in numbered)

    def has_lines(self, text: str) -> bool:
        return f"\n{text}\n" in f"\n{self._text}"

    def ends_with(self, text: str) -> bool:
        return self._whole and f"\n{self._text}".endswith(f"\n{text}")

    def shows_replaced(self, wanted: Replace) -> bool:
        """Whether the new text is there and the old one is not, except as part of the new one."""
        rest = self._text.replace(wanted.new, "\0") if wanted.new else self._text
        return self._whole and rest != self._text and wanted.old not in rest


def failure(output: str, is_error: bool) -> tuple[str, str] | None:
    """How a command failed and the last line it printed; None when it succeeded."""
    failed = _FAILED.search(output)
    if not failed and not is_error:
        return None
    return failed[1] if failed else "error", last_line(_FAILED.sub("", output))


def is_missing(output: str) -> bool:
    """Whether an error says that a file is not there."""
    return bool(_MISSING.search(output))


def nothing_to_commit(output: str) -> bool:
    return bool(_NOTHING.match(output))


def last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
