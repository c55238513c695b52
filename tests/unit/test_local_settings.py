"""The file that `make cloud` writes for Core Tools."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from local import local_settings
from local.host_app import AppInvalid

VALUES = {"FUNCTIONS_WORKER_RUNTIME": "python", "DEMO_MODEL": "1"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / local_settings.FILE


def kept(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


class TestWrite:
    def test_it_is_as_core_tools_reads_it_and_nobody_elses_business(self, path: Path):
        local_settings.write(path, VALUES, 7071)
        content = kept(path)
        assert content["IsEncrypted"] is False
        assert content["Host"] == {"LocalHttpPort": 7071, "CORS": ""}
        assert content["Values"].items() >= VALUES.items()
        assert all(isinstance(value, str) for value in content["Values"].values())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [file.name for file in path.parent.iterdir()] == [local_settings.FILE]

    def test_what_a_person_added_stays(self, path: Path):
        local_settings.write(path, VALUES, 7071)
        content = kept(path)
        content["Values"]["RUN_TURN_LIMIT"] = "7"
        content["Host"]["LocalHttpPort"] = 1
        content["ConnectionStrings"] = {"x": "y"}
        path.write_text(json.dumps(content))
        local_settings.write(path, VALUES, 7072)
        assert kept(path)["Values"]["RUN_TURN_LIMIT"] == "7"
        assert kept(path)["ConnectionStrings"] == {"x": "y"}
        assert kept(path)["Host"]["LocalHttpPort"] == 7072

    def test_what_is_no_longer_so_goes(self, path: Path):
        """A real model must not be taken for the demo model, which needs no isolation."""
        local_settings.write(path, VALUES, 7071)
        local_settings.write(path, {"ANTHROPIC_API_KEY": "secret"}, 7071)
        assert "DEMO_MODEL" not in local_settings.read(path)
        assert local_settings.read(path)["ANTHROPIC_API_KEY"] == "secret"

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"Values": []}', '{"IsEncrypted": true}'])
    def test_a_file_it_does_not_understand_is_left_alone(self, path: Path, text: str):
        path.write_text(text)
        with pytest.raises(AppInvalid, match=r"local\.settings\.json"):
            local_settings.write(path, VALUES, 7071)
        assert path.read_text() == text


class TestRead:
    def test_values_must_be_strings(self, path: Path):
        path.write_text('{"Values": {"N": 1}}')
        with pytest.raises(AppInvalid, match=r"Values\.N"):
            local_settings.read(path)

    def test_a_missing_file_says_who_writes_it(self, path: Path):
        with pytest.raises(AppInvalid, match="make cloud"):
            local_settings.read(path)

    def test_the_environment_wins_unless_it_is_empty(self):
        values = {"A": "file", "B": "file", "C": "file"}
        assert local_settings.over(values, {"A": "environment", "B": "", "D": "x"}) == {
            "A": "environment",
            "B": "file",
            "C": "file",
            "D": "x",
        }
