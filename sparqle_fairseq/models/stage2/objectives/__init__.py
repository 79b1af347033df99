"""What stage 2 can learn from, one file each: the names that the rest of the package uses.

Whatever module is in this folder is imported, and so registered.
"""

import importlib
import pkgutil

from sparqle_fairseq.models.stage2.objectives.base import Counted, Objective
from sparqle_fairseq.models.stage2.objectives.registry import (
    DEFAULT,
    kind_of,
    kinds,
    options_are_read,
    parse_objective,
    reads_candidates,
    reads_start,
    reads_transcripts,
    register_objective,
)

__all__ = [
    "DEFAULT",
    "Counted",
    "Objective",
    "kind_of",
    "kinds",
    "options_are_read",
    "parse_objective",
    "reads_candidates",
    "reads_start",
    "reads_transcripts",
    "register_objective",
]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
