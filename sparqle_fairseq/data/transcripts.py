"""Text side of stage 1: transcripts as token ids, with the keys that tell equal ones apart from different ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sparqle_fairseq.data.dataset import pad_ids
from sparqle_fairseq.data.manifest import ManifestError, ManifestRow
from sparqle_fairseq.data.text import TranscriptTokenizer
from sparqle_fairseq.keyed_random import text_key

# Padding of LLM token ids; no token has a negative id.
NO_TOKEN = -1


class TranscriptSide:
    """Encodes `src_text` with [CLS] and [SEP]; identity = equal transcripts.

    With `llm_tokenizer` also in the LLM's tokens, without any special one; with `pairs` also the `tgt_text` of
    translation rows, in the same tokens.
    """

    def __init__(
        self, tokenizer: TranscriptTokenizer, max_tokens: int, llm_tokenizer: Any = None, pairs: bool = False
    ) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.llm_tokenizer = llm_tokenizer
        self.pairs = pairs
        self.prefix = ""  # what the answers of rows without a prefix of their own begin with, in generation

    def scored(self, row: ManifestRow) -> dict[str, str | None]:
        return {"reference": row.src_text, "language": row.src_lang}

    def item(self, row: ManifestRow, where: str, epoch: int) -> dict[str, Any]:
        text = row.src_text or ""  # training requires one; generation does not
        tokens = self._encode(text, "transcript", where)
        prefix = row.prefix or self.prefix
        item = {
            "prefix": self.tokenizer.encode(prefix)[1:-1] if prefix else [],
            "text": tokens,
            **self.scored(row),
            "identity": text_key(text),
            "utterance": text_key(row.id),
        }
        if self.llm_tokenizer is not None:
            item["llm_text"] = self.llm_tokenizer.encode(text, add_special_tokens=False)
        if self.pairs:
            translation = row.tgt_text if row.task == "translation" else None
            item["foreign"] = self._encode(translation, "translation", where) if translation else None
        return item

    def _encode(self, text: str, what: str, where: str) -> list[int]:
        tokens = self.tokenizer.encode(text)
        if len(tokens) > self.max_tokens:
            raise ManifestError(
                f"{where}: found a {what} of {len(tokens)} tokens, but the Q-Former has {self.max_tokens} text "
                "positions; split the utterance or raise --max-text-positions"
            )
        return tokens

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        tokens, padding_mask = pad_ids([item["text"] for item in items], self.tokenizer.pad)
        lengths = {"text_lengths": [len(item["text"]) for item in items]}
        net_input = {
            "text": tokens,
            "text_padding_mask": padding_mask,
            "identity": torch.tensor([item["identity"] for item in items]),
            "utterance": torch.tensor([item["utterance"] for item in items]),
        }
        if self.llm_tokenizer is not None:
            net_input["llm_text"], _ = pad_ids([item["llm_text"] for item in items], NO_TOKEN)
            lengths["llm_text_lengths"] = [len(item["llm_text"]) for item in items]
        if self.pairs:
            rows = [i for i, item in enumerate(items) if item["foreign"]]
            # Without any pair there is one row of padding, which `foreign_rows` does not name.
            foreign = pad_ids([items[i]["foreign"] for i in rows] or [[]], self.tokenizer.pad)
            net_input["foreign_text"], net_input["foreign_padding_mask"] = foreign
            net_input["foreign_rows"] = torch.tensor(rows, dtype=torch.long)
        return {
            "net_input": net_input,
            **lengths,
            # Of a row without a transcript, its end alone.
            "target": tokens[:, 1:] if any(item["reference"] is not None for item in items) else None,
            "reference": [item["reference"] for item in items],
            "language": [item["language"] for item in items],
            "prefix": [item["prefix"] for item in items],
            "ntokens": int((~padding_mask[:, 1:]).sum()),
        }
