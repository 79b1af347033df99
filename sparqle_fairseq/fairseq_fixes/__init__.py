"""Training's work is never lost: checkpoints that are written whole, found again, and saved when a signal comes."""

from __future__ import annotations


def install() -> None:
    """Put the ways of this package in the place of fairseq's; twice is harmless."""
    from sparqle_fairseq.fairseq_fixes import half_precision, resuming, stopping, writing

    writing.install()
    resuming.install()
    half_precision.install()
    stopping.install()
