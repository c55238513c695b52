"""The example card, carried out by the agent with the demo model."""

from pathlib import Path

from local.model import create_app
from tests.agent.conftest import Agent
from tests.agent.platform_api import PlatformApi, git, make_repository
from tests.serving import base_url, listening_socket, serve

EXAMPLE = Path(__file__).parents[2] / "local" / "example"


async def test_the_example_card_ends_on_a_branch(tmp_path: Path) -> None:
    api = PlatformApi(tmp_path / "repositories", model_name="demo-1")
    files = [path for path in (EXAMPLE / "repository").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    make_repository(
        api.repository, files={str(path.relative_to(EXAMPLE / "repository")): path.read_text() for path in files}
    )
    title, _, body = (EXAMPLE / "card.md").read_text().partition("\n")
    api.card = {"title": title.lstrip("# "), "body": body, "comments": []}
    agent = Agent(api, tmp_path / "home")
    agent.home.mkdir()
    sock = listening_socket()
    api.base_url = base_url(sock)
    async with serve(api.app(create_app(delay=0)), sock):
        assert await agent.run() == 0, api.completions
    assert git(api.repository, "rev-parse", api.branch) == api.completion["commit"]
    assert git(api.repository, "log", "-1", "--format=%s", api.branch) == api.card["title"]
    assert git(api.repository, "diff", "--stat", "main", api.branch)
    assert not [event for event in api.of_kind("tool_result") if event["is_error"]]
