"""The tiny world with a speech encoder that transformers can read."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # runs.py


@pytest.fixture(scope="session")
def hub_world(world, tmp_path_factory):
    from factories import save_tiny_hugging_face

    folder = tmp_path_factory.mktemp("encoder") / "hubert"
    save_tiny_hugging_face(folder, "hubert", normalize=False)
    return SimpleNamespace(**{**vars(world), "encoder": folder})
