"""Pages as they look, wide and narrow, by day and by night."""

import os
from pathlib import Path

from playwright.async_api import Page

SHOTS = os.environ.get("KANBAN_SHOTS", "")


async def look(page: Page, name: str) -> None:
    """Pictures for whoever asks for them: light, dark, narrow. A page that scrolls sideways fails."""
    for scheme, width in (("light", 1400), ("dark", 1400), ("light", 390), ("dark", 390)):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        await page.set_viewport_size({"width": width, "height": 900})
        assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} at {width}"
        if SHOTS:
            await page.wait_for_timeout(400)
            await page.screenshot(path=Path(SHOTS) / f"{name}-{scheme}-{width}.png", full_page=True)
    await page.set_viewport_size({"width": 1400, "height": 900})
