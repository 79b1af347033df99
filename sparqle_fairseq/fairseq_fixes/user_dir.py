"""`--user-dir` in a process that has imported the plugin already: a notebook, a script around fairseq's commands."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import wraps
from typing import Any

from sparqle_fairseq.fairseq_fixes.marks import mark, marks

logger = logging.getLogger(__name__)


def let_user_dir_follow(utils: Any, package: str, register: Callable[[], None]) -> None:
    """Let ``--user-dir`` and an import of the plugin go together, in any order and any number of times.

    Symptom: after the import, ``--user-dir`` ends in "not globally unique" (given another path to it), in
    ``FileNotFoundError`` (given its name alone, in another folder), or in "invalid choice: 'sparqle_pretrain'" (nothing
    registered yet). Reason: fairseq wants to import the folder itself, and takes what is imported for registered. Can
    stay for good: fairseq cannot know what registers a plugin.

    Args:
        utils: `fairseq.utils`.
        package: folder of the plugin that is imported.
        register: makes its tasks, models and criterions known to fairseq.
    """
    usual = utils.import_user_module
    if "follows the import" in marks(usual):
        return

    @wraps(usual)
    def import_user_module(args: Any) -> None:
        given = getattr(args, "user_dir", None)
        if given is None or os.path.basename(os.path.normpath(given)) != os.path.basename(package):
            usual(args)
            return
        if os.path.isdir(given) and not os.path.samefile(given, package):
            logger.warning("--user-dir %s: the plugin is imported already from %s, and that is used", given, package)
        register()

    mark(import_user_module, "follows the import")
    utils.import_user_module = import_user_module
