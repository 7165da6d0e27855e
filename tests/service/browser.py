"""A real Chromium, without a window: the system's, or playwright's, which is installed if there is neither.

A headless shell, Chromium without its own windows and services, is preferred: pages are the same in it, and it takes half the time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGES = NAMES[:2]
FONTS = "fonts-dejavu-core"
INSTALL_S = 300


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a Chromium. Skips the test, with the reason, where none can be had."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the console is tested with playwright: pip install 'streamq[test]'")
    with sync_api.sync_playwright() as playwright:
        browser = start(playwright)
        try:
            yield browser
        finally:
            browser.close()


def start(playwright: Playwright) -> Browser:
    """Start what is there, or else what can be installed."""
    from playwright.sync_api import Error

    own = Path(playwright.chromium.executable_path)
    if (path := find() or (str(own) if own.exists() else None)) is not None:
        return launch(playwright, path)
    try:
        return launch(playwright, None)
    except Error:
        return launch(playwright, install())


def find() -> str | None:
    """Find the system's."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def launch(playwright: Playwright, path: str | None) -> Browser:
    """Start the Chromium at `path`, or else playwright's own shell."""
    # In a container there is no user for its own sandbox; the only pages it sees are the tests'.
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-extensions"])


def install() -> str | None:
    """Install a shell: playwright's, or where CI may and cannot fetch that one, Debian's, whose path is given."""
    command = [sys.executable, "-m", "playwright", "install", "--only-shell", "chromium"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if ended.returncode == 0:
        return None
    if os.environ.get("CI") and shutil.which("apt-get") and os.geteuid() == 0:
        # Not every release of Debian has the first.
        for arguments in (["update"], *(["install", "--yes", "--no-install-recommends", name, FONTS] for name in PACKAGES)):
            subprocess.run(["apt-get", "--quiet", *arguments], capture_output=True, timeout=INSTALL_S, check=False)
            if (found := find()) is not None:
                return found
    why = next((line for line in (ended.stderr + ended.stdout).splitlines() if line.startswith("Error")), "it did not say why")
    pytest.skip(f"there is no Chromium, and playwright could not install one: {why}")
