"""Every Secrets store keeps the same promises."""

import os
from pathlib import Path

import pytest

from shared.adapters.file_secrets import FileSecrets
from shared.core.errors import Unavailable
from shared.core.ports import Secrets
from tests.fakes import FakeSecrets


@pytest.fixture(params=["fake", "files"])
def secrets(request: pytest.FixtureRequest, tmp_path: Path) -> Secrets:
    return FakeSecrets() if request.param == "fake" else FileSecrets(tmp_path)


async def test_a_value_comes_back_as_it_was(secrets):
    await secrets.put("webhook-t1", "whsec_ü \r\n line two\n")
    assert await secrets.get("webhook-t1") == "whsec_ü \r\n line two\n"


async def test_what_was_never_put_is_none(secrets):
    assert await secrets.get("webhook-t1") is None


async def test_put_replaces(secrets):
    await secrets.put("key", "a longer first value")
    await secrets.put("key", "second")
    assert await secrets.get("key") == "second"


async def test_delete_may_be_repeated(secrets):
    await secrets.put("key", "x")
    await secrets.delete("key")
    await secrets.delete("key")
    assert await secrets.get("key") is None


@pytest.mark.parametrize("name", ["", "..", "a/b", "a_b", "a.b", "a b", "ä", "a\n", "x" * 128])
async def test_only_letters_digits_and_dashes_make_a_name(secrets, name):
    for call in (secrets.put(name, "x"), secrets.get(name), secrets.delete(name)):
        with pytest.raises(ValueError, match="letters, digits and dashes"):
            await call


class TestFileSecrets:
    async def test_nobody_else_can_read_them(self, tmp_path):
        before = os.umask(0)
        try:
            await FileSecrets(tmp_path).put("key", "x")
            await FileSecrets(tmp_path).put("key", "y")
        finally:
            os.umask(before)
        assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "secrets" / "key").stat().st_mode & 0o777 == 0o600
        assert os.listdir(tmp_path / "secrets") == ["key"]

    async def test_a_folder_that_is_open_to_others_is_closed(self, tmp_path):
        (tmp_path / "secrets").mkdir(mode=0o755)
        await FileSecrets(tmp_path).put("key", "x")
        assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700

    async def test_a_folder_that_cannot_be_used_is_unavailable(self, tmp_path):
        (tmp_path / "secrets").write_text("a file where a folder must be")
        with pytest.raises(Unavailable, match="data folder"):
            await FileSecrets(tmp_path).put("key", "x")
