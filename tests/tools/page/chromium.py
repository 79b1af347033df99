"""Starts a headless Chromium."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any


def start(folder: Path, microphone: Path | None) -> Any:
    """A driver whose profile and downloads lie in `folder`, whose microphone hears a wav, and which logs requests."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    arguments = [
        "headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", f"user-data-dir={folder / 'profile'}",
        "window-size=1280,900", "no-first-run", "disable-background-networking", "disable-component-update",
        "disable-sync",
    ]  # fmt: skip
    if microphone is not None:
        arguments += [
            "use-fake-ui-for-media-stream", "use-fake-device-for-media-stream",
            f"use-file-for-fake-audio-capture={microphone}",
        ]  # fmt: skip
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in arguments:
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_page_load_timeout(120)
    driver.downloads = folder / "downloads"
    saving = {"behavior": "allow", "downloadPath": str(driver.downloads)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", saving)
    return driver
