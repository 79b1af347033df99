"""A working folder that holds what the documents name."""

from __future__ import annotations

import shutil

import pytest
from commands import finetune_arguments, pretrain_arguments, train_here


@pytest.fixture(scope="session")
def trained(world, tmp_path_factory):
    """Checkpoints of both stages, which stand where the documents have those of the demo."""
    root = tmp_path_factory.mktemp("trained")
    first = root / "stage1"
    train_here(pretrain_arguments(world, first, updates=1))
    adapter = ["--pretrained-adapter", first / "checkpoint_last.pt"]
    train_here(finetune_arguments(world, root / "stage2", *adapter, updates=1))
    return root


@pytest.fixture
def here(world, trained, tmp_path, monkeypatch):
    """A working folder that holds everything that the documents name."""
    monkeypatch.chdir(tmp_path)
    for folder, names in {
        "librispeech": {"train": "train-clean-360", "train2": "train-clean-100", "valid": "dev-clean"},
        "mustc/en-fr": {"train2": "train_st", "dev2": "dev_st", "test_fr": "tst-COMMON_st"},
        "build/demo/manifests": {"test_fr": "test_fr", "test": "test_asr"},
        "build/demo_qformer/manifests": {"test_fr": "test_fr", "test": "test_asr"},
        "data": {"train2": "train", "dev2": "valid"},
        ".": {"train": "train", "valid": "dev", "test": "test"},
    }.items():
        shutil.copytree(world.data / "audio", tmp_path / folder / "audio")
        for name, theirs in names.items():
            shutil.copy(world.data / f"{name}.tsv", tmp_path / folder / f"{theirs}.tsv")
    for place in ("build/demo", "build/demo/published", "build/demo_qformer", "build/demo_qformer/published"):
        shutil.copytree(trained / "stage1", tmp_path / place / "stage1")
        shutil.copytree(trained / "stage2", tmp_path / place / "stage2")
    for name in ("hubert_large_ll60k.pt", "hubert_base_ls960.pt"):
        shutil.copy(world.encoder, tmp_path / name)
    shutil.copy(world.data / "audio" / "test_0.wav", tmp_path / "recording.wav")
    return tmp_path
