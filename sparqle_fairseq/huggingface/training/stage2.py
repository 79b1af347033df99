"""Stage 2 with transformers: `SparqleForConditionalGeneration` learns to answer."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparqle_fairseq.data.instructions import InstructionSide
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import write_text
from sparqle_fairseq.generate.asking import instruction_side, prompt_room
from sparqle_fairseq.huggingface.card import model_card
from sparqle_fairseq.huggingface.export import generation_config, model_config, processor_of
from sparqle_fairseq.huggingface.modeling import SparqleForConditionalGeneration
from sparqle_fairseq.huggingface.processing import NO_LABEL
from sparqle_fairseq.huggingface.training.arguments import Run
from sparqle_fairseq.huggingface.training.collate import PromptCollator, RowsAndInputs
from sparqle_fairseq.huggingface.training.data import read_manifests, speech_dataset
from sparqle_fairseq.huggingface.training.stage1 import refuse_encoder_tuning
from sparqle_fairseq.models.encoders.stored_features import settle_encoder
from sparqle_fairseq.models.stage1.weighted import Weighted
from sparqle_fairseq.models.stage2.batch import Lessons, Stage2Batch
from sparqle_fairseq.models.stage2.model import SpeechLLM
from sparqle_fairseq.models.stage2.objectives import parse_objective, reads_candidates, reads_transcripts
from sparqle_fairseq.models.stage2.start import take_adapter_options
from sparqle_fairseq.models.stage2.weighted import joined_loss, logged

logger = logging.getLogger(__name__)


class Stage2:
    """See `Stage`. Its weights start as those of fairseq-train with the same options and seed."""

    answers = True

    def __init__(self, run: Run) -> None:
        options, data, seed = copy.copy(run.model), run.data, run.training.seed
        manifests = {
            name: read_manifests(data, name, "tgt_text")
            for name in [data.train_subset, *(data.valid_subset.split(",") if data.valid_subset else ())]
        }
        if reads_candidates(parse_objective(options.objective)):
            raise SparqleError(
                f"objective {options.objective} searches for answers in each step, which this trainer does not; train "
                "with fairseq-train"
            )
        plain = build_speech_llm(options, str(data.data), seed)
        if reads_transcripts(plain.objective) and (run.training.fsdp or run.training.deepspeed):
            raise SparqleError(
                f"objective {options.objective} runs the LLM a second time, of which fsdp and deepspeed know nothing; "
                "leave them out, or take fairseq-train with --llm-sharding"
            )
        encoder: Any = plain.speech_encoder
        llm = plain.llm
        templates = PromptTemplates.load(data.prompt_templates)
        shape = plain.adapter.reader.config
        self.processor = processor_of(encoder, copy.deepcopy(llm.tokenizer), shape, templates, options.answer)
        config = model_config(encoder, llm, shape, asdict(options), plain.identity, self.processor.audio_token_id)
        self.model = SparqleForConditionalGeneration(config, encoder.frozen.module, llm.model, plain.adapter)
        self.model.generation_config = generation_config(self.processor, llm.end_tokens, templates.stop)
        builder = templates.builder(llm.tokenizer)
        for sentence in templates.partings(builder):
            logger.warning("%s", sentence)

        def side(seed: int | None) -> InstructionSide:
            made = instruction_side(plain, templates, seed)
            made.reading_room = llm.context if reads_transcripts(plain.objective) else None
            return made

        sets = {
            name: speech_dataset(
                data,
                found,
                side(seed if name == data.train_subset else None),
                encoder,
                seed=seed,
                training=name == data.train_subset,
                check=prompt_room(plain),
            )
            for name, found in manifests.items()
        }
        self.train_set = sets[data.train_subset]
        self.valid_sets = {name: sets[name] for name in (data.valid_subset or "").split(",") if name}
        self.run, self.stop = run, templates.stop
        # Its LLM and adapter are those that learn; it knows the objectives.
        self.plain = plain
        for objective in plain.objectives.values():
            objective.settle(run.loss)
        self.masked = plain.adapter.masks is not None
        prompts = PromptCollator(self.processor.audio_token_id, self._places)
        self.collate = RowsAndInputs(self.train_set, prompts)

    def _places(self, source: Tensor) -> int:
        if source.dim() == 1:
            return self.processor.places(len(source))
        return int(self.model.adapter.reader.config.query_count(torch.tensor([len(source)])))

    def loss(self, model: Any, batch: Mapping[str, Any]) -> Weighted:
        """The weighted sum of the objectives, over the answers' tokens, which are counted."""
        inputs = dict(batch["inputs"])
        labels = inputs.pop("labels")
        targets = F.pad(labels, (0, 1), value=NO_LABEL)[:, 1:]  # (B, L): what each column predicts
        first = int((targets != NO_LABEL).any(dim=0).int().argmax())
        columns = torch.arange(first, labels.size(1) - 1, device=labels.device)
        if self.masked:
            inputs["utterance"] = batch["utterance"]
        targets = targets[:, columns]
        padding_mask = targets == NO_LABEL
        answer = targets.masked_fill(padding_mask, self.plain.llm.pad)
        lessons = Lessons(batch.get("reading"), batch.get("reading_padding_mask"))
        heard = Stage2Batch(
            self.plain, answer, padding_mask, lessons, lambda: model(**inputs, logits_to_keep=columns).logits
        )
        sums = self.plain.lessons_learned(heard)
        found = joined_loss(sums, self.plain.objective, batch["nsentences"], batch["ntokens"])
        if batch["active"]:
            return found
        return Weighted(found.loss * 0, 0, {name: value * 0 for name, value in found.log.items()})

    def metrics(self, log: Mapping[str, float]) -> dict[str, float]:
        return {entry.name: entry.value for entry in logged([log])}

    def texts(self, batch: Mapping[str, Any]) -> list[str]:
        inputs = dict(batch["inputs"])
        start = int((inputs.pop("labels") != NO_LABEL).any(dim=0).int().argmax())
        for name in ("input_ids", "attention_mask"):
            inputs[name] = inputs[name][:, :start]
        found = self.model.generate(
            **inputs,
            max_new_tokens=self.run.data.eval_max_new_tokens,
            num_beams=self.run.data.eval_generate_beam,
            do_sample=False,
            tokenizer=self.processor.tokenizer if self.stop else None,
        )
        return self.processor.batch_decode(found[:, start:])

    def save(self, folder: str) -> None:
        self.processor.save_pretrained(folder)

    def finish(self, folder: str, scores: Mapping[str, float]) -> None:
        """The model's card."""
        data, training = self.run.data, self.run.training
        said = {
            "task": {"src_lang": data.src_lang, "tgt_lang": data.tgt_lang},
            "dataset": {"train_subset": data.train_subset},
            "optimization": {"max_update": training.max_steps if training.max_steps > 0 else None},
        }
        rows = "\n".join(f"| {name.removeprefix('eval_')} | {value:.2f} |" for name, value in scores.items())
        table = f"Of validation ({data.valid_subset}), not of a test set.\n\n| | |\n|---|---|\n{rows}" if rows else None
        config: Any = self.model.config
        write_text(Path(folder) / "README.md", model_card(Path(folder).name, config, said, table, None))


def build_speech_llm(options: Any, folder: str, seed: int) -> SpeechLLM:
    """The plain model that training starts from; `options` are completed in place.

    Raises:
        SparqleError: the options do not go together, something that they name cannot be read, or transformers could not
            have the encoder.
    """
    refuse_encoder_tuning(options)
    if options.source == "units":
        raise SparqleError("a model of units is no model of transformers; train it with fairseq-train")
    if options.llm_sharding != "none":
        raise SparqleError(
            f"llm_sharding {options.llm_sharding} is fairseq-train's way to divide the LLM; here give accelerate's fsdp"
        )
    if options.pretrained_adapter:
        take_adapter_options(options)
        refuse_encoder_tuning(options)
    settle_encoder(options, [folder], check=not options.pretrained_adapter)
    # The encoder itself also where features are read: the model that is written is to hear recordings.
    plain = SpeechLLM.build(options, seed=seed, training=True)
    encoder: Any = plain.speech_encoder
    if not str(encoder.identity["kind"]).startswith("hf_"):
        raise SparqleError(
            f"the speech encoder {encoder.identity['path']} is not of Hugging Face, and transformers cannot read it; "
            "convert it with sparqle convert-hubert, and give the folder as speech_encoder"
        )
    return plain
