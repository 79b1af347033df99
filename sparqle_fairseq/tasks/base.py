"""What the tasks of both stages share: manifests into datasets, the generator, scores of generated text."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fairseq.tasks import FairseqTask
from fairseq.utils import split_paths

from sparqle_fairseq.criterions.means import on_cpu
from sparqle_fairseq.data.augment import SpeedPerturbation
from sparqle_fairseq.data.dataset import RoomCheck, TextSide
from sparqle_fairseq.data.manifest import Manifest, ManifestRow, read_manifest
from sparqle_fairseq.data.options import plain_options, take_back
from sparqle_fairseq.data.sampling import Sampler, SamplingOptions
from sparqle_fairseq.data.text import Reference, TextDictionary
from sparqle_fairseq.data.units import UnitFile, read_units
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.fairseq_fixes import early_stopping
from sparqle_fairseq.fairseq_fixes.out_of_memory import OutOfMemoryGuard
from sparqle_fairseq.generate.asking import make_generator
from sparqle_fairseq.generate.attention import check_can_look, reading_rate
from sparqle_fairseq.generate.generator import HypothesisGenerator
from sparqle_fairseq.generate.options import DecodingOptions, SearchOptions, decoding_options
from sparqle_fairseq.generate.stopping import StopTexts, as_option, as_typed, stop_texts
from sparqle_fairseq.models.config import AdapterConfig
from sparqle_fairseq.models.encoders.stored_features import check_sources, settle_encoder
from sparqle_fairseq.models.encoders.unit_embedding import UnitEmbedding
from sparqle_fairseq.scoring.languages import choose_tokenizers, load_tokenizer
from sparqle_fairseq.scoring.running import TextScores
from sparqle_fairseq.tasks.dataset import FairseqSpeechDataset
from sparqle_fairseq.tasks.encoder_rate import EncoderRate
from sparqle_fairseq.tasks.old_options import fill_new_options
from sparqle_fairseq.tasks.scores import build_scorer, log_text_scores
from sparqle_fairseq.tasks.tensorboard import SampleBoard
from sparqle_fairseq.tasks.validation import check_best_metric, check_options, settle_direction

logger = logging.getLogger(__name__)

NAMED_IN_LOG = 10


class Several(argparse.Action):
    """Keeps each of the texts that an option is given with, as one value."""

    def __call__(self, parser: Any, given: Any, value: Any, name: str | None = None) -> None:
        before = as_typed(getattr(given, self.dest))
        setattr(given, self.dest, as_option(dict.fromkeys([*before, value])))


def _help_of(name: str) -> str:
    return next(option.metadata["help"] for option in fields(DecodingOptions) if option.name == name)


class SpeechTask(FairseqTask):
    """A fairseq task over speech manifests. The model, built first, tells what its data must look like."""

    cfg: Any
    # Manifest column without which a row is of no use to training.
    needed_column: str
    # Plain options of the stage's model.
    model_options: type[AdapterConfig]
    # Half-precision training leaves waveforms and features as they were read; see `fairseq_fixes.waveforms`.
    whole_source = True

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.dictionary = TextDictionary()
        self.dictionary.build_scorer = partial(build_scorer, tokenizer=cfg.bleu_tokenizer)
        if cfg.bleu_tokenizer is not None:
            load_tokenizer(cfg.bleu_tokenizer)  # says at once that there is none of that name
        self._references_seen = False
        self.building_from_checkpoint = False
        self.model: Any = None
        self._validation_generator: HypothesisGenerator | None = None
        self._board: SampleBoard | None = None
        self._shown: set[tuple[str, ...]] = set()  # manifests whose sampling is in the log
        self._memory = OutOfMemoryGuard()
        self._best_metric = "loss"
        self._encoder_rate: EncoderRate | None = None
        self.stops_of_templates: Sequence[str] = ()  # known when `text_side` was made

    @classmethod
    def add_args(cls, parser: Any) -> None:
        """fairseq's options of the task's dataclass; --stop may come more than once."""
        parser.add_argument("--stop", action=Several, default="", metavar="TEXT", help=_help_of("stop"))
        super().add_args(parser)  # passes over what is there

    @classmethod
    def setup_task(cls, cfg: Any, **_: Any) -> SpeechTask:
        if not cfg.data:
            raise SparqleError("no data folder was given; name the folder that holds the manifests")
        return cls(cfg)

    # ---- for a stage to define

    def settle(self, options: Any, from_checkpoint: bool) -> None:
        """Complete a model's plain options, in place, by what the run's data and files say."""
        settle_encoder(options, split_paths(self.cfg.data), check=not from_checkpoint)

    def bind_dictionary(self, model: Any) -> None:
        """Fill in the target dictionary from the model's tokenizer."""
        raise NotImplementedError

    def text_side(self, training: bool, saved: Any) -> TextSide:
        """The stage's side of the text; `saved` are the task options of the checkpoint in use, or None."""
        raise NotImplementedError

    def text_codec(self, model: Any) -> tuple[Callable[[list[int]], str], Callable[[str], list[int]]]:
        """The model's tokenizer: text of ids, special tokens and all, and ids of a text, without special tokens."""
        raise NotImplementedError

    def room_check(self) -> RoomCheck | None:
        """What looks at each utterance with its text, where a stage can run out of room for the two."""
        return None

    # ---- models

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        self.building_from_checkpoint = from_checkpoint
        if from_checkpoint:
            fill_new_options(cfg, self.model_options)
        # Here, and not in the model: fairseq gives the model a copy, and saves these options in the checkpoint.
        options = plain_options(self.model_options, cfg)
        self.settle(options, from_checkpoint)
        take_back(cfg, options)
        model = super().build_model(cfg, from_checkpoint)
        self.model = model
        self._validation_generator = None
        if options.encoder_lr is not None:
            self._encoder_rate = EncoderRate(model.adapter.encoder_tuning.parameters(), options.encoder_lr)
        self.bind_dictionary(model)
        if self.cfg.eval_generate:
            model.step_decoder()  # says at once that a model cannot write text, and not at the first validation
        if self.cfg.visualize_interval and not from_checkpoint:
            check_can_look(model)
            self._board = SampleBoard(self.cfg.tensorboard_logdir, self.cfg.visualize_samples)
        return model

    @property
    def target_dictionary(self) -> TextDictionary:
        return self.dictionary

    @property
    def source_dictionary(self) -> None:
        return None

    # ---- data

    def load_dataset(
        self,
        split: str,
        epoch: int = 1,
        combine: bool = False,
        task_cfg: Any = None,
        **_: Any,
    ) -> None:
        """Read the manifests of `split`; 'a,b' is both, one after the other.

        fairseq gives `task_cfg`, the options of the checkpoint in use, where it generates: references are optional.
        """
        if self.model is None:
            raise SparqleError("the model must be built before the data is loaded")
        training = split == self.cfg.train_subset and task_cfg is None
        folders = split_paths(self.cfg.data)
        folder = folders[(epoch - 1) % len(folders)] if training else folders[0]
        manifests = [
            read_manifest(
                self._manifest_path(folder, name),
                audio_root=self.cfg.audio_root,
                src_lang=self.cfg.src_lang,
                tgt_lang=self.cfg.tgt_lang,
                row_task=self.cfg.row_task,
                require=() if task_cfg is not None else (self.needed_column,),
            )
            for name in split.split(",")
        ]
        encoder = self.model.speech_encoder
        side = self.text_side(training, task_cfg)
        side.prefix = decoding_options(self.cfg).prefix
        units = self._read_units(manifests)
        if units is None:
            for manifest in manifests:
                check_sources(manifest, encoder)
        self.datasets[split] = FairseqSpeechDataset(
            manifests,
            side,
            normalize=encoder.normalize,
            sample_rate=encoder.sample_rate,
            shuffle=training,
            skip_bad_audio=self.cfg.skip_bad_audio,
            strict_audio=not self.cfg.no_strict_audio,
            feature_width=encoder.width,
            units=units,
            speeds=self._speeds() if training else None,
            check=self.room_check(),
            min_samples=encoder.min_samples,
            sampler=self._sampler(manifests) if training else None,
            shards=len(folders) if training else 1,
        )
        logger.info("%s: %d utterances from %s", split, len(self.datasets[split]), folder)
        if self.cfg.eval_generate and not training and self.cfg.bleu_tokenizer is None:
            codes = [code for manifest in manifests for (code,) in manifest.distinct(("tgt_lang",))[1]]
            for note in choose_tokenizers([""] * len(codes), codes).notes:
                logger.info("%s: %s", split, note)

    def _read_units(self, manifests: Sequence[Manifest]) -> list[UnitFile] | None:
        """The units of the manifests where the model reads units, else None."""
        encoder = self.model.speech_encoder
        if not isinstance(encoder, UnitEmbedding):
            if self.cfg.source == "units":
                raise SparqleError("--source units, but the model was trained on audio; leave --source out")
            return None
        return [
            read_units(manifest.path, len(manifest), encoder.vocabulary, encoder.collapsed) for manifest in manifests
        ]

    def _speeds(self) -> SpeedPerturbation | None:
        return SpeedPerturbation.parse(self.cfg.speed_perturb, int(self.cfg.seed)) if self.cfg.speed_perturb else None

    def _sampler(self, manifests: Sequence[Manifest]) -> Sampler | None:
        """What draws the rows of an epoch, None where each comes once; logged once for each set of manifests."""
        cfg = self.cfg
        options = SamplingOptions.parse(cfg.sampling_temperature, cfg.sampling_by, cfg.task_ratio)
        if options is None:
            return None
        sampler = Sampler(manifests, options, int(cfg.seed))
        paths = tuple(manifest.path for manifest in manifests)
        if paths not in self._shown:
            self._shown.add(paths)
            logger.info("rows of an epoch:\n%s", "\n".join(sampler.table()))
        return sampler

    @staticmethod
    def _manifest_path(folder: str, split: str) -> str:
        path = os.path.join(folder, f"{split}.tsv")
        if not os.path.exists(path):
            there = sorted(file.stem for file in Path(folder).glob("*.tsv"))
            raise SparqleError(
                f"{path}: there is no such manifest; {folder} holds {', '.join(there) if there else 'no .tsv file'}"
            )
        return path

    def max_positions(self) -> int | None:
        return self.cfg.max_source_positions

    def filter_indices_by_size(
        self,
        indices: np.ndarray,
        dataset: FairseqSpeechDataset,
        max_positions: Any = None,
        ignore_invalid_inputs: bool = False,
    ) -> np.ndarray:
        """Leave out what is too long, and say what; without `ignore_invalid_inputs` stop instead."""
        if max_positions is None:
            return indices
        kept, ignored = dataset.filter_indices_by_size(indices, max_positions)
        if len(ignored):
            ignored = list(dict.fromkeys(ignored))  # a sampler may draw a row more than once
            names = ", ".join(dataset.where(index) for index in ignored[:NAMED_IN_LOG])
            # The trainer's limit is the smaller one of the two.
            limits = f"--max-source-positions {self.cfg.max_source_positions} or --max-tokens"
            found = f"{len(ignored)} utterances are longer than {max_positions} ({limits}): {names}"
            found += ", …" if len(ignored) > NAMED_IN_LOG else ""
            if not ignore_invalid_inputs:
                raise SparqleError(
                    f"{found}; raise the limit, or leave them out with --skip-invalid-size-inputs-valid-test"
                )
            if not len(kept):
                raise SparqleError(f"none is left: {found}; raise the limit")
            logger.warning("left out: %s", found)
        return kept

    def get_batch_iterator(self, dataset: FairseqSpeechDataset, *args: Any, **kwargs: Any) -> Any:
        """fairseq's iterator; in training, with loader processes that end with their epoch.

        Batches are composed anew in each epoch, so each epoch has an iterator of its own. fairseq's persistent loader
        processes would outlive it, one more set with every epoch, and would draw prompts for the epoch they began in.
        """
        iterator = super().get_batch_iterator(dataset, *args, **kwargs)
        if not dataset.can_reuse_epoch_itr_across_epochs:
            iterator.persistent_workers = False
        return iterator

    # ---- training

    @property
    def batches_may_be_empty(self) -> bool:
        return bool(self.cfg.skip_bad_audio)

    def stand_in(self, sample: dict[str, Any]) -> dict[str, Any]:
        """What a process without data runs on while others have some; nothing of it is counted."""
        return sample

    def before_training(self, trainer: Any) -> None:
        """Look at the whole command; see `fairseq_fixes.before_training`. Raises `SparqleError`."""
        check_options(trainer.cfg)
        self._best_metric = trainer.cfg.checkpoint.best_checkpoint_metric
        settle_direction(trainer.cfg)
        if self.cfg.eval_generate:
            self._generator_of_validation(trainer.get_model())  # refuses decoding options that cannot be
        check_best_metric(trainer)

    def absent_counts(self, rows: Sequence[ManifestRow]) -> list[str]:
        """What the names of the criterion's counts begin with that are 0 for these rows, whatever the model does."""
        return []

    def steps_alone(self) -> bool:
        """Whether a forward and backward pass runs without a word to the other processes."""
        return False

    def train_step(
        self,
        sample: dict[str, Any],
        model: Any,
        criterion: Any,
        optimizer: Any,
        update_num: int,
        ignore_grad: bool = False,
    ) -> Any:
        def usual() -> Any:
            loss, size, log = super(SpeechTask, self).train_step(
                sample, model, criterion, optimizer, update_num, ignore_grad
            )
            if ignore_grad:  # a stand-in counts nothing, also among the batches of --update-freq
                size, log = size * 0, {name: value * 0 for name, value in log.items()}
            return loss, size, log

        return self._memory.step(usual, model, optimizer, update_num, self.steps_alone())

    # ---- checkpoints

    def get_checkpoint_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the run beside model and optimizer; fairseq gives it back when it resumes."""
        return {type(self).__name__: {"patience": early_stopping.state(), "best_metric": self._best_metric}}

    def set_checkpoint_dict(self, kept: dict[str, Any]) -> None:
        before = kept.get("best_metric", self._best_metric)  # older checkpoints do not say
        if before == self._best_metric:
            early_stopping.restore(kept.get("patience", {}))
            return
        logger.warning(
            "up to now the best checkpoint was chosen by %s, from now on by %s: the next validation's is the first",
            before,
            self._best_metric,
        )
        early_stopping.forget()

    # ---- generation

    def build_generator(
        self,
        models: Sequence[Any],
        args: Any,
        extra_gen_cls_kwargs: Any = None,
        decoding: DecodingOptions | None = None,
        seed: int | None = None,
        **_: Any,
    ) -> HypothesisGenerator:
        """A generator by fairseq's options `args`, by `decoding` and a `seed` of draws, by default the task's."""
        decoding = decoding or decoding_options(self.cfg)
        stop = self.stopping(models[0], decoding.stop)
        if getattr(args, "print_alignment", None):
            logger.info("A- lines: frames of %g seconds and tokens, both from 0", 1 / reading_rate(models[0]))
        return make_generator(
            models[0], self.dictionary, args, decoding, int(self.cfg.seed) if seed is None else seed, stop
        )

    def stopping(self, model: Any, option: str) -> StopTexts | None:
        """What ends an answer before its end token: the texts of --stop and of the template file. None where none."""
        texts = [*stop_texts(option), *self.stops_of_templates]
        return StopTexts(texts, *self.text_codec(model)) if texts else None

    def inference_step(
        self, generator: HypothesisGenerator, models: Sequence[Any], sample: dict[str, Any], **kwargs: Any
    ) -> list[list[dict[str, Any]]]:
        references = sample["reference"]
        missing = [i for i, text in enumerate(references) if not (text or "").strip()]
        if generator.score_reference and missing:
            where = f"row {int(sample['id'][missing[0]])} of it (from 0)"
            raise SparqleError(
                f"--score-reference scores the manifest's texts, and {where} has none; write it, or leave the row out"
            )
        found = generator.generate(models, sample, **kwargs)
        for hypothesis in (hypothesis for hypotheses in found for hypothesis in hypotheses):
            hypothesis["steps"] = generator.remarks(hypothesis)
        self._set_printed_references(sample)
        return found

    def _set_printed_references(self, sample: dict[str, Any]) -> None:
        """Put stand-ins of the references in the place of a batch's target, which fairseq-generate prints and scores.

        It finds the text of a row by its target. Rows without a reference have an empty one; of a batch of only such
        rows fairseq would print no T- line, and after the last batch no score of all.
        """
        self._references_seen |= any(text is not None for text in sample["reference"])
        sample["target"] = None
        if self._references_seen:
            pairs = zip(sample["reference"], sample["language"], strict=True)
            sample["target"] = self.dictionary.remember([Reference((text or "").strip(), code) for text, code in pairs])

    def optimizer_step(self, optimizer: Any, model: Any, update_num: int) -> None:
        if self._encoder_rate is None:
            super().optimizer_step(optimizer, model, update_num)
        else:
            self._encoder_rate.step(optimizer, optimizer.step)
        update = update_num + 1
        if self._board is not None and update % self.cfg.visualize_interval == 0:
            valid = self.cfg.valid_subset.split(",")[0]
            split = valid if valid in self.datasets else self.cfg.train_subset  # with --disable-validation
            self._board.write(self, self.model, split, update)

    def valid_step(self, sample: dict[str, Any], model: Any, criterion: Any) -> tuple[Any, Any, dict[str, Any]]:
        loss, sample_size, log = super().valid_step(sample, model, criterion)
        if self.cfg.eval_generate:
            generator = self._generator_of_validation(model)
            best = [hypotheses[0]["tokens"] for hypotheses in generator.generate([model], sample)]
            texts = [self.dictionary.text(tokens) for tokens in best]
            log |= self.text_scores(texts, sample).as_log()
        return loss, sample_size, log

    def text_scores(self, texts: Sequence[str], batch: Mapping[str, Any]) -> TextScores:
        """Scores of generated texts, by the `reference`, `language` and `task` of a batch's rows."""
        tasks = batch.get("task") or ["transcription"] * len(texts)
        return TextScores.of(texts, batch["reference"], tasks, batch["language"], self.cfg.bleu_tokenizer)

    def _generator_of_validation(self, model: Any) -> HypothesisGenerator:
        if self._validation_generator is None:
            self._validation_generator = self.build_generator([model], SearchOptions(beam=self.cfg.eval_generate_beam))
        return self._validation_generator

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        if not criterion.training:  # what validation found is compared, so it is wanted as numbers
            logging_outputs = [on_cpu(log) for log in logging_outputs]
        super().reduce_metrics(logging_outputs, criterion)
        if self.cfg.eval_generate:
            log_text_scores(logging_outputs)
