"""fairseq's checkpoints are written and copied whole: see `data.checkpoint_files`."""

from __future__ import annotations

from functools import wraps
from typing import Any

from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from sparqle_fairseq.data.checkpoint_files import copy_whole, save_whole
from sparqle_fairseq.fairseq_fixes.marks import mark, marks


def write_checkpoints_whole() -> None:
    """Let a kill or a full disk leave no half checkpoint under its name.

    Symptom: ``checkpoint_last.pt`` and ``checkpoint_best.pt`` are cut; a failed write is tried again behind its own
    beginning and ends in forty lines of torch. Reason: fairseq copies in place, renames what was never synced, and
    hands torch the same open file again. Can go when fairseq does it itself.
    """
    usual = checkpoint_utils.torch_persistent_save
    if "writes whole" in marks(usual):
        return

    @wraps(usual)
    def torch_persistent_save(obj: Any, filename: Any, async_write: bool = False) -> None:
        if async_write or not isinstance(filename, str) or PathManager.path_requires_pathmanager(filename):
            usual(obj, filename, async_write)
        else:
            save_whole(obj, filename)

    class WholeCopies(PathManager):
        """fairseq's file access, for the module that copies checkpoints."""

        @staticmethod
        def copy(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
            if any(PathManager.path_requires_pathmanager(path) for path in (src_path, dst_path)):
                return PathManager.copy(src_path, dst_path, overwrite)
            copy_whole(src_path, dst_path)
            return True

    mark(torch_persistent_save, "writes whole")
    checkpoint_utils.torch_persistent_save = torch_persistent_save
    checkpoint_utils.PathManager = WholeCopies
