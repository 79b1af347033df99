"""What a recipe sets up for its whole process ends with the test that runs it."""

from __future__ import annotations

import signal

import pytest


@pytest.fixture(autouse=True)
def _signals_as_before():
    """`pipeline.run_together` lets SIGTERM end a recipe in its own way, and all other tests of a process with it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
