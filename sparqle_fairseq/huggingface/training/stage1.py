"""Stage 1 with transformers: the plain model and whatever objectives are registered."""

from __future__ import annotations

import copy
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from sparqle_fairseq.data.dataset import pad_sources
from sparqle_fairseq.data.manifest import Manifest
from sparqle_fairseq.data.transcripts import TranscriptSide
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import written_whole
from sparqle_fairseq.generate.limits import LengthRule
from sparqle_fairseq.generate.search import SearchSettings, search
from sparqle_fairseq.huggingface.training.arguments import Run
from sparqle_fairseq.huggingface.training.collate import RowsAndInputs
from sparqle_fairseq.huggingface.training.data import read_manifests, speech_dataset
from sparqle_fairseq.models.encoders.stored_features import settle_encoder
from sparqle_fairseq.models.encoders.tuning import tunes
from sparqle_fairseq.models.stage1.model import PretrainModel
from sparqle_fairseq.models.stage1.objectives import kind_of, parse_objective
from sparqle_fairseq.models.stage1.weighted import Weighted, logged, weighted_loss

CHECKPOINT = "checkpoint.pt"


class Stage1:
    """See `Stage`. Its weights start as those of fairseq-train with the same options and seed."""

    answers = False

    def __init__(self, run: Run) -> None:
        options, data, seed = copy.copy(run.model), run.data, run.training.seed
        refuse_encoder_tuning(options)
        if options.source == "units":
            raise SparqleError("a model of units is no model of transformers; train it with fairseq-train")
        readers = [name for name in parse_objective(options.objective) if kind_of(name).reads_translations]
        subsets = [data.train_subset, *(data.valid_subset.split(",") if data.valid_subset else ())]
        manifests = {name: read_manifests(data, name, "src_text") for name in subsets}
        if readers:
            _check_pairs(readers, data.train_subset, manifests[data.train_subset])
        settle_encoder(options, [str(data.data)], check=True)
        self.model = PretrainModel.build(options, folders=[str(data.data)], seed=seed)
        settings = Namespace(**asdict(run.loss), max_update=max(run.training.max_steps, 0))
        for objective in self.model.adapter.objectives.values():
            objective.settle(settings)
        if data.eval_generate:
            self.model.step_decoder()  # says at once that a model cannot write text
        tokenizer = self.model.tokenizer
        side = TranscriptSide(tokenizer, options.max_text_positions, self.model.llm_tokenizer, pairs=bool(readers))
        sets = {
            name: speech_dataset(
                data,
                found,
                side,
                self.model.speech_encoder,
                seed=seed,
                training=name == data.train_subset,
            )
            for name, found in manifests.items()
        }
        self.train_set = sets[data.train_subset]
        self.valid_sets = {name: sets[name] for name in subsets[1:]}
        self.run, self.options = run, options
        self.collate = RowsAndInputs(self.train_set, self._inputs)

    def _inputs(self, items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        source, padding_mask = pad_sources([item["source"] for item in items])
        found: dict[str, Tensor] = self.train_set.text.collate(items)["net_input"]
        return {**found, "source": source, "padding_mask": padding_mask}

    def loss(self, model: Any, batch: Mapping[str, Any]) -> Weighted:
        """The weighted sum of the objectives' losses, each over its own global count."""
        active = bool(batch["active"])
        sums = model(**batch["inputs"], active=active)
        found = weighted_loss(sums, self.model.objective, batch["nsentences"], batch["ntokens"], active)
        return found if active else found._replace(loss=found.loss * 0, log=dict.fromkeys(found.log, 0))

    def metrics(self, log: Mapping[str, float]) -> dict[str, float]:
        return {entry.name: entry.value for entry in logged([log])}

    def texts(self, batch: Mapping[str, Any]) -> list[str]:
        inputs, encoder, tokenizer = batch["inputs"], self.model.speech_encoder, self.model.tokenizer
        data = self.run.data
        rule = LengthRule(0.0, data.eval_max_new_tokens, encoder.frame_rate, encoder.sample_rate / encoder.frame_rate)
        found = search(
            self.model.step_decoder(),
            inputs,
            SearchSettings(beam=data.eval_generate_beam),
            rule.limits([self.model], inputs),
            pad=tokenizer.pad,
            end=tokenizer.end,
            keys=batch["id"],
        )
        return [tokenizer.decode(row[0].tokens) for row in found]

    def save(self, folder: str) -> None:
        """Nothing beside the weights."""

    def finish(self, folder: str, scores: Mapping[str, float]) -> None:
        """What `pretrained_adapter` reads, here and in fairseq-train."""
        state = {"model": self.model.state_dict(), "cfg": {"model": asdict(self.options)}}
        with written_whole(os.path.join(folder, CHECKPOINT)) as file:
            torch.save(state, file)


def refuse_encoder_tuning(options: Any) -> None:
    """Raise `SparqleError` where the encoder is to learn."""
    if tunes(options):
        raise SparqleError(
            "an encoder that learns is trained by fairseq-train; here leave encoder_lora and "
            "unfreeze_encoder_layers out"
        )


def _check_pairs(readers: Sequence[str], subset: str, manifests: Sequence[Manifest]) -> None:
    if not any("tgt_text" in manifest.columns and manifest.is_translation().any() for manifest in manifests):
        raise SparqleError(
            f"objective {'+'.join(readers)} reads transcripts and their translations, and {subset} has no translation "
            "row with tgt_text; leave it out or add such rows"
        )
