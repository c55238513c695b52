"""From a card in Review to its pull request, and back once that is merged."""

import re
from typing import Any

from playwright.async_api import expect

from tests.browser.pictures import look
from tests.browser.test_main_job import add_card, drag, new_workspace
from tests.flows.github import GitHub

TITLE = "Greet everybody who asks for it politely"
BODY = "Create `hello.txt`:\n\n```\nHello\n```\n"


async def test_a_person_follows_a_card_to_its_pull_request_and_sees_it_merged(visit: Any) -> None:
    async with visit() as ada, GitHub.of(ada.cloud) as github:
        await ada.sign_in("Ada Developer")
        await new_workspace(ada, "Merging")
        await add_card(ada, "Backlog", TITLE, BODY)
        await drag(ada, TITLE, "Backlog", "In Progress")
        tile = ada.card("Review", TITLE)
        await expect(tile).to_be_visible(timeout=60_000)
        await expect(tile).to_contain_text("Agent done")
        await tile.get_by_role("link").click()
        drawer = ada.page.get_by_role("dialog")
        link = drawer.get_by_role("link", name="Pull request #1")
        await expect(link).to_have_attribute("href", f"{ada.cloud.github_url}/kanban/merging/pull/1")
        await expect(link).to_have_attribute("target", "_blank")
        await expect(drawer.get_by_text("Open", exact=True).first).to_be_visible()
        await look(ada.page, "pull-request-open")

        await github.merge("kanban/merging", 1)
        await expect(drawer.get_by_text("Merged", exact=True)).to_be_visible(timeout=10_000)
        await look(ada.page, "pull-request-merged")
        await drawer.get_by_role("button", name="Close the card").click()
        await expect(tile.get_by_text("Merged", exact=True)).to_be_visible()
        await expect(tile).not_to_contain_text("Agent done")
        await look(ada.page, "board-merged")

        await tile.get_by_role("link").click()
        await drawer.get_by_role("region", name="Agent runs").get_by_role("link", name="Open").click()
        await expect(ada.page.get_by_role("list", name="Status: succeeded")).to_be_visible()
        await expect(drawer).to_be_hidden()
        await expect(ada.page.get_by_role("link", name="Pull request #1")).to_be_visible()
        await expect(ada.page.get_by_text("Merged", exact=True)).to_have_count(1)
        await look(ada.page, "run-merged")

        await ada.page.goto(f"{ada.cloud.web_url}/usage")
        await expect(ada.page.get_by_text(re.compile(r"^[1-9]\d* merged$"))).to_be_visible(timeout=30_000)
        await look(ada.page, "usage-merged")
        assert ada.complaints == []
