"""A new user's whole path: sign in, make a workspace, work on the board together, let an agent do a card."""

import subprocess
import time
from pathlib import Path
from typing import Any

from playwright.async_api import expect

from local.demo import EXAMPLE, example_repository, read_card


async def fill_in_workspace(visitor: Any, name: str, source: str = "") -> None:
    """Through the dialog; ends where its steps are shown."""
    page = visitor.page
    await page.get_by_test_id("new-workspace").first.click()
    await page.get_by_label("Name").fill(name)
    if source:
        await page.get_by_label("Import an existing repository").fill(source)
    await page.get_by_role("button", name="Create workspace").click()
    await page.get_by_role("list", name="Steps").wait_for()


async def new_workspace(visitor: Any, name: str, source: str = "") -> None:
    """Ends on the board."""
    await fill_in_workspace(visitor, name, source)
    await visitor.page.wait_for_url("**/boards/**", timeout=60_000)


async def invite_link(visitor: Any) -> str:
    """Made in the board's dialog of members; the path of its address."""
    await visitor.page.get_by_role("button", name="Members").click()
    await visitor.page.get_by_role("button", name="Create invite link").click()
    link = await visitor.page.get_by_test_id("invite-link").inner_text()
    await visitor.page.keyboard.press("Escape")
    return link.removeprefix(visitor.cloud.web_url)


async def join_as_bob(bob: Any) -> None:
    """From an invite link to the live board."""
    await bob.sign_in("Bob Reviewer")
    await bob.page.get_by_role("button", name="Join").click()
    await bob.column("Backlog").wait_for()
    await expect(bob.page.get_by_text("Live", exact=True)).to_be_visible()


async def add_card(visitor: Any, column: str, title: str, body: str = "") -> None:
    page = visitor.page
    await page.get_by_role("button", name=f"Add card to {column}").click()
    field = page.get_by_label(f"Title of the new card in {column}")
    await field.fill(title)
    await field.press("Enter")
    await expect(visitor.card(column, title)).to_be_visible()
    await field.press("Escape")
    if body:
        await visitor.card(column, title).get_by_role("link").click()
        drawer = page.get_by_role("dialog")
        await drawer.get_by_role("region", name="Description").get_by_role("button", name="Edit").click()
        await drawer.get_by_label("Description in markdown").fill(body)
        await drawer.get_by_role("button", name="Save").click()
        await expect(drawer.get_by_label("Description in markdown")).to_be_hidden()
        await drawer.get_by_role("button", name="Close the card").click()
        await expect(drawer).to_be_hidden()


async def drag(visitor: Any, title: str, origin: str, target: str) -> None:
    await visitor.card(origin, title).drag_to(visitor.column(target))


class TestMainJob:
    async def test_a_person_watches_an_agent_change_a_repository(self, visit: Any, tmp_path: Path) -> None:
        card = read_card(EXAMPLE / "card.md")
        async with visit() as ada:
            await ada.sign_in("Ada Developer")
            await new_workspace(ada, "Durations", example_repository(tmp_path / "durations"))
            await add_card(ada, "Backlog", card.title, card.body)
            await drag(ada, card.title, "Backlog", "In Progress")
            await expect(ada.card("In Progress", card.title)).to_be_visible()
            await expect(ada.card("Review", card.title)).to_be_visible(timeout=60_000)

            await ada.card("Review", card.title).get_by_role("link").click()
            drawer = ada.page.get_by_role("dialog")
            branch = await drawer.get_by_test_id("result-branch").first.inner_text()
            commit = await drawer.get_by_test_id("result-commit").first.get_attribute("title")
            await drawer.get_by_role("region", name="Agent runs").get_by_role("link", name="Open").click()

            page = ada.page
            await expect(page.get_by_role("list", name="Status: succeeded")).to_be_visible()
            log = page.get_by_role("log", name="Agent activity")
            await expect(log).to_contain_text("durations/parsing.py")
            await expect(log).to_contain_text("python3 -m unittest")
            await expect(log).to_contain_text(branch)
            await page.get_by_role("button", name="View diff").click()
            diff = page.get_by_role("region", name="Diff", exact=True)
            await expect(diff).to_contain_text("durations/writing.py")
            assert ada.complaints == []
            held = subprocess.run(
                ["git", "rev-parse", f"refs/heads/{branch}"],
                cwd=ada.cloud.data / "github" / "repositories" / "kanban" / "durations.git",
                capture_output=True,
                text=True,
            )
            assert held.stdout.strip() == commit, held.stderr

    async def test_a_second_person_sees_changes_within_a_second(self, visit: Any) -> None:
        async with visit() as ada:
            await ada.sign_in("Ada Developer")
            await new_workspace(ada, "Shared board")
            async with visit(await invite_link(ada)) as bob:
                await join_as_bob(bob)
                await ada.page.get_by_role("button", name="Add column").click()
                await ada.page.get_by_label("Name of the new column").fill("Blocked")
                await ada.page.keyboard.press("Enter")
                await expect(bob.column("Blocked")).to_be_visible(timeout=1_500)

                await add_card(ada, "Backlog", "Seen by both")
                await expect(bob.card("Backlog", "Seen by both")).to_be_visible(timeout=1_500)

                began = time.monotonic()
                await drag(bob, "Seen by both", "Backlog", "Ready")
                await expect(ada.card("Ready", "Seen by both")).to_be_visible(timeout=2_500)
                assert time.monotonic() - began < 3
                assert ada.complaints + bob.complaints == []

    async def test_a_failed_run_says_why_and_can_be_retried(self, visit: Any) -> None:
        async with visit() as ada:
            await ada.sign_in("Ada Developer")
            await new_workspace(ada, "Failures")
            await add_card(ada, "Backlog", "Prose only", "Please make everything better.")
            await drag(ada, "Prose only", "Backlog", "In Progress")
            tile = ada.card("In Progress", "Prose only")
            await expect(tile).to_contain_text("failed", timeout=30_000, ignore_case=True)
            await tile.get_by_role("link").click()
            runs = ada.page.get_by_role("dialog").get_by_role("region", name="Agent runs")
            await expect(runs.get_by_role("alert")).to_contain_text("no instruction", ignore_case=True)
            await runs.get_by_role("button", name="Retry").click()
            await expect(runs).to_contain_text("Attempt 2", timeout=20_000)

    async def test_the_board_fits_a_phone(self, visit: Any) -> None:
        async with visit(viewport={"width": 360, "height": 740}) as ada:
            await ada.sign_in("Ada Developer")
            await new_workspace(ada, "On a phone")
            width = await ada.page.evaluate("document.documentElement.scrollWidth")
            assert width <= 360, f"the page is {width} px wide"

    async def test_cancelling_at_entra_leads_back_with_words(self, visit: Any) -> None:
        async with visit() as somebody:
            await somebody.page.get_by_test_id("sign-in").click()
            await somebody.page.get_by_role("button", name="Cancel").click()
            await expect(somebody.page.get_by_role("alert")).to_be_visible()
            await expect(somebody.page.get_by_test_id("sign-in").or_(somebody.page.get_by_role("link"))).to_be_visible()
