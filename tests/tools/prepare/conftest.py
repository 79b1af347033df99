"""Fixtures: miniatures of every corpus, made once a session."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def corpora(tmp_path_factory):
    """A root with `data/`, where the recipes' commands find the corpora as their owners ship them."""
    import miniature

    return miniature.everything(tmp_path_factory.mktemp("corpora"))
