"""What stage 1 can learn from, by name, and how a sum of such objectives is written: `stc+stm+0.5*stg`.

Plain Python: the options, the model and the criterion all read names from here.
"""

from __future__ import annotations

import re

from sparqle_fairseq.errors import SparqleError

PUBLISHED = ("stc", "stm", "stg")
OBJECTIVES = (*PUBLISHED, "stg-outputs", "ctc", "llm-ctc")
# Set by --adversarial-weight, beside the objectives: by itself it would teach nothing.
ADVERSARIAL = "adversarial"
# Names for sums of objectives.
SUMS = {"sparqle": PUBLISHED}
# Objectives that read the transcript through the Q-Former's text branch.
WITH_TEXT_BRANCH = frozenset(PUBLISHED)

_TERM = re.compile(r"(?:(?P<weight>[0-9.]+(?:e-?[0-9]+)?)\s*\*\s*)?(?P<name>[a-z][a-z-]*)")


def parse_objective(text: str) -> dict[str, float]:
    """`0.5*stg + llm-ctc` -> {"stg": 0.5, "llm-ctc": 1.0}, in the order of `OBJECTIVES`. Raises `SparqleError`."""
    weights: dict[str, float] = {}
    for term in text.split("+"):
        match = _TERM.fullmatch(term.strip())
        known = ", ".join((*SUMS, *OBJECTIVES))
        if match is None:
            raise SparqleError(f"--objective {text!r}: {term.strip()!r} is not NAME or WEIGHT*NAME; names are {known}")
        name = match["name"]
        if name not in SUMS and name not in OBJECTIVES:
            raise SparqleError(f"--objective {text!r}: {name!r} is unknown; choose from {known}")
        try:
            weight = float(match["weight"] or 1)
        except ValueError as error:
            raise SparqleError(f"--objective {text!r}: {match['weight']!r} is not a number") from error
        if not weight > 0:
            raise SparqleError(f"--objective {text!r}: the weight of {name} must be above 0; leave it out instead")
        for part in SUMS.get(name, (name,)):
            if part in weights:
                raise SparqleError(f"--objective {text!r}: {part} is in it twice; write it once, with one weight")
            weights[part] = weight
    return {name: weights[name] for name in OBJECTIVES if name in weights}
