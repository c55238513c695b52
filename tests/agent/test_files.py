"""The file tools: what they show and change, and what they refuse."""

from pathlib import Path

import pytest

from agent_container.files import Files, Refused


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / ".git").mkdir(parents=True)
    (root / "src").mkdir()
    (root / "src" / "app.py").write_text("one\ntwo\none\n")
    (tmp_path / "secret.txt").write_text("secret")
    return root


class TestPaths:
    @pytest.mark.parametrize(
        "path",
        ["../secret.txt", "src/../../secret.txt", "/etc/passwd", "link", "folder/secret.txt", "a\0b", "loop"],
    )
    def test_nothing_outside_the_checkout(self, checkout: Path, path: str) -> None:
        (checkout / "link").symlink_to("../secret.txt")
        (checkout / "folder").symlink_to("..")
        (checkout / "loop").symlink_to("../loop")
        (checkout.parent / "loop").symlink_to("checkout/loop")
        files = Files(checkout)
        for attempt in (lambda: files.view(path), lambda: files.create(path, "x"), lambda: files.insert(path, 0, "x")):
            with pytest.raises(Refused):
                attempt()
        assert (checkout.parent / "secret.txt").read_text() == "secret"

    @pytest.mark.parametrize("path", [".git/config", ".GIT/hooks/pre-push", "src/../.git", "sub/.git/config"])
    def test_nothing_of_gits(self, checkout: Path, path: str) -> None:
        with pytest.raises(Refused, match="belongs to git"):
            Files(checkout).create(path, "x")

    def test_absolute_and_linked_paths_inside_are_fine(self, checkout: Path) -> None:
        (checkout / "alias.py").symlink_to("src/app.py")
        files = Files(checkout)
        assert files.view(str(checkout / "src" / "app.py")) == files.view("alias.py")


class TestView:
    def test_lines_are_numbered(self, checkout: Path) -> None:
        assert Files(checkout).view("src/app.py") == "     1\tone\n     2\ttwo\n     3\tone"
        assert Files(checkout).view("src/app.py", 2, 2) == "     2\ttwo"

    def test_folders_are_listed_without_git(self, checkout: Path) -> None:
        (checkout / "a.txt").write_text("")
        assert Files(checkout).view(".") == "src/\na.txt"

    def test_long_files_are_cut_saying_so(self, checkout: Path) -> None:
        (checkout / "long.txt").write_text("x\n" * 3000)
        lines = Files(checkout).view("long.txt").splitlines()
        assert len(lines) == 2001
        assert lines[-1] == "[lines 2001 to 3000 not shown: ask for them with start_line]"

    def test_binary_missing_and_past_the_end_are_refused(self, checkout: Path) -> None:
        (checkout / "image.png").write_bytes(b"\x89PNG\0\0")
        (checkout / "latin.txt").write_bytes("café".encode("latin-1"))
        files = Files(checkout)
        for path, text in (("image.png", "binary"), ("latin.txt", "UTF-8"), ("none", "does not exist")):
            with pytest.raises(Refused, match=text):
                files.view(path)
        with pytest.raises(Refused, match="has 3 lines only"):
            files.view("src/app.py", 9)


class TestEdit:
    def test_replace_wants_exactly_one_place(self, checkout: Path) -> None:
        files = Files(checkout)
        with pytest.raises(Refused, match="occurs 2 times"):
            files.replace("src/app.py", "one", "1")
        with pytest.raises(Refused, match="does not occur"):
            files.replace("src/app.py", "three", "3")
        with pytest.raises(Refused, match="empty"):
            files.replace("src/app.py", "", "3")
        assert files.replace("src/app.py", "two\n", "2\n") == "Replaced in src/app.py at line 2."
        assert (checkout / "src/app.py").read_text() == "one\n2\none\n"

    def test_windows_line_endings_and_modes_stay(self, checkout: Path) -> None:
        script = checkout / "run.cmd"
        script.write_bytes(b"a\r\nb\r\nc\r\n")
        script.chmod(0o755)
        files = Files(checkout)
        files.replace("run.cmd", "a\nb", "x\ny")
        files.insert("run.cmd", 3, "end")
        assert script.read_bytes() == b"x\r\ny\r\nc\r\nend\r\n"
        assert script.stat().st_mode & 0o777 == 0o755

    @pytest.mark.parametrize(
        ("line", "result"), [(0, "new\none\ntwo\none\n"), (1, "one\nnew\ntwo\none\n"), (3, "one\ntwo\none\nnew\n")]
    )
    def test_insert_after_a_line(self, checkout: Path, line: int, result: str) -> None:
        Files(checkout).insert("src/app.py", line, "new")
        assert (checkout / "src/app.py").read_text() == result

    def test_insert_after_a_last_line_without_an_end(self, checkout: Path) -> None:
        (checkout / "bare.txt").write_text("one")
        Files(checkout).insert("bare.txt", 1, "two")
        assert (checkout / "bare.txt").read_text() == "one\ntwo\n"

    def test_insert_past_the_end_is_refused(self, checkout: Path) -> None:
        with pytest.raises(Refused, match=r"from 0 \(top\) to 3 \(end\)"):
            Files(checkout).insert("src/app.py", 4, "x")

    def test_create_makes_folders(self, checkout: Path) -> None:
        assert Files(checkout).create("a/b/c.txt", "x\ny\n") == "Created a/b/c.txt (2 lines)."
        assert Files(checkout).create("a/b/c.txt", "x\n") == "Replaced a/b/c.txt (1 lines)."
        with pytest.raises(Refused, match="is a folder"):
            Files(checkout).create("a/b", "x")
