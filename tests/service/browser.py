"""A real Chromium, without a window: the system's, or playwright's, which is installed if there is neither."""

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
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGES = ("chromium", "fonts-dejavu-core")
INSTALL_S = 300


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a Chromium. Skips the test, with the reason, where none can be had."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the console is tested with playwright: pip install 'streamq[test]'")
    with sync_api.sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        path = next((found for name in NAMES if (found := shutil.which(name))), None) or (str(own) if own.exists() else install(own))
        # In a container there is no user for its own sandbox; the only pages it sees are the tests'.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-extensions"])
        try:
            yield browser
        finally:
            browser.close()


def install(path: Path) -> str:
    """Install a Chromium, and give where it is: playwright's, or where CI may and cannot fetch that one, Debian's."""
    command = [sys.executable, "-m", "playwright", "install", "--no-shell", "chromium"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if ended.returncode == 0 and path.exists():
        return str(path)
    if os.environ.get("CI") and shutil.which("apt-get") and os.geteuid() == 0:
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", "--quiet", *arguments], capture_output=True, timeout=INSTALL_S, check=False)
        if (found := shutil.which(NAMES[0])) is not None:
            return found
    why = next((line for line in (ended.stderr + ended.stdout).splitlines() if line.startswith("Error")), "it did not say why")
    pytest.skip(f"there is no Chromium, and playwright could not install one: {why}")
