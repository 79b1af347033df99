"""What the tests of the page need."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest


def needed(*names: str) -> None:
    """Skip where a package or program of the page's tests is missing; in CI that fails, so that they do run there."""
    for name in names:
        if importlib.util.find_spec(name) is None and shutil.which(name) is None:
            said = f"{name} is not installed: pip install 'sparqle-fairseq[page,dev]', apt install chromium-driver"
            if os.environ.get("CI"):
                pytest.fail(f"the tests of the page must run here, but {said}")
            pytest.skip(said)
