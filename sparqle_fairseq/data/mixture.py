"""Two kinds of answers in one training: with and without the transcript first, and transcripts that have errors.

Mixing direct and transcript-first answers: arXiv 2510.03093. A transcript with errors, from which the translation is to
recover by the speech: arXiv 2510.03115. Plain Python.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from sparqle_fairseq.data.answers import ANSWERS
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.keyed_random import text_key

# Of the answers that begin with a transcript this share has one with errors; from the others it is learned.
SHARE_WITH_ERRORS = 0.5


@dataclass(frozen=True)
class Mixture:
    """What is drawn for a training row by seed, epoch and its id.

    Args:
        seed: of the draws.
        other_share: of the translations that are answered in the other style than `--answer` says.
        errors: share of the words of a transcript that are changed, where it is one with errors.
    """

    seed: int
    other_share: float = 0.0
    errors: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.other_share <= 1:
            raise SparqleError(f"--answer-mix {self.other_share:g} is a share, from 0 to 1")
        if not 0 <= self.errors <= 1:
            raise SparqleError(f"--transcript-errors {self.errors:g} is a share, from 0 to 1")

    def style(self, own: str, row: str, epoch: int) -> str:
        """The style of a row's answer, where `own` is that of `--answer`."""
        if self._draw("style", row, epoch).random() >= self.other_share:
            return own
        return next(style for style in ANSWERS if style != own)

    def with_errors(self, transcript: str, row: str, epoch: int) -> str | None:
        """A transcript in which words are missing, stand twice, or stand in place of others; None: as it is.

        Of a script without spaces the characters are its words. One word stays at least.
        """
        rng = self._draw("errors", row, epoch)
        if not self.errors or rng.random() >= SHARE_WITH_ERRORS:
            return None
        between = " " if " " in transcript.strip() else ""
        words = transcript.split() if between else list(transcript.strip())
        found: list[str] = []
        for word in words:
            if rng.random() >= self.errors:
                found.append(word)
                continue
            kind = rng.randrange(3)
            if kind == 1:
                found += [word, word]
            elif kind == 2:
                found.append(rng.choice(words))
        return between.join(found or words[:1])

    def _draw(self, what: str, row: str, epoch: int) -> random.Random:
        return random.Random(f"{what} {self.seed} {epoch} {text_key(row)}")
