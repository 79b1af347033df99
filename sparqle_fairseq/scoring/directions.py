"""Which way a metric of validation is good: whether more of it is better."""

from __future__ import annotations

MORE = ("accuracy", "recall", "recall_at_1", "bleu", "chrf")
LESS = ("loss", "wer", "cer", "ter", "ppl", "skipped")


def more_is_better(metric: str) -> bool | None:
    """Of a metric's name as it is logged (`stg_accuracy`: by its end); None where the name does not say."""
    if metric.startswith("adversarial"):
        return None  # what its classifier finds is what the model is to hide

    def named(ends: tuple[str, ...]) -> bool:
        return any(metric == end or metric.endswith(f"_{end}") for end in ends)

    return True if named(MORE) else False if named(LESS) else None
