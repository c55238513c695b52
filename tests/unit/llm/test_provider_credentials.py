"""Keys of model providers, and the vault they come from."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.adapters.provider_credentials import SecretKey
from shared.core.errors import Unavailable
from shared.llm.upstream import NotSent
from tests.fakes import FakeSecrets

KEPT = 300
type Lines = Sequence[tuple[str, str]]


class Vault(FakeSecrets):
    """Takes a moment to answer, and counts how often it is asked."""

    def __init__(self, key: str | None) -> None:
        super().__init__()
        self.secrets = {"of-one": key} if key else {}
        self.down = False
        self.asked = 0

    async def get(self, name: str) -> str | None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("The key vault does not answer.")
        return await super().get(name)


class Stage:
    def __init__(self, key: str | None = "sk-1") -> None:
        self.time = 1000.0
        self.vault = Vault(key)
        self.key = SecretKey(self.vault, "of-one", lambda: self.time)

    async def at_once(self, calls: int) -> list[Lines]:
        return await asyncio.gather(*(self.key() for _ in range(calls)))


class TestSecretKey:
    async def test_a_rotated_key_is_noticed_after_a_while(self):
        stage = Stage()
        assert await stage.key() == [("x-api-key", "sk-1")]
        stage.vault.secrets["of-one"] = "sk-2"
        stage.time += KEPT - 1
        assert await stage.key() == [("x-api-key", "sk-1")]
        stage.time += 1
        assert await stage.key() == [("x-api-key", "sk-2")]
        assert stage.vault.asked == 2

    async def test_calls_at_once_ask_the_vault_once(self):
        stage = Stage()
        assert await stage.at_once(20) == [[("x-api-key", "sk-1")]] * 20
        assert stage.vault.asked == 1
        stage.time += KEPT
        await stage.at_once(20)
        assert stage.vault.asked == 2

    async def test_while_the_vault_is_away_the_known_key_does(self):
        stage = Stage()
        await stage.key()
        stage.vault.down = True
        stage.time += KEPT
        assert await stage.at_once(20) == [[("x-api-key", "sk-1")]] * 20
        assert stage.vault.asked == 2
        stage.vault.down, stage.vault.secrets["of-one"] = False, "sk-2"
        stage.time += KEPT / 2
        assert await stage.key() == [("x-api-key", "sk-2")]

    async def test_with_the_vault_away_from_the_start_there_is_none(self):
        stage = Stage()
        stage.vault.down = True
        with pytest.raises(NotSent, match="does not answer"):
            await stage.key()
        stage.vault.down = False
        assert await stage.key() == [("x-api-key", "sk-1")]

    @pytest.mark.parametrize("down", [True, False])
    async def test_calls_at_once_share_what_the_vault_did_not_tell(self, down: bool):
        stage = Stage(None)
        stage.vault.down = down
        told = await asyncio.gather(*(stage.key() for _ in range(20)), return_exceptions=True)
        assert [type(one) for one in told] == [NotSent] * 20
        assert stage.vault.asked == 1
        stage.vault.down, stage.vault.secrets["of-one"] = False, "sk-1"
        assert await stage.key() == [("x-api-key", "sk-1")]

    async def test_when_the_call_that_asks_is_given_up_the_next_one_asks(self):
        stage = Stage()
        first, *others = [asyncio.create_task(stage.key()) for _ in range(20)]
        await asyncio.sleep(0)
        first.cancel()
        assert await asyncio.gather(*others) == [[("x-api-key", "sk-1")]] * 19
        assert stage.vault.asked == 2

    async def test_one_that_is_taken_out_of_the_vault_is_not_used_any_more(self):
        stage = Stage()
        await stage.key()
        del stage.vault.secrets["of-one"]
        stage.time += KEPT
        with pytest.raises(NotSent, match="of-one"):
            await stage.key()

    async def test_one_that_is_put_there_later_is_found_at_once(self):
        stage = Stage(None)
        with pytest.raises(NotSent):
            await stage.key()
        stage.vault.secrets["of-one"] = "sk-1"
        assert await stage.key() == [("x-api-key", "sk-1")]
