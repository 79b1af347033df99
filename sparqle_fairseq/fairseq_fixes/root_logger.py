"""How much the logs of all libraries say: what fairseq's own programs let through, and no more."""

from __future__ import annotations

import logging
import os


def hide_debugging_lines() -> bool:
    """Put the root logger's level back to INFO.

    Symptom: lines such as ``DEBUG:matplotlib.font_manager:…`` from every library. Reason: fairseq's
    ``wav2vec2_classification`` sets the root logger to DEBUG when it is imported, and with it everything that has no
    level of its own. Can go when it does not. ``LOGLEVEL=DEBUG``, which fairseq's programs read, leaves it so.

    Returns:
        True where this call changed it.
    """
    root = logging.getLogger()
    if root.level != logging.DEBUG or os.environ.get("LOGLEVEL", "").upper() == "DEBUG":
        return False
    root.setLevel(logging.INFO)
    return True
