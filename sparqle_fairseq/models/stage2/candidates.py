"""What sequence training compares: several answers that the model itself has found, and how far each is from right.

B utterances, N candidates, L tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from sparqle_fairseq.data.options import choice
from sparqle_fairseq.errors import SparqleError

SEARCHES = ("beam", "sampling")


class Candidates(NamedTuple):
    """Answers of each utterance; where it has fewer than N, the rest is padding alone."""

    tokens: Tensor  # (B, N, L), each closed by the end token
    padding_mask: Tensor  # (B, N, L)
    risks: Tensor  # (B, N) 1 - chrF / 100, against the reference
    ntokens: int | None = None  # in all of them, where the program knows it and need not ask the device

    @property
    def there(self) -> Tensor:
        """(B, N) which candidates there are."""
        return ~self.padding_mask.all(dim=2)


@dataclass(frozen=True)
class CandidateOptions:
    candidates: int = field(
        default=4, metadata={"help": "of --objective minimum-risk and preference: answers found for each utterance"}
    )
    candidate_search: str = choice(
        "beam", SEARCHES, "how they are found in each step: the best of a beam search, or drawn at random"
    )


def check_candidates(options: CandidateOptions) -> None:
    """Raises `SparqleError` for what gives nothing to compare."""
    if options.candidates < 2:
        raise SparqleError(f"--candidates {options.candidates} must be 2 or more: answers are compared with each other")
