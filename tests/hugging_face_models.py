"""A plain model of stage 2 as a folder that transformers loads, and what makes its `generate` comparable."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import LogitsProcessor

from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.huggingface.export import model_config, processor_of, write_folder


class EndsAtTheLimit(LogitsProcessor):
    """The plugin's search ends a text that has reached its limit, at the price that the end has there."""

    def __init__(self, length, end):
        self.length, self.end = length, end

    def __call__(self, input_ids, scores):
        if input_ids.size(1) < self.length:
            return scores
        only = torch.full_like(scores, -torch.inf)
        only[:, self.end] = scores[:, self.end]
        return only


def write_model(model: Any, options: Mapping[str, Any], folder: Path, **more: Any) -> Path:
    """`options` are those of the model (`SpeechLLMConfig`); `more` goes to `write_folder`."""
    encoder, llm, qformer = model.speech_encoder, model.llm, model.adapter.reader.config
    processor = processor_of(encoder, copy.deepcopy(llm.tokenizer), qformer, PromptTemplates.load(), model.answer)
    tensors = {name: value for name, value in model.state_dict().items() if name.startswith("adapter.")}
    config = model_config(encoder, llm, qformer, options, model.identity, processor.audio_token_id)
    write_folder(folder, config, processor, tensors, llm.end_tokens, "# A model\n", **more)
    return folder
