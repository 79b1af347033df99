"""Segments into text: the encoder hears a batch once, and each language is asked of the same features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from sparqle_fairseq.data.answers import prompt_task
from sparqle_fairseq.data.audio import SAMPLE_RATE, normalize_waveform
from sparqle_fairseq.data.dataset import pad_sources
from sparqle_fairseq.data.instructions import InstructionSide
from sparqle_fairseq.data.manifest import ManifestRow
from sparqle_fairseq.data.segments import Segment
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.contrast import UNHEARD
from sparqle_fairseq.generate.generator import HypothesisGenerator
from sparqle_fairseq.generate.inspection import Heard, Look, look_at
from sparqle_fairseq.generate.interrupt import Deaf, Interruptible, Watch
from sparqle_fairseq.generate.limits import Ended
from sparqle_fairseq.generate.options import DecodingOptions, SearchOptions, decoding_options
from sparqle_fairseq.generate.stopping import as_option
from sparqle_fairseq.models.encoders import SpeechFeatures
from sparqle_fairseq.models.encoders.unit_embedding import UnitEmbedding
from sparqle_fairseq.models.stage2.model import SpeechLLM
from sparqle_fairseq.tools.translate.loaded import Loaded

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
    sampling: bool = False  # draw tokens at random in place of following the likeliest
    temperature: float = 1.0  # above 1: tokens that are less likely are drawn more often
    top_p: float = 0.0  # draw from the fewest tokens that are as probable together; 0: from all
    top_k: int = 0  # draw from so many of the likeliest tokens; 0: from all
    seed: int | None = None  # of the draws; None: that of the checkpoint's training
    nbest: int = 1  # texts of each segment: the best one and its rivals
    stop: tuple[str, ...] = ()  # what every text ends before


@dataclass(frozen=True)
class Target:
    """What is asked for: a task of the manifest format, the language of the answer, and in which words.

    `instruction` is what a manifest's column `prompt` is; None takes the first wording of the checkpoint's templates.
    """

    task: str
    language: str
    instruction: str | None = None


@dataclass(frozen=True)
class Rival:
    """A text that the search liked less than the best one."""

    text: str
    score: float
    ended: Ended = "end"


@dataclass(frozen=True)
class Text:
    text: str
    score: float  # mean log-probability of its tokens (to the power of --lenpen)
    ended: Ended = "end"
    flag: str | None = None  # REPETITION, UNHEARD, or nothing to say
    heard_bits: float | None = None  # bits a token that the speech adds; with `flag_unheard`
    rivals: tuple[Rival, ...] = ()  # with `nbest`, best first


def _go_on() -> None:
    """A watch that never stops a search."""


class Translator:
    """Translates batches of segments with a trained model.

    Args:
        loaded: a checkpoint or an exported folder, from `open_model`.
        settings: how to search.

    Raises:
        SparqleError: the options are none that the search has, or the checkpoint does not read audio.
    """

    def __init__(self, loaded: Loaded, settings: Settings) -> None:
        self.task, self.model, self.device, self.spoken = loaded.task, loaded.model, loaded.device, loaded.spoken
        if isinstance(self.model.speech_encoder, UnitEmbedding):
            raise SparqleError("the checkpoint reads units and not audio (--source units); give one trained on audio")
        self.settings = settings
        self.stops = loaded.stops
        self.side = loaded.text_side()
        self.side.prefix = settings.prefix
        self.generator = self._build_generator(settings)

    @property
    def can_translate(self) -> bool:
        """Whether the checkpoint follows instructions; one of stage 1 transcribes and nothing else."""
        return isinstance(self.model, SpeechLLM)

    def wordings(self, task: str, language: str) -> tuple[str, ...]:
        """The wordings of the checkpoint's templates that ask for this, each a `Target.instruction`; the first is used.

        A checkpoint of stage 1 has none. Raises `PromptError` where its templates have no such task or language.
        """
        if not isinstance(self.side, InstructionSide):
            return ()
        row = _row(Target(task, language))
        return tuple(self.side.templates.wordings_of(prompt_task(row, self.side.style), language))

    @torch.no_grad()
    def __call__(
        self, segments: Sequence[Segment], targets: Sequence[Target], watch: Watch = _go_on
    ) -> list[list[Text]]:
        """Texts of each segment, one for each target, in the order of both.

        `watch` is called before each token, and may raise what ends the search.

        Raises:
            SparqleError: the batch does not fit into memory.
        """
        try:
            speech = self._encode(segments)
            model = Interruptible(self.model, watch)
            found = [self._search(model, self._sample(speech, segments, target)) for target in targets]
        except torch.OutOfMemoryError as error:
            seconds = sum(segment.end_seconds - segment.start_seconds for segment in segments)
            raise SparqleError(
                f"a batch of {seconds:.0f} seconds does not fit into memory; lower --batch-seconds, "
                "--max-segment-seconds or --beam"
            ) from error
        return [list(texts) for texts in zip(*found, strict=True)]

    def _encode(self, segments: Sequence[Segment]) -> SpeechFeatures:
        """What the encoder gives for the segments: (B, T, W), or (B, T, L, W) of all layers."""
        source, padding_mask = pad_sources([torch.from_numpy(self._waveform(segment)) for segment in segments])
        return self.model.hear(source.to(self.device), padding_mask.to(self.device))

    def read(self, transcript: str, seconds: float, target: Target, watch: Watch = _go_on) -> Text:
        """What the LLM answers to the same instruction with a transcript in the place of the speech; see `read_all`."""
        return self.read_all([transcript], [seconds], target, watch)[0]

    @torch.no_grad()
    def read_all(
        self, transcripts: Sequence[str], seconds: Sequence[float], target: Target, watch: Watch = _go_on
    ) -> list[Text]:
        """The same of several transcripts in one batch; an empty one asks without speech and without text.

        The LLM is that of the checkpoint, with its LoRA where it has one. `seconds` of the speech limit the length of
        the answer as they limit that of a hypothesis.

        Raises:
            SparqleError: a checkpoint of stage 1, which has no LLM, or a transcript that is longer than its context.
        """
        if not isinstance(self.side, InstructionSide):
            raise SparqleError("a checkpoint of stage 1 has no LLM that could read a transcript; give one of stage 2")
        silences = [Segment(0, np.zeros(max(1, round(length * SAMPLE_RATE)), np.float32)) for length in seconds]
        source, padding_mask = pad_sources([torch.from_numpy(silence.samples) for silence in silences])
        # Never encoded: the decoder leaves the speech out. It says how long the answer may be.
        nothing = SpeechFeatures(source.to(self.device), padding_mask.to(self.device))
        sample = self._sample(nothing, silences, target, transcripts)
        generator = self._build_generator(replace(self.settings, flag_unheard=False))
        return self._texts(generator, Deaf(self.model, watch), sample)

    @torch.no_grad()
    def look(self, segment: Segment, target: Target, watch: Watch = _go_on) -> Look:
        """The hypothesis of one segment by these settings, looked into. Raises as `__call__` and `look_at` do."""
        waveform, padding_mask = pad_sources([torch.from_numpy(self._waveform(segment))])
        sample = self._sample(SpeechFeatures(waveform.to(self.device), padding_mask.to(self.device)), [segment], target)
        name = f"{segment.start_seconds:.1f} to {segment.end_seconds:.1f} seconds"
        heard = [Heard(name, segment.samples)]
        model = Interruptible(self.model, watch)
        return look_at(
            self.task.target_dictionary, self.model, sample, heard, self.generator.generate([model], sample)
        )[0]

    def _waveform(self, segment: Segment) -> np.ndarray:
        return normalize_waveform(segment.samples) if self.model.speech_encoder.normalize else segment.samples

    def _search(self, model: Any, sample: dict[str, Any]) -> list[Text]:
        return self._texts(self.generator, model, sample)

    def _texts(self, generator: HypothesisGenerator, model: Any, sample: dict[str, Any]) -> list[Text]:
        """The texts of a batch, one of each segment."""
        text_of = self.task.target_dictionary.text
        found = []
        for best, *others in generator.generate([model], sample):
            contrast = best.get("contrast")
            found.append(
                Text(
                    text_of(best["tokens"]),
                    float(best["score"]),
                    best["ended"],
                    best["flag"] or (UNHEARD if generator.unheard(best) else None),
                    None if contrast is None else contrast.difference,
                    tuple(
                        Rival(text_of(other["tokens"]), float(other["score"]), other["ended"])
                        for other in others[: self.settings.nbest - 1]
                    ),
                )
            )
        return found

    def _sample(
        self,
        speech: SpeechFeatures,
        segments: Sequence[Segment],
        target: Target,
        transcripts: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """The batch that generation gets: rows of a manifest without references, built as training builds them.

        With `transcripts`, each stands in its row's prompt, before the place of the speech.
        """
        if target.instruction is not None and not isinstance(self.side, InstructionSide):
            raise SparqleError("a checkpoint of stage 1 reads no instruction; leave it out, or give one of stage 2")
        fits = self.task.room_check()
        items = []
        for i, segment in enumerate(segments):
            where = f"the segment at {segment.start_seconds:.1f} seconds"
            row = _row(target, str(i), len(segment.samples))
            items.append(self.side.item(row, where, epoch=1))
            if transcripts is not None:
                items[-1]["prompt"] = self._prompt_with(transcripts[i], row)
            if fits is not None:
                fits(items[-1], torch.from_numpy(segment.samples), where)
        batch = self.side.collate(items)
        net_input = {
            name: value.to(self.device) if isinstance(value, torch.Tensor) else value
            for name, value in batch["net_input"].items()
        }
        net_input |= {"source": speech.values, "padding_mask": speech.padding_mask}
        # The name of a segment for random draws: the same in any batch.
        starts = torch.tensor([segment.start for segment in segments], device=self.device)
        return {**batch, "net_input": net_input, "id": starts}

    def _prompt_with(self, transcript: str, row: ManifestRow) -> list[int]:
        """Ids of a row's prompt with a transcript before the place of the speech."""
        side = self.side
        assert isinstance(side, InstructionSide)
        instruction = side.templates.instruction(prompt_task(row, side.style), row.tgt_lang, row.prompt)
        ids = side.reading(instruction, transcript)
        if len(ids) - 1 > side.max_tokens:
            raise SparqleError(
                f"the transcript and its instruction have {len(ids) - 1} tokens, but the LLM has room for "
                f"{side.max_tokens}; shorten the transcript"
            )
        return ids

    def _build_generator(self, settings: Settings) -> HypothesisGenerator:
        if not settings.sampling and (settings.top_p or settings.top_k):
            raise SparqleError("--top-p and --top-k choose what tokens are drawn from, and need --sampling")
        options = SearchOptions(
            beam=settings.beam,
            nbest=settings.nbest,
            sampling=settings.sampling,
            sampling_topp=settings.top_p or -1.0,
            sampling_topk=settings.top_k or -1,
            temperature=settings.temperature,
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
            stop=as_option(dict.fromkeys([*self.stops, *settings.stop])),
            rerank="mbr" if settings.mbr else "none",
            # The recording is heard once for all languages, so silence is not encoded in its place.
            speech_contrast="removed" if settings.flag_unheard else "none",
        )
        return self.task.build_generator([self.model], options, decoding=decoding_options(decoding), seed=settings.seed)


def _row(target: Target, name: str = "", n_frames: int = 0) -> ManifestRow:
    """What a manifest would say of a segment."""
    return ManifestRow(
        id=name,
        audio="",
        n_frames=n_frames,
        src_text=None,
        tgt_text=None,
        src_lang=None,
        tgt_lang=target.language,
        task=target.task,
        speaker=None,
        prompt=target.instruction,
        line=0,
    )
