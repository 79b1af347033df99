"""What stage 1 can learn from, one file each: the names that the rest of the package uses.

Whatever module is in this folder is imported, and so registered.
"""

import importlib
import pkgutil

from sparqle_fairseq.models.stage1.batch import Stage1Batch
from sparqle_fairseq.models.stage1.objectives.base import Given, Objective, Reach, Sums, count_of, unreached
from sparqle_fairseq.models.stage1.objectives.registry import (
    PUBLISHED,
    SUMS,
    kind_of,
    kinds,
    objective_text,
    options_are_read,
    parse_objective,
    parts_left_behind,
    register_objective,
    trained_objective,
)

__all__ = [
    "PUBLISHED",
    "SUMS",
    "Given",
    "Objective",
    "Reach",
    "Stage1Batch",
    "Sums",
    "count_of",
    "kind_of",
    "kinds",
    "objective_text",
    "options_are_read",
    "parse_objective",
    "parts_left_behind",
    "register_objective",
    "trained_objective",
    "unreached",
]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
