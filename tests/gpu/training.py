"""What the tests on CUDA train, as words of fairseq-train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from commands import TINY, finetune_arguments


def stage2_arguments(world: Any, save_dir: Path, *more: Any, updates: int = 4) -> list[Any]:
    """Stage 2 from scratch: it has to be told its speech encoder."""
    return finetune_arguments(world, save_dir, "--speech-encoder", world.encoder, *TINY, *more, updates=updates)
