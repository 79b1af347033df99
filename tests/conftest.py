"""Fixtures: one tiny world a test session, and models over it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

HERE = Path(__file__).parent
for folder in (".", "criterions", "fairseq_fixes", "generate", "tools/launch"):  # what tests of other folders share
    sys.path.insert(0, str(HERE / folder))

# Before anything of Hugging Face is imported: it reads this once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import sparqle_fairseq  # noqa: E402

sparqle_fairseq.register()

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Paths: data (train, valid, test, test_fr), encoder, tokenizer, llm."""
    import tiny
    from factories import save_tiny_hubert

    root = tmp_path_factory.mktemp("world")
    data = root / "data"
    data.mkdir()
    tiny.write_split(data, "train", 32, seed=1)
    tiny.write_split(data, "valid", 8, seed=2)
    tiny.write_split(data, "test", 16, seed=3)
    tiny.write_split(data, "train2", 16, seed=1, languages=("en", "fr"))
    tiny.write_split(data, "dev2", 8, seed=2, languages=("en", "fr"))
    tiny.write_split(data, "test_fr", 16, seed=3, languages=("fr",))
    save_tiny_hubert(root / "hubert.pt")
    return SimpleNamespace(
        root=root,
        data=data,
        encoder=root / "hubert.pt",
        tokenizer=tiny.save_text_tokenizer(root / "tokenizer"),
        llm=tiny.save_llm(root / "llm"),
    )


@pytest.fixture(scope="session")
def stage1(world):
    """A stage-1 task and model, in eval mode, with random weights that are large enough to matter."""
    from tiny_models import build_stage1

    return build_stage1(world)


@pytest.fixture(scope="session")
def stage2(world):
    from tiny_models import build_stage2

    return build_stage2(world)
