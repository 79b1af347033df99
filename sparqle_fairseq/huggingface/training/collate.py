"""Rows of a dataset into what a model takes.

B utterances, N columns of prompts, L of prompts and answers, S samples, T feature frames of width W.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sparqle_fairseq.data.dataset import SpeechDataset, pad_ids, pad_sources
from sparqle_fairseq.data.instructions import SPEECH_PLACE
from sparqle_fairseq.huggingface.processing import NO_LABEL
from sparqle_fairseq.huggingface.training.batches import STAND_IN


class PromptCollator:
    """Items of a `SpeechDataset` with an `InstructionSide` -> inputs of `SparqleForConditionalGeneration`.

    Prompts are padded at their left and answers at their right, so that all answers begin in one column, as in
    fairseq-train. A batch has `input_ids`, `attention_mask`, `labels` (B, L), which are -100 but at answers, and
    `input_values` (B, S) or `input_features` (B, T, W) with their mask. It goes to any `Trainer`.

    Args:
        audio_token_id: stands for one query of the speech.
        places: how many queries a source (S,) or (T, W) takes.
        pad: id of padding; any will do.
    """

    def __init__(self, audio_token_id: int, places: Callable[[Tensor], int], pad: int = 0) -> None:
        self.audio_token_id, self.places, self.pad = audio_token_id, places, pad

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        prompts = []
        for item in items:
            place = item["prompt"].index(SPEECH_PLACE)
            speech = [self.audio_token_id] * self.places(item["source"])
            prompts.append([*item["prompt"][:place], *speech, *item["prompt"][place + 1 :]])
        ids, padding = pad_ids(prompts, self.pad, left=True)  # (B, N)
        answers, beyond = pad_ids([item["answer"] or [] for item in items], self.pad)
        source, source_padding = pad_sources([item["source"] for item in items])
        kind = "input_values" if source.dim() == 2 else "input_features"
        return {
            "input_ids": torch.cat([ids, answers], dim=1),
            "attention_mask": (~torch.cat([padding, beyond], dim=1)).long(),
            "labels": torch.cat([torch.full_like(ids, NO_LABEL), answers.masked_fill(beyond, NO_LABEL)], dim=1),
            kind: source,
            f"{kind}_mask": (~source_padding).long(),
        }


# Of a text side's batch: what scores know of its rows, and what the LLM reads in the place of the speech.
_OF_ROWS = ("reference", "language", "task", "reading", "reading_padding_mask")


class RowsAndInputs:
    """`inputs` for the model, and of its rows what losses and scores know: `active` and `_OF_ROWS`.

    `inputs` makes the first of the items, `side` is the dataset's side of the text.
    """

    def __init__(self, dataset: SpeechDataset, inputs: Callable[[Sequence[dict[str, Any]]], dict[str, Tensor]]) -> None:
        self.text, self.inputs = dataset.text, inputs

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        rows = self.text.collate(items)
        return {
            "inputs": self.inputs(items),
            "active": not any(item.get(STAND_IN) for item in items),
            "nsentences": len(items),
            "ntokens": rows["ntokens"],
            "id": torch.tensor([item["id"] for item in items]),
            "utterance": rows["net_input"]["utterance"],
            **{name: rows[name] for name in _OF_ROWS if name in rows},
        }
