"""A key made in the browser, used by a program, and what it used as people see it."""

from pathlib import Path
from typing import Any

import httpx
from playwright.async_api import Page, expect

from local.cloud import LocalCloud
from tests.browser.pictures import look
from tests.browser.test_main_job import new_workspace
from tests.flows.world import Person, join, make_team


async def test_a_key_is_made_used_limited_and_revoked(visit: Any) -> None:
    async with visit() as ada:
        page: Page = ada.page
        await ada.sign_in("Ada Developer")
        await page.goto(f"{ada.cloud.web_url}/usage")
        await expect(page.get_by_role("heading", name="Usage")).to_be_visible()
        await page.goto(ada.cloud.web_url)
        await new_workspace(ada, "Paid for")
        await page.get_by_role("button", name="More actions for this board").click()
        await page.get_by_role("menuitem", name="Model keys and limits").click()
        await expect(page.get_by_text("Shown to nobody")).to_be_visible()
        await page.get_by_role("button", name="New key").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill("Build server")
        await dialog.get_by_label("Key: per day").fill("2")
        await dialog.get_by_label("Who it is for").first.click()
        for scope in ("The whole team", "The workspace", "The agent of the board"):
            await expect(page.get_by_role("option", name=scope)).to_be_visible()
        await page.get_by_role("option", name="Ada Developer").click()
        await look(page, "new-key")
        await dialog.get_by_role("button", name="Create key").click()
        key = (await dialog.get_by_test_id("shown-once").inner_text()).strip()
        await dialog.get_by_role("button", name="Done").click()
        row = page.get_by_role("row").filter(has_text="Build server")
        await expect(row).to_contain_text("$2 per day")
        await expect(row).to_contain_text("For Ada Developer")
        assert key not in await page.content()

        async with httpx.AsyncClient(base_url=f"{ada.cloud.api_url}/api/v1", headers={"x-api-key": key}) as program:
            asked = {"model": "demo-1", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]}
            assert (await program.post("/messages", json=asked)).status_code == 200

            await page.get_by_label("Each card: in total").fill("1.5")
            await page.get_by_role("button", name="Save limits").click()
            await expect(page.get_by_text("within five seconds")).to_be_visible()
            await look(page, "keys")

            await page.get_by_role("button", name="Actions for Build server").click()
            await page.get_by_role("menuitem", name="Revoke").click()
            await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
            await expect(row).to_have_count(0)
            assert (await program.post("/messages", json=asked)).status_code == 401

        await page.goto(f"{ada.cloud.web_url}/usage")
        await page.get_by_role("combobox", name="Team").or_(page.get_by_label("Team")).first.click()
        await page.get_by_role("option", name="Paid for").click()
        await page.get_by_role("combobox", name="Group by").or_(page.get_by_label("Group by")).first.click()
        await page.get_by_role("option", name="Model").click()
        await expect(page.get_by_role("row").filter(has_text="demo-1")).to_contain_text("$0.00", timeout=30_000)
        await look(page, "usage")
        async with page.expect_download() as downloading:
            await page.get_by_role("button", name="Download CSV").click()
        saved = Path(await (await downloading.value).path()).read_text()
        assert saved.splitlines()[0].startswith("model,input_tokens")
        assert saved.splitlines()[1].startswith("demo-1,")
        assert ada.complaints == []


async def test_a_key_for_somebody_who_leaves_meanwhile_is_not_made_for_the_whole_team(
    visit: Any, cloud: LocalCloud
) -> None:
    async with (
        Person.signed_in(cloud, "ada@contoso.test") as owner,
        Person.signed_in(cloud, "bob@contoso.test") as bob,
        visit() as ada,
    ):
        team = await make_team(owner, "Leaving")
        await join(owner, team["id"], bob, "member")
        page: Page = ada.page
        await page.clock.install()
        await ada.sign_in("Ada Developer")
        await page.goto(f"{cloud.web_url}/teams/{team['id']}/keys")
        await page.get_by_role("button", name="New key").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill("For Bob alone")
        await dialog.get_by_label("Who it is for").first.click()
        await page.get_by_role("option", name="Bob Reviewer").click()

        await owner.delete(f"/api/teams/{team['id']}/members/{bob.id}")
        async with page.expect_response(lambda answer: answer.url.endswith("/members")):
            await page.clock.fast_forward("02:00")  # the list of members is read again when somebody comes back
            await page.evaluate("window.dispatchEvent(new Event('visibilitychange'))")
        await dialog.get_by_label("Who it is for").first.click()
        await expect(page.get_by_role("option", name="The whole team")).to_be_visible()
        await expect(page.get_by_role("option", name="Bob Reviewer")).to_have_count(0)
        await page.keyboard.press("Escape")
        await dialog.get_by_role("button", name="Create key").click()
        await expect(dialog.get_by_role("alert")).to_contain_text("this team has no person")
        kept = (await owner.get(f"/api/teams/{team['id']}/keys"))["items"]
        assert [key["name"] for key in kept] == ["Team key"]
        assert ada.complaints == []


async def test_somebody_without_usage_is_told_how_to_begin(visit: Any) -> None:
    async with visit() as grace:
        await grace.sign_in("Grace")
        await grace.page.goto(f"{grace.cloud.web_url}/usage")
        await expect(grace.page.get_by_text("Nothing was used in these days.")).to_be_visible()
        await look(grace.page, "usage-empty")
        assert grace.complaints == []
