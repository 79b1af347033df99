"""How a trained model is asked, whatever holds it: its prompts, its dictionary, its room, and the generator over it.

A task of fairseq and a folder of transformers ask through these functions, so that both get the same texts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparqle_fairseq.data.answers import final_text
from sparqle_fairseq.data.instructions import InstructionSide
from sparqle_fairseq.data.manifest import ManifestError
from sparqle_fairseq.data.text import TextDictionary
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.generate.generator import HypothesisGenerator
from sparqle_fairseq.generate.limits import LengthRule
from sparqle_fairseq.generate.options import DecodingOptions, settings_of
from sparqle_fairseq.generate.stopping import StopTexts
from sparqle_fairseq.models.qformer.plain import ReadingConfig
from sparqle_fairseq.models.stage2.model import SpeechLLM


@dataclass(frozen=True)
class PromptRoom:
    """Whether prompt, queries and answer fit into the LLM's context. Numbers only: loader processes get a copy."""

    config: ReadingConfig
    frames_a_sample: float
    context: int

    def __call__(self, item: dict[str, Any], source: Tensor, where: str) -> None:
        frames = math.ceil(len(source) * self.frames_a_sample) if source.dim() == 1 else len(source)
        queries = int(self.config.query_count(torch.tensor([frames])))
        text = len(item["prompt"]) - 1 + len(item["answer"] or [])
        if text + queries > self.context:
            raise ManifestError(
                f"{where}: prompt and answer have {text} tokens and the speech {queries} queries, but the LLM has room "
                f"for {self.context}; split the utterance, or train with longer windows or fewer --queries-per-window"
            )


def prompt_room(model: SpeechLLM) -> PromptRoom | None:
    """What looks at an utterance with its text; None where every one fits that `InstructionSide` lets pass."""
    config, encoder = model.adapter.reader.config, model.speech_encoder
    if not config.window_frames:
        return None  # with windows alone, the speech's share of the LLM's context grows with its length
    return PromptRoom(config, encoder.frame_rate / encoder.sample_rate, model.llm.context)


def instruction_side(model: SpeechLLM, templates: PromptTemplates, sample_seed: int | None = None) -> InstructionSide:
    """The text side of a model's data; `sample_seed` draws wordings, None takes the first one always."""
    llm = model.llm
    return InstructionSide(
        templates.builder(llm.tokenizer),
        templates,
        pad=llm.pad,
        max_tokens=llm.context - model.adapter.reader.config.queries,
        sample_seed=sample_seed,
        style=model.answer,
    )


def bind_dictionary(dictionary: TextDictionary, model: SpeechLLM) -> None:
    """Let the target dictionary print what this model's LLM writes."""
    llm = model.llm
    dictionary.bind(lambda tokens: final_text(llm.decode(tokens), model.answer), llm.vocab_size + 1, llm.pad, llm.end)


def make_generator(
    model: Any,
    dictionary: TextDictionary,
    options: Any,
    decoding: DecodingOptions,
    seed: int,
    stop: StopTexts | None = None,
) -> HypothesisGenerator:
    """The generator over a model of either stage.

    Args:
        model: says how long speech is; of an ensemble, the first one.
        dictionary: bound to the model.
        options: fairseq's, or `SearchOptions`.
        decoding: those beyond fairseq's.
        seed: of draws.
        stop: texts that end an answer.

    Raises:
        SparqleError: an option has no effect here, or cannot be.
    """
    encoder = model.speech_encoder
    return HypothesisGenerator(
        settings_of(options, seed, repetition_penalty=decoding.repetition_penalty),
        LengthRule(
            options.max_len_a,
            options.max_len_b,
            encoder.frame_rate,
            encoder.sample_rate / encoder.frame_rate,
            options.min_len,
            decoding.min_tokens_per_second,
            decoding.max_tokens_per_second,
        ),
        pad=dictionary.pad(),
        end=dictionary.eos(),
        alignment=getattr(options, "print_alignment", None),
        nbest=options.nbest,
        decoding=decoding,
        text_of=dictionary.text,
        score_reference=getattr(options, "score_reference", False),
        stop=stop,
    )
