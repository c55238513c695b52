"""Reads and edits files inside the checkout, and nowhere else."""

from pathlib import Path

_VIEW_LINES = 2_000
_FILE_BYTES = 2_000_000
_LINE_CHARACTERS = 2_000
_ENTRIES = 500


class Refused(Exception):
    """The request cannot be carried out; the text tells the model why and what to do."""


class Files:
    """File operations by path relative to `root`. All raise Refused."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def resolve(self, path: str) -> Path:
        """The real path; never outside the checkout, not even through a symbolic link, and never in `.git`."""
        if "\0" in path:
            raise Refused("A path cannot contain a NUL character.")
        try:
            real = (self._root / path).resolve()
        except (OSError, RuntimeError) as error:
            raise Refused(f"{path}: {error}") from None
        if not real.is_relative_to(self._root):
            raise Refused(f"{path} is outside the checkout. Use a path relative to the checkout.")
        if any(part.lower() == ".git" for part in real.relative_to(self._root).parts):
            raise Refused(f"{path} belongs to git. Use git commands instead.")
        return real

    def view(self, path: str, start: int | None = None, end: int | None = None) -> str:
        target = self.resolve(path)
        if target.is_dir():
            return self._listing(target)
        lines = self._read(path, target).splitlines()
        first = max(start or 1, 1)
        if lines and first > len(lines):
            raise Refused(f"{path} has {len(lines)} lines only.")
        last = min(end or len(lines), len(lines), first + _VIEW_LINES - 1)
        shown = [f"{number:6}\t{_short(lines[number - 1])}" for number in range(first, last + 1)]
        if last < min(end or len(lines), len(lines)):
            shown.append(f"[lines {last + 1} to {len(lines)} not shown: ask for them with start_line]")
        return "\n".join(shown) if shown else f"[{path} is empty]"

    def create(self, path: str, content: str) -> str:
        target = self.resolve(path)
        if target.is_dir():
            raise Refused(f"{path} is a folder.")
        existed = target.exists()
        self._write(path, target, content)
        return f"{'Replaced' if existed else 'Created'} {path} ({len(content.splitlines())} lines)."

    def replace(self, path: str, old: str, new: str) -> str:
        target = self.resolve(path)
        text = self._read(path, target)
        if not old:
            raise Refused("`old` is empty: give the exact text to replace, or use insert.")
        if old not in text and "\r\n" in text:
            old, new = old.replace("\n", "\r\n"), new.replace("\n", "\r\n")
        count = text.count(old)
        if count == 0:
            raise Refused(f"`old` does not occur in {path}. View the file and copy the text exactly, with its spaces.")
        if count > 1:
            raise Refused(f"`old` occurs {count} times in {path}. Add lines around it until it occurs once.")
        self._write(path, target, text.replace(old, new))
        line = text[: text.index(old)].count("\n") + 1
        return f"Replaced in {path} at line {line}."

    def insert(self, path: str, line: int, text: str) -> str:
        target = self.resolve(path)
        lines = self._read(path, target).splitlines(keepends=True)
        if not 0 <= line <= len(lines):
            raise Refused(f"{path} has {len(lines)} lines: `line` must be from 0 (top) to {len(lines)} (end).")
        ending = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
        block = text.replace("\r\n", "\n").replace("\n", ending)
        if line and not lines[line - 1].endswith("\n"):
            lines[line - 1] += ending
        if not block.endswith("\n"):
            block += ending
        self._write(path, target, "".join([*lines[:line], block, *lines[line:]]))
        return f"Inserted {len(text.splitlines())} lines into {path} after line {line}."

    def _listing(self, folder: Path) -> str:
        entries = sorted(folder.iterdir(), key=lambda entry: (not entry.is_dir(), entry.name))
        names = [entry.name + ("/" if entry.is_dir() else "") for entry in entries if entry.name != ".git"]
        more = [f"[{len(names) - _ENTRIES} more entries]"] if len(names) > _ENTRIES else []
        return "\n".join(names[:_ENTRIES] + more) or "[the folder is empty]"

    def _read(self, path: str, target: Path) -> str:
        if not target.exists():
            raise Refused(f"{path} does not exist.")
        if not target.is_file():
            raise Refused(f"{path} is not a file.")
        if target.stat().st_size > _FILE_BYTES:
            raise Refused(f"{path} is larger than {_FILE_BYTES} bytes. Use bash to look at parts of it.")
        data = target.read_bytes()
        if b"\0" in data[:8192]:
            raise Refused(f"{path} is a binary file ({len(data)} bytes).")
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise Refused(f"{path} is not UTF-8 text. Use bash for it.") from None

    def _write(self, path: str, target: Path, text: str) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text.encode())
        except OSError as error:
            raise Refused(f"{path} cannot be written: {error.strerror}.") from None


def _short(line: str) -> str:
    return line if len(line) <= _LINE_CHARACTERS else f"{line[:_LINE_CHARACTERS]} [line cut]"
