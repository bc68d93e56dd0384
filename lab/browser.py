"""Debian's Chromium, without a window and without calls to its vendor."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from lab.servers import find

CHROMIUM = "chromium-headless-shell"
"""Chromium without the window and its menus, which takes a third of the processor's time."""

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--user-agent=Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36",
)
"""The arguments that it is started with. As it would call itself, its visits would not count."""


@contextmanager
def chromium(*more: str) -> Iterator[Browser]:
    """Start a browser with additional arguments; it is closed at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(CHROMIUM), args=[*QUIET, *more])
        yield browser
        browser.close()
