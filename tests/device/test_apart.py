"""Runs the tests of this folder in a process that knows the pretend device; see `conftest.py`."""

from __future__ import annotations

import pytest
import warm
from commands import PACKAGE, ROOT, environment

CODE = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
OPTIONS = ["-q", "--tb=short", "-p", "no:cacheprovider", "--color=no"]


@pytest.mark.parametrize("which", ["not long", pytest.param("long", marks=pytest.mark.long)])
def test_everything_on_the_pretend_device(which):
    words = ["-c", CODE, "tests/device", *OPTIONS, "-m", which]
    done = warm.run(words, ROOT, environment() | {"SPARQLE_PRETEND_DEVICE": "1"}, first=PACKAGE)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "passed" in done.stdout or "100%" in done.stdout, done.stdout
