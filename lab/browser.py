"""Debian's Chromium, without a window and without calls to its makers."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from lab.servers import find

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""What it is started with."""


@contextmanager
def chromium(*more: str) -> Iterator[Browser]:
    """A browser with these arguments more, until the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find("chromium"), args=[*QUIET, *more])
        yield browser
        browser.close()
