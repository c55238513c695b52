"""One Azurite for all contracts; each test has tables and containers of its own."""

from collections.abc import AsyncGenerator

import pytest

from local.azurite import Azurite
from local.azurite import missing as azurite_missing
from tests.requires import require


@pytest.fixture(scope="session")
async def storage() -> AsyncGenerator[str]:
    """A connection string."""
    require(not azurite_missing(), azurite_missing())
    async with Azurite() as azurite:
        yield azurite.connection_string
