"""A plain model of stage 2 as a folder that transformers loads."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.huggingface.export import model_config, processor_of, write_folder


def write_model(model: Any, options: Mapping[str, Any], folder: Path, **more: Any) -> Path:
    """`options` are those of the model (`SpeechLLMConfig`); `more` goes to `write_folder`."""
    encoder, llm, qformer = model.speech_encoder, model.llm, model.adapter.qformer.config
    processor = processor_of(encoder, copy.deepcopy(llm.tokenizer), qformer, PromptTemplates.load(), model.answer)
    tensors = {name: value for name, value in model.state_dict().items() if name.startswith("adapter.")}
    config = model_config(encoder, llm, qformer, options, model.identity, processor.audio_token_id)
    write_folder(folder, config, processor, tensors, llm.end_tokens, "# A model\n", **more)
    return folder
