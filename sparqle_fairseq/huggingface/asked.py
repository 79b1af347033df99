"""An exported folder as the plugin's own search asks it: the same prompts, limits, stops and draws as a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sparqle_fairseq.data.instructions import InstructionSide
from sparqle_fairseq.data.text import TextDictionary
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.errors import SparqleError, reason, sentence_of
from sparqle_fairseq.files import read_json
from sparqle_fairseq.generate.asking import (
    PromptRoom,
    bind_dictionary,
    instruction_side,
    make_generator,
    prompt_room,
)
from sparqle_fairseq.generate.generator import HypothesisGenerator
from sparqle_fairseq.generate.options import DecodingOptions
from sparqle_fairseq.generate.stopping import StopTexts, as_typed, stop_texts
from sparqle_fairseq.huggingface.folder import TRAINING, find_folder
from sparqle_fairseq.huggingface.modeling import SparqleForConditionalGeneration
from sparqle_fairseq.huggingface.processing import SparqleProcessor
from sparqle_fairseq.models.encoders import SpeechEncoder, parse_layer
from sparqle_fairseq.models.llm.files import without_progress_bar
from sparqle_fairseq.models.llm.llm import LanguageModel, text_codec
from sparqle_fairseq.models.stage2.model import SpeechLLM

logger = logging.getLogger(__name__)

SEED = 1  # fairseq's


class ExportedTask:
    """Asks the model of a folder; what `tasks.finetune.FinetuneTask` is to a checkpoint."""

    def __init__(self, model: SpeechLLM, templates: PromptTemplates, seed: int = SEED) -> None:
        self.model, self.templates, self.seed = model, templates, seed
        self.target_dictionary = TextDictionary()
        bind_dictionary(self.target_dictionary, model)

    def text_side(self) -> InstructionSide:
        return instruction_side(self.model, self.templates)

    def room_check(self) -> PromptRoom | None:
        return prompt_room(self.model)

    def stopping(self, model: SpeechLLM, option: str) -> StopTexts | None:
        """What ends an answer before its end token: the texts of `--stop` and of the templates. None where none."""
        texts = [*stop_texts(option), *self.templates.stop]
        return StopTexts(texts, *text_codec(model.llm.tokenizer)) if texts else None

    def build_generator(
        self, models: Sequence[Any], args: Any, *, decoding: DecodingOptions | None = None, seed: int | None = None
    ) -> HypothesisGenerator:
        decoding = decoding or DecodingOptions()
        stop = self.stopping(models[0], decoding.stop)
        seed = self.seed if seed is None else seed
        return make_generator(models[0], self.target_dictionary, args, decoding, seed, stop)


class Exported(NamedTuple):
    """A folder's model and how it is asked; what `tasks.loading.Trained` is of a checkpoint."""

    task: ExportedTask
    model: SpeechLLM
    training: Mapping[str, Any]  # options of fairseq-train by section; empty where the folder does not say
    device: torch.device

    @property
    def spoken(self) -> str:
        return str(self.training.get("task", {}).get("src_lang") or "en")

    @property
    def parts(self) -> tuple[str, str]:
        return str(self.model.identity["speech encoder"]["path"]), str(self.model.identity["LLM"]["path"])

    def text_side(self) -> InstructionSide:
        return self.task.text_side()

    @property
    def stops(self) -> list[str]:
        """What its training's `--stop` named, as typed."""
        return as_typed(self.training.get("task", {}).get("stop"))

    def use_templates(self, path: str) -> None:
        self.task.templates = PromptTemplates.load(path)


def load_exported(
    place: str,
    *,
    speech_encoder: str | None = None,
    llm: str | None = None,
    without_lora: bool = False,
    cpu: bool = False,
) -> Exported:
    """The model of a folder or hub id, in eval mode, on the GPU where there is one.

    Args:
        place: as `sparqle export-hf` or `save_pretrained` wrote it.
        speech_encoder, llm: where the two lie now, if they are not in the folder and have moved.
        without_lora: run the LLM without the LoRA that was trained.
        cpu: stay on the CPU.

    Raises:
        SparqleError: it is no SparQLe model, is damaged, or its encoder or LLM is missing or another one.
    """
    folder = find_folder(place, {})
    try:
        with without_progress_bar():
            found = SparqleForConditionalGeneration.from_pretrained(folder, speech_encoder=speech_encoder, llm=llm)
        processor = SparqleProcessor.from_pretrained(folder)
    except Exception as error:  # transformers raises many kinds on a folder that is damaged
        sentence = sentence_of(error)
        if sentence is not None:
            raise SparqleError(sentence) from error
        raise SparqleError(
            f"{place} cannot be read as a SparQLe model ({reason(error)}); copy, download or export it again"
        ) from error
    model = plain_model(found, processor.tokenizer, place)
    if without_lora:
        if model.adapter.lora is None:
            raise SparqleError(f"{place} was trained without LoRA; leave --without-lora out")
        model.adapter.lora.enabled = False
    device = torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")
    training = _training(folder)
    bits = training.get("model", {}).get("llm_quantization") or "none"
    if bits != "none":
        logger.warning(
            "%s was trained beside an LLM in %s, which runs in %s here; its texts may differ from its checkpoint's",
            place,
            bits,
            str(model.llm.frozen.dtype).removeprefix("torch."),
        )
    seed = int(training.get("common", {}).get("seed") or SEED)
    templates = replace(processor.templates, stop=tuple(found.generation_config.stop_strings or ()))
    return Exported(ExportedTask(model, templates, seed), model.to(device).eval(), training, device)


def plain_model(model: SparqleForConditionalGeneration, tokenizer: Any, name: str) -> SpeechLLM:
    """The plugin's model over the same modules, each part in the precision that it was trained beside.

    Args:
        model: with its weights.
        tokenizer: of the LLM.
        name: of the model, for messages where encoder and LLM lie inside of it.
    """
    config: Any = model.config
    identity = {part: dict(values) for part, values in (config.identity or {}).items()}
    own, of_llm = identity.get("speech encoder", {}), identity.get("LLM", {})
    network = model.speech_encoder
    if not hasattr(network, "fingerprint"):
        network.fingerprint = str(own.get("fingerprint", ""))
    encoder = SpeechEncoder(
        network,
        path=config.speech_encoder or str(own.get("path", name)),
        layer=parse_layer(config.encoder_layer),
        dtype=_dtype(own.get("dtype"), torch.float32),
    )
    stored = next(model.language_model.parameters()).dtype
    llm = LanguageModel(
        model.language_model,
        tokenizer,
        config.llm or str(of_llm.get("path", name)),
        _dtype(of_llm.get("dtype"), stored),
    )
    ends = model.generation_config.eos_token_id
    llm.ends = sorted({llm.end, *([ends] if isinstance(ends, int) else ends or ())})
    made = SpeechLLM(encoder, model.adapter.float(), llm)
    made.answer = config.adapter_config.answer
    return made


def _dtype(name: Any, default: torch.dtype) -> torch.dtype:
    found = getattr(torch, str(name).removeprefix("torch."), None) if name else None
    return found if isinstance(found, torch.dtype) else default


def _training(folder: Path) -> Mapping[str, Any]:
    """The options of fairseq-train that `export-hf` wrote down. Raises `SparqleError`."""
    record = folder / TRAINING
    if not record.is_file():
        return {}  # it was saved by transformers
    content = read_json(record, "record of its training")
    if not isinstance(content, Mapping) or not isinstance(content.get("cfg"), Mapping):
        raise SparqleError(f"{record} is not what export-hf writes; export the model again, or remove this file")
    return content["cfg"]
