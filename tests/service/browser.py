"""A real Chromium, without a window: the system's, or playwright's, which is installed if there is neither."""

from __future__ import annotations

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
INSTALL_S = 300


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a Chromium. Skips the test, with the reason, where none can be had."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the console is tested with playwright: pip install 'streamq[test]'")
    with sync_api.sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        path = next((found for name in NAMES if (found := shutil.which(name))), None) or (str(own) if own.exists() else install(own))
        # In a container there is no user for its own sandbox; the only pages it sees are the tests'.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def install(path: Path) -> str:
    """Have playwright fetch its Chromium, and give where it is."""
    command = [sys.executable, "-m", "playwright", "install", "--no-shell", "chromium"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if ended.returncode or not path.exists():
        why = next((line for line in (ended.stderr + ended.stdout).splitlines() if line.startswith("Error")), "it did not say why")
        pytest.skip(f"there is no Chromium, and playwright could not install one: {why}")
    return str(path)
