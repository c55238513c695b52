"""What the demo model understands of a card, and what it says of a card it does not understand."""

import random
import re
from contextlib import suppress

import pytest

from local.model.grammar import Append, Create, GrammarError, Instruction, Replace, Run, parse
from local.model.markdown import Fence, blocks, code, inline_code


def wrong(text: str) -> str:
    with pytest.raises(GrammarError) as caught:
        parse(text)
    return str(caught.value)


class TestInstructions:
    def test_each_kind_in_the_order_of_the_card(self) -> None:
        card = """Some prose first.

Create `src/a.py`:
```python
print("a")
```

Replace in `src/b.py`:
```
old
```
With:
```
new
lines
```

Append to `notes.md`:
```
- a note
```

Run: `python3 -m unittest`
"""
        assert parse(card) == [
            Create("src/a.py", 'print("a")\n'),
            Replace("src/b.py", "old", "new\nlines"),
            Append("notes.md", "- a note\n"),
            Run("python3 -m unittest"),
        ]

    @pytest.mark.parametrize(
        "head",
        [
            "Create `a.py`:",
            "create `a.py`",
            "CREATE `a.py` :",
            "- Create `a.py`:",
            "* create the file `a.py`:",
            "+ Create a new file `a.py` with this content:",
            "1. Create `a.py`:",
            "12) Create `a.py`.",
            "- [ ] Create `a.py`:",
            "### Create `a.py`",
            "## 2. Create `a.py` containing:",
            "**Create `a.py`:**",
            "**Create** `a.py`:",
            "_Create_ file `a.py` with the following lines:",
            "   Create `a.py`:",
        ],
    )
    def test_ways_to_write_a_create(self, head: str) -> None:
        assert parse(f"{head}\n\n```\nx\n```") == [Create("a.py", "x\n")]

    @pytest.mark.parametrize("head", ["Append to `a`:", "add to `a`:", "- Append this to the end of the file `a`:"])
    def test_ways_to_write_an_append(self, head: str) -> None:
        assert parse(f"{head}\n```\nx\n```") == [Append("a", "x\n")]

    @pytest.mark.parametrize("with_", ["With:", "with", "- by:", "**With:**", "With this:", "## With the following:"])
    def test_ways_to_write_a_replace(self, with_: str) -> None:
        assert parse(f"Replace in `a`:\n```\nx\n```\n\n{with_}\n\n```\ny\n```") == [Replace("a", "x", "y")]

    @pytest.mark.parametrize(
        "text",
        [
            "Run: `make test`",
            "run `make test`.",
            "- **Run:** `make test`",
            "3. Run the command: `make test`",
            "Run the tests: `make test`",
            "Run:\n```sh\nmake test\n```",
            "Run this command:\n\n~~~\n\nmake test\n~~~",
        ],
    )
    def test_ways_to_write_a_run(self, text: str) -> None:
        assert parse(text) == [Run("make test")]

    def test_a_script_of_several_lines_stops_at_the_first_failure(self) -> None:
        assert parse("Run:\n```\nmake\nmake test\n```") == [Run("set -e\nmake\nmake test")]

    def test_a_command_may_hold_backticks(self) -> None:
        assert parse("Run: `` echo `date` ``") == [Run("echo `date`")]

    def test_an_empty_new_block_removes_text(self) -> None:
        assert parse("Replace in `a`:\n```\nx\n```\nWith:\n```\n```") == [Replace("a", "x", "")]

    def test_an_empty_file(self) -> None:
        assert parse("Create `pkg/__init__.py`:\n```\n```") == [Create("pkg/__init__.py", "")]

    def test_windows_line_ends(self) -> None:
        assert parse("Create `a`:\r\n```\r\nx\r\n```\r\n") == [Create("a", "x\n")]

    def test_names_with_underscores_and_stars_stay_whole(self) -> None:
        assert parse("**Create `__init__.py`:**\n```\n```\n- **Run:** `ls **/*.py`") == [
            Create("__init__.py", ""),
            Run("ls **/*.py"),
        ]


class TestFences:
    def test_a_longer_fence_holds_shorter_ones(self) -> None:
        card = "Create `README.md`:\n````markdown\nRun:\n```\nmake\n```\n````"
        assert parse(card) == [Create("README.md", "Run:\n```\nmake\n```\n")]

    def test_tildes_hold_backticks(self) -> None:
        assert parse("Create `a`:\n~~~\n```\nx\n```\n~~~") == [Create("a", "```\nx\n```\n")]

    def test_a_block_in_a_list_loses_the_indentation_of_its_fence_only(self) -> None:
        card = "1. Create `a.py`:\n   ```python\n   def f():\n       return 1\n   ```\n2. Run: `python3 a.py`"
        assert parse(card) == [Create("a.py", "def f():\n    return 1\n"), Run("python3 a.py")]

    def test_a_fence_indented_deeper_is_content(self) -> None:
        assert parse("Create `a`:\n```\nx\n      ```\ny\n```") == [Create("a", "x\n      ```\ny\n")]

    def test_instructions_inside_a_block_of_prose_are_not_carried_out(self) -> None:
        assert parse("For example:\n```\nRun: `rm -rf .`\n```\nThat is all.") == []

    def test_any_content_comes_through_unchanged(self) -> None:
        """A fence longer than any run of backticks in it holds every text."""
        chance = random.Random(7)
        alphabet = [
            "`",
            "~",
            "```",
            "````",
            " ",
            "    ",
            "\t",
            "Run: `x`",
            "With:",
            "é",
            "",
            "</card>",
            "# t",
            "..",
            "\\",
        ]
        for _ in range(500):
            lines = ["".join(chance.choices(alphabet, k=chance.randint(0, 5))) for _ in range(chance.randint(0, 8))]
            content = "".join(f"{line}\n" for line in lines)
            mark = chance.choice("`~")
            fence = mark * max(3, *(len(run) + 1 for run in re.findall(f"{mark}+", content)), 3)
            assert parse(f"Create `a`:\n{fence}\n{content}{fence}\n") == [Create("a", content)]


