"""Checkpoints of both stages over the tiny world: untrained as good as, but whole."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from commands import finetune_arguments, pretrain_arguments, train_here


@pytest.fixture(scope="session")
def checkpoints(world, tmp_path_factory):
    """Paths `stage1`, `stage2`."""
    folder = tmp_path_factory.mktemp("checkpoints")
    train_here(pretrain_arguments(world, folder / "1", "--lr", 1e-2, updates=4))
    stage1 = folder / "1" / "checkpoint_last.pt"
    train_here(finetune_arguments(world, folder / "2", "--pretrained-adapter", stage1, "--lr", 1e-2, updates=4))
    return SimpleNamespace(stage1=stage1, stage2=folder / "2" / "checkpoint_last.pt")
