"""Sums of objectives as they are written on a command line: `0.5*stg+llm-ctc`, `answer+0.5*distill`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from sparqle_fairseq.data.names import NAME
from sparqle_fairseq.errors import SparqleError


def parse_sum(
    text: str, known: Collection[str], sums: Mapping[str, Sequence[str]] | None = None, trained: str = ""
) -> dict[str, float]:
    """`0.5*stg + llm-ctc` -> {"stg": 0.5, "llm-ctc": 1.0}, in the order of the text.

    Args:
        text: of `--objective`.
        known: names of objectives.
        sums: names that stand for several of them.
        trained: names the checkpoint whose objective it is, where it is one's.

    Raises:
        SparqleError: it is no sum of objectives, one of them is not known or in it twice, or a weight is not a number
            above 0.
    """
    sums = sums or {}
    weights: dict[str, float] = {}
    names = ", ".join([*sums, *known])
    for term in (term.strip() for term in text.split("+")):
        before, star, name = (part.strip() for part in term.rpartition("*"))
        if not NAME.fullmatch(name) or (star and not before):
            raise SparqleError(f"--objective {text!r}: {term!r} is not NAME or WEIGHT*NAME; names are {names}")
        if name not in sums and name not in known:
            if trained:
                raise SparqleError(
                    f"{trained} was trained with --objective {text}, and no objective {name!r} is installed here; "
                    "import the file that registers it, as with --user-dir"
                )
            raise SparqleError(
                f"--objective {text!r}: {name!r} is unknown; choose from {names}, or register your own first"
            )
        try:
            weight = float(before) if star else 1.0
        except ValueError as error:
            raise SparqleError(
                f"--objective {text!r}: {before!r} is not a number; write the weight of {name} as 0.5*{name}"
            ) from error
        if not 0 < weight < math.inf:
            raise SparqleError(
                f"--objective {text!r}: the weight of {name} is {before} and must be above 0; leave {name} out instead"
            )
        for part in sums.get(name, (name,)):
            if part in weights:
                raise SparqleError(f"--objective {text!r}: {part} is in it twice; write it once, with one weight")
            weights[part] = weight
    return weights
