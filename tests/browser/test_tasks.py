"""Work that is cancelled, that fails, and what is deleted, as people see it."""

from pathlib import Path
from typing import Any

from playwright.async_api import expect

from tests.browser.test_main_job import add_card, fill_in_workspace, invite_link, join_as_bob, new_workspace


async def delete(visitor: Any, name: str) -> None:
    """From the board's menu; the name has to be typed."""
    page = visitor.page
    await page.get_by_role("button", name="More actions for this board").click()
    await page.get_by_role("menuitem", name="Delete this workspace").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_role("radio", name="Keep it")).to_be_checked()
    button = dialog.get_by_role("button", name="Delete workspace")
    await dialog.get_by_label("Name to confirm").fill(name[:-1])
    await expect(button).to_be_disabled()
    await dialog.get_by_label("Name to confirm").fill(name)
    await button.click()


class TestCancel:
    async def test_a_person_cancels_an_import_and_sees_it_undone(self, visit: Any, large: str) -> None:
        async with visit() as ada:
            await ada.sign_in("Ada Developer")
            await fill_in_workspace(ada, "Cancelled here", large)
            page = ada.page
            await page.get_by_role("listitem", name="Importing repo: running").wait_for()
            await page.get_by_role("button", name="Cancel").click()
            await page.get_by_role("button", name="Cancel and undo").click()
            await expect(page.get_by_role("alert")).to_contain_text("Cancelled by Ada Developer", timeout=30_000)
            await expect(page.get_by_role("listitem", name="Creating repo: undone")).to_be_visible()
            await expect(page.get_by_role("button", name="Begin again")).to_be_visible()
            await page.goto(ada.cloud.web_url)
            card = page.get_by_role("listitem").filter(has_text="Cancelled here")
            await expect(card).to_contain_text("Cancelled")
            assert ada.complaints == []


class TestRefused:
    async def test_a_bad_address_is_undone_and_says_why(self, visit: Any, tmp_path: Path) -> None:
        async with visit() as ada:
            await ada.sign_in("Ada Developer")
            await fill_in_workspace(ada, "Refused here", (tmp_path / "nothing").as_uri())
            alert = ada.page.get_by_role("alert")
            await expect(alert).to_contain_text("was undone", timeout=30_000)
            await expect(alert).to_contain_text("Importing repo failed")


class TestDelete:
    async def test_it_goes_live_for_everybody_who_looks_at_it(self, visit: Any) -> None:
        async with visit() as ada:
            await ada.sign_in("Ada Developer")
            await new_workspace(ada, "Deleted here")
            await add_card(ada, "Backlog", "Lost with it")
            async with visit(await invite_link(ada)) as bob:
                await join_as_bob(bob)
                async with visit() as looking:
                    await looking.sign_in("Ada Developer")
                    card = looking.page.get_by_role("listitem").filter(has_text="Deleted here")
                    await expect(card).to_contain_text("Active")
                    await delete(ada, "Deleted here")
                    await expect(ada.page.get_by_role("heading", name="Deleted here was deleted")).to_be_visible()
                    await expect(bob.page.get_by_role("heading", name="Deleted here was deleted")).to_be_visible()
                    await expect(card).to_have_count(0)
                    assert ada.complaints + bob.complaints + looking.complaints == []
