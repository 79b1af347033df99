"""Fixtures: one tiny world a test session, and models over it."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the helpers that tests of several folders share

# Before anything of Hugging Face is imported: it reads this once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_sessionstart(session):
    """Load the plugin; not in the process that only hands out tests to others, which would take seconds for nothing."""
    if session.config.pluginmanager.hasplugin("dsession"):
        return
    gc.disable()  # until all tests are collected: what is imported stays
    import torch
    import torch.utils.data

    import sparqle_fairseq

    sparqle_fairseq.register()

    import quick_options

    quick_options.install()
    torch.set_num_threads(1)
    # A command leaves loader processes, which would end with a process of its own. Whoever finds them among the garbage
    # waits so many seconds before it ends them: 5 by default, in the midst of another test.
    torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.2


def pytest_collection_finish():
    """Leave what imports have made out of each later search for garbage: half a second of CPU, hundreds of times.

    The rest is searched every 50,000 new objects, of which a test makes thousands, and not every 700.
    """
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    gc.enable()


def pytest_sessionfinish():
    """Hypothesis, which pytest loads for its last words, asks what else holds its objects."""
    gc.unfreeze()


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


@pytest.fixture(scope="session")
def twelve(world, tmp_path_factory):
    """Data whose every update is the same twelve utterances, whatever the number of processes."""
    from sparqle_fairseq.data.manifest import read_manifest, write_manifest

    data = tmp_path_factory.mktemp("twelve")
    for split in ("train", "valid", "train2", "dev2"):
        manifest = read_manifest(world.data / f"{split}.tsv")
        rows = [asdict(manifest.row(i)) for i in range(min(12, len(manifest)))]
        columns = [name for name in manifest.columns if name in rows[0]]
        write_manifest(data / f"{split}.tsv", [{name: row[name] for name in columns} for row in rows], columns)
    return SimpleNamespace(**{**vars(world), "data": data})
