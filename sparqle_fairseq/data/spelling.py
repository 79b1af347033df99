"""How `llm-ctc` spells a transcript: in the LLM's tokens as the LLM reads them, or in shorter ones."""

from __future__ import annotations

import json
from typing import Any

from sparqle_fairseq.data.text import TokenizerError


class Spelling:
    """Token ids of a text, without special tokens.

    With `merges` the tokenizer's byte-pair merges end after so many, the most frequent ones: words fall into fewer,
    shorter and more frequent tokens, all of them the LLM's. A little speech then has every token often, and a word that
    it does not have is spelled of tokens that it has.

    Raises:
        TokenizerError: `merges` are asked for and the tokenizer has none, or fewer.
    """

    def __init__(self, tokenizer: Any, merges: int = 0, name: str = "the LLM") -> None:
        self._tokenizer = _shortened(tokenizer, merges, name) if merges else tokenizer
        self._short = bool(merges)

    def __call__(self, text: str) -> list[int]:
        found = self._tokenizer.encode(text, add_special_tokens=False)
        return list(found.ids if self._short else found)


def _shortened(tokenizer: Any, merges: int, name: str) -> Any:
    """A `tokenizers.Tokenizer` with the same ids that knows the first merges alone."""
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = {} if backend is None else json.loads(backend.to_str())
    model = content.get("model", {})
    if model.get("type") != "BPE":
        raise TokenizerError(
            f"--llm-ctc-merges: the tokenizer of {name} is {model.get('type', 'not a fast one')} and has no byte-pair "
            "merges; leave the option out"
        )
    if not 0 < merges <= len(model["merges"]):
        raise TokenizerError(f"--llm-ctc-merges {merges} must be 1 to {len(model['merges'])}, the merges of {name}")
    model["merges"] = model["merges"][:merges]
    model["ignore_merges"] = False  # Llama 3 looks whole words up first
    return Tokenizer.from_str(json.dumps(content))
