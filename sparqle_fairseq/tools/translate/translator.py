"""Segments into text: the encoder hears a batch once, and each language is asked of the same features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sparqle_fairseq.data.audio import normalize_waveform
from sparqle_fairseq.data.dataset import pad_sources
from sparqle_fairseq.data.manifest import ManifestRow
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.contrast import UNHEARD
from sparqle_fairseq.generate.generator import HypothesisGenerator
from sparqle_fairseq.generate.limits import Ended
from sparqle_fairseq.generate.options import DecodingOptions, SearchOptions, decoding_options
from sparqle_fairseq.models.encoders import SpeechFeatures
from sparqle_fairseq.models.encoders.units import UnitEmbedding
from sparqle_fairseq.models.stage2.model import SpeechLLM
from sparqle_fairseq.tools.translate.segments import Segment

if TYPE_CHECKING:
    from sparqle_fairseq.tasks.loading import Trained

# Tokens that a hypothesis may have beside those for its seconds: a short "yes" can be a long word elsewhere.
SPARE_TOKENS = 20


@dataclass(frozen=True)
class Settings:
    """How to search."""

    beam: int = 5
    lenpen: float = 1.0
    no_repeat_ngram_size: int = 0
    tokens_per_second: float = 20.0  # most tokens of a hypothesis for a second of speech
    guard: bool = True  # search again where a text loops
    min_tokens_per_second: float = 0.0
    repetition_penalty: float = 1.0
    prefix: str = ""  # what every text begins with
    mbr: bool = False  # take the hypothesis that is most like the others
    flag_unheard: bool = False  # flag texts that are as likely without the speech


@dataclass(frozen=True)
class Target:
    """What is asked for: a task of the manifest format, and the language of the answer."""

    task: str
    language: str


@dataclass(frozen=True)
class Text:
    text: str
    score: float  # mean log-probability of its tokens (to the power of --lenpen)
    ended: Ended = "end"
    flag: str | None = None  # REPETITION, UNHEARD, or nothing to say


class Translator:
    """Translates batches of segments with a trained checkpoint.

    Args:
        trained: from `load_trained`.
        settings: how to search.

    Raises:
        SparqleError: the options are none that the search has, or the checkpoint does not read audio.
    """

    def __init__(self, trained: Trained, settings: Settings) -> None:
        self.task, self.model, self.cfg, self.device = trained
        if isinstance(self.model.speech_encoder, UnitEmbedding):
            raise SparqleError("the checkpoint reads units and not audio (--source units); give one trained on audio")
        self.settings = settings
        self.side = self.task.text_side(False, self.cfg.task)
        self.side.prefix = settings.prefix
        self.generator = self._build_generator()

    @property
    def can_translate(self) -> bool:
        """Whether the checkpoint follows instructions; one of stage 1 transcribes and nothing else."""
        return isinstance(self.model, SpeechLLM)

    @torch.no_grad()
    def __call__(self, segments: Sequence[Segment], targets: Sequence[Target]) -> list[list[Text]]:
        """Texts of each segment, one for each target, in the order of both.

        Raises:
            SparqleError: the batch does not fit into memory.
        """
        try:
            speech = self._encode(segments)
            found = [self._search(speech, segments, target) for target in targets]
        except torch.OutOfMemoryError as error:
            seconds = sum(segment.end_seconds - segment.start_seconds for segment in segments)
            raise SparqleError(
                f"a batch of {seconds:.0f} seconds does not fit into memory; lower --batch-seconds, "
                "--max-segment-seconds or --beam"
            ) from error
        return [list(texts) for texts in zip(*found, strict=True)]

    def _encode(self, segments: Sequence[Segment]) -> SpeechFeatures:
        """Features (B, T, W) of the segments."""
        normalize = self.model.speech_encoder.normalize
        waves = [normalize_waveform(segment.samples) if normalize else segment.samples for segment in segments]
        source, padding_mask = pad_sources([torch.from_numpy(wave) for wave in waves])
        return self.model.encode_speech(source.to(self.device), padding_mask.to(self.device))

    def _search(self, speech: SpeechFeatures, segments: Sequence[Segment], target: Target) -> list[Text]:
        sample = self._sample(speech, segments, target)
        return [
            Text(
                self.task.target_dictionary.text(best["tokens"]),
                float(best["score"]),
                best["ended"],
                best["flag"] or (UNHEARD if self.generator.unheard(best) else None),
            )
            for best, *_ in self.generator.generate([self.model], sample)
        ]

    def _sample(self, speech: SpeechFeatures, segments: Sequence[Segment], target: Target) -> dict[str, Any]:
        """The batch that generation gets: rows of a manifest without references, built as training builds them."""
        fits = self.task.room_check()
        items = []
        for i, segment in enumerate(segments):
            where = f"the segment at {segment.start_seconds:.1f} seconds"
            row = ManifestRow(
                id=str(i),
                audio="",
                n_frames=len(segment.samples),
                src_text=None,
                tgt_text=None,
                src_lang=None,
                tgt_lang=target.language,
                task=target.task,
                speaker=None,
                prompt=None,
                line=i,
            )
            items.append(self.side.item(row, where, epoch=1))
            if fits is not None:
                fits(items[-1], torch.from_numpy(segment.samples), where)
        batch = self.side.collate(items)
        net_input = {
            name: value.to(self.device) if isinstance(value, torch.Tensor) else value
            for name, value in batch["net_input"].items()
        }
        net_input |= {"source": speech.values, "padding_mask": speech.padding_mask}
        return {**batch, "net_input": net_input, "id": torch.arange(len(segments), device=self.device)}

    def _build_generator(self) -> HypothesisGenerator:
        settings = self.settings
        options = SearchOptions(
            beam=settings.beam,
            lenpen=settings.lenpen,
            no_repeat_ngram_size=settings.no_repeat_ngram_size,
            max_len_a=settings.tokens_per_second / self.model.speech_encoder.frame_rate,
            max_len_b=SPARE_TOKENS,
        )
        decoding = DecodingOptions(
            min_tokens_per_second=settings.min_tokens_per_second,
            repetition_penalty=settings.repetition_penalty,
            loop_guard=settings.guard,
            prefix=settings.prefix,
            rerank="mbr" if settings.mbr else "none",
            # The recording is heard once for all languages, so silence is not encoded in its place.
            speech_contrast="removed" if settings.flag_unheard else "none",
        )
        return self.task.build_generator([self.model], options, decoding=decoding_options(decoding))
