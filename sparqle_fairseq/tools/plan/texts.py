"""How many tokens texts have: those of manifests, where a tokenizer was named, else as many as are usual."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from sparqle_fairseq.data.manifest import Manifest
from sparqle_fairseq.data.text import TokenizerError, TranscriptTokenizer
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.llm.files import LLMFiles
from sparqle_fairseq.tools.plan.plan import TOKENS_A_SECOND
from sparqle_fairseq.tools.plan.rows import seconds_of

SAMPLE = 1000  # rows of a manifest whose texts are looked at


def text_vocabulary(tokenizer: str) -> int:
    """Tokens of stage 1's tokenizer, without [DEC]. Raises `SparqleError`."""
    return TranscriptTokenizer.load(tokenizer).vocab_size - 1


def counted_tokens(
    manifests: Sequence[Manifest], tokenizer: str | None, llm: str | None, said: float | None
) -> tuple[float, float, float]:
    """Tokens a second of transcripts in stage 1's tokens, of transcripts in the LLM's, and of answers.

    `said` holds for all. Else some `SAMPLE` texts of each manifest are counted by the tokenizers that were named.
    Raises `SparqleError`.
    """
    if said is not None:
        if not said > 0:
            raise SparqleError(f"--tokens-per-second {said:g} must be above 0")
        return said, said, said
    usual = TOKENS_A_SECOND
    found = [usual, usual, usual]
    if manifests and tokenizer:
        own = TranscriptTokenizer.load(tokenizer)
        found[0] = _mean(manifests, "src_text", lambda text: len(own.encode(text))) or usual
    words = _tokenizer_of(llm) if manifests and llm else None
    if words is not None:

        def count(text: str) -> int:
            return len(words.encode(text, add_special_tokens=False)) + 1  # and the end of turn

        found[1] = _mean(manifests, "src_text", count) or usual
        found[2] = _mean(manifests, "tgt_text", count) or found[1]
    return found[0], found[1], found[2]


def _tokenizer_of(llm: str) -> Any:
    """That of an LLM's folder; None where it has none: a plan can do without."""
    try:
        return LLMFiles.find(llm).read_tokenizer(sys.maxsize)
    except TokenizerError:
        return None


def _mean(manifests: Sequence[Manifest], column: str, count: Callable[[str], int]) -> float:
    """Tokens a second of rows that have such a text; 0 where none has."""
    tokens, seconds = 0, 0.0
    for manifest in manifests:
        for i in range(0, len(manifest), max(1, len(manifest) // SAMPLE)):
            text = manifest.text(column, i)
            if text:
                tokens += count(text)
                seconds += seconds_of(manifest, i)
    return tokens / seconds if seconds else 0.0