class TestProse:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "Please make the page faster.",
            "Create the `greet` function, and run it.",
            "Create something nice",
            "Run the whole thing before you hand it in.",
            "Running `make` is slow.",
            "Append a line where it fits.",
            "We replace in many places.",
            "The command `make test` runs all tests.",
            "Run it and you see:\n```\n3 failures\n```",
            "With:\n```\nx\n```",
        ],
    )
    def test_is_ignored(self, text: str) -> None:
        assert parse(text) == []


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("Create `a`:\n```\nx", "begins in line 2 is not closed"),
            ("Look:\n```\nx\n\nRun: `ls`", "begins in line 2 is not closed"),
            ("Create `a`:", "a fenced block must follow this line"),
            ("Create `a`:\n\nIt holds x.\n\n```\nx\n```", "a fenced block must follow this line"),
            ("Replace in `a`:\n```\nx\n```", "there must be a line 'With:'"),
            ("Replace in `a`:\n```\nx\n```\n```\ny\n```", "there must be a line 'With:'"),
            ("Replace in `a`:\n```\nx\n```\nWith:\nRun: `ls`", "a fenced block must follow 'With:'"),
            ("Replace in `a`:\n```\n```\nWith:\n```\ny\n```", "is empty"),
            ("Replace `x` with `y` in `a`", "names its file first"),
            ("Append to `a`:\n```\n```", "is empty"),
            ("Create `/etc/passwd`:\n```\n```", "must be relative"),
            ("Create `~/x`:\n```\n```", "must be relative"),
            ("Create `C:/x`:\n```\n```", "must be relative"),
            ("Create `a\\b`:\n```\n```", "must be relative"),
            ("Append to `../x`:\n```\ny\n```", "must not contain '..'"),
            ("Create `a/../../x`:\n```\n```", "must not contain '..'"),
            ("Create `a/`:\n```\n```", "is not the path of a file"),
            ("Create `a`, which is new:\n```\n```", "more after the path"),
            ("Create `a:\n```\n```", "backticks are not closed"),
            ("Create a.py:\n```\nx\n```", "the path must be in backticks"),
            ("Run: make test", "the command must be in backticks"),
            ("Run:", "a fenced block must follow"),
            ("Run:\n```\n\n```", "is empty"),
            ("Run `make` and then `make test`", "more after the command"),
        ],
    )
    def test_are_named(self, text: str, reason: str) -> None:
        assert reason in wrong(text)

    def test_the_line_is_named_and_quoted(self) -> None:
        assert wrong("Hello\n\n- Run: make").startswith("line 3 ('- Run: make'): ")

    def test_one_mistake_stops_the_whole_card(self) -> None:
        assert "line 2" in wrong("Run: `ls`\nCreate `/a`:\n```\n```\nRun: `ls`")

    def test_any_text_is_parsed_or_refused_with_a_reason(self) -> None:
        chance = random.Random(11)
        pieces = [
            "Create ",
            "Replace in ",
            "Append to ",
            "Run: ",
            "With:",
            "`a`",
            "`",
            "```",
            "~~~",
            "\n",
            "\n",
            "..",
            "/",
            ":",
        ]
        for _ in range(3000):
            text = "".join(chance.choices(pieces, k=chance.randint(1, 16)))
            with suppress(GrammarError):
                found: list[Instruction] = parse(text)
                assert all(isinstance(one, Create | Replace | Append | Run) for one in found)


class TestMarkdown:
    def test_line_numbers_count_the_lines_of_blocks(self) -> None:
        found = [(type(block).__name__, block.number) for block in blocks("a\n```\nb\nc\n```\nd")]
        assert found == [("Line", 1), ("Fence", 2), ("Line", 6)]

    def test_three_backticks_around_words_are_inline_code(self) -> None:
        assert not any(isinstance(block, Fence) for block in blocks("```code``` in a line"))

    @pytest.mark.parametrize("text", ["a", "`", "a`b", "``", "`a`", " a", "a``b`c"])
    def test_code_spans_say_what_they_hold(self, text: str) -> None:
        assert [found for found, _, _ in inline_code(code(text))] == [text]
