"""A cloud of a module's own, whose parts it may kill."""

from collections.abc import AsyncGenerator

import pytest

from local.cloud import LocalCloud
from tests.flows.world import Person, started_cloud


@pytest.fixture(scope="module")
async def own(cloud_parts: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[LocalCloud]:
    async with started_cloud(tmp_path_factory.mktemp("own")) as running:
        yield running


@pytest.fixture(scope="module")
async def owner(own: LocalCloud) -> AsyncGenerator[Person]:
    """Ada on that cloud."""
    async with Person.signed_in(own, "ada@contoso.test") as person:
        yield person
