"""Which machine-made translations are good enough to learn from, and why the others are not.

As arXiv 2505.08699 (Granite speech) does: by the ratio of lengths and by the language; and what loops, was cut, or only
repeats the transcript is left out too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from sparqle_fairseq.generate.guard import is_loop
from sparqle_fairseq.scoring.normalise import normalised
from sparqle_fairseq.tools.llm_targets.reader import Answer

Identifier = Callable[[str, str], str | None]  # text, language -> the other language that the text surely is in


def faults(
    transcripts: Sequence[str],
    answers: Sequence[Answer],
    language: str,
    longest: float,
    other_language: Identifier | None = None,
) -> list[str | None]:
    """Why each answer is left out, None where it stays.

    Args:
        transcripts: what was read.
        answers: translations of all of them into one language.
        language: BCP-47 code of it.
        longest: an answer is left out whose length in characters, over that of its transcript, is more than so many
            times the median of all, or less than the median divided by it. The median is that of the language pair,
            so that scripts with short texts are not taken for short answers.
        other_language: None where nobody looks.
    """
    found = [
        _own_fault(said, answer, language, other_language) for said, answer in zip(transcripts, answers, strict=True)
    ]
    ratios = [len(answer.text) / max(1, len(said)) for said, answer in zip(transcripts, answers, strict=True)]
    usual = median([ratio for ratio, fault in zip(ratios, found, strict=True) if fault is None] or [1.0])
    for i, ratio in enumerate(ratios):
        if found[i] is None and not usual / longest <= ratio <= usual * longest:
            found[i] = "too long" if ratio > usual else "too short"
    return found


def _own_fault(said: str, answer: Answer, language: str, other_language: Identifier | None) -> str | None:
    if not normalised(answer.text):
        return "empty"
    if is_loop(answer.text):
        return "repeats itself"
    if not answer.whole:
        return "did not end"
    if normalised(answer.text).casefold() == normalised(said).casefold():
        return "is the transcript"
    if other_language is not None and (code := other_language(answer.text, language)):
        return f"is in another language ({code})"
    return None
