"""Lets a task's dictionary say how its texts are scored.

fairseq-generate scores token ids by default, and with --scoring the text as it splits at spaces; a row that has no
reference is scored as an empty one. It gives its scorers the target dictionary and nothing else of the task.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from sparqle_fairseq.fairseq_fixes.marks import mark, marks


def let_dictionaries_score() -> None:
    """Ask the dictionary's `build_scorer`, where it has one, in the place of fairseq's.

    Symptom: fairseq-generate prints a BLEU of an LLM's tokens, and one of Chinese that splits at spaces. Can go when
    fairseq gives a task a say in its scorer.
    """
    from fairseq import scoring

    usual = scoring.build_scorer
    if "dictionary" in marks(usual):
        return

    @wraps(usual)
    def build_scorer(choice: Any, tgt_dict: Any) -> Any:
        own = getattr(tgt_dict, "build_scorer", None)
        return usual(choice, tgt_dict) if own is None else own(choice, lambda named: usual(named, tgt_dict))

    mark(build_scorer, "dictionary")
    scoring.build_scorer = build_scorer
