"""`SparqleProcessor`: recordings and text into what the model takes, with the prompts that the plugin trains with.

Token ids on either side of the speech come from `PromptBuilder`, as in training: each part of a text is encoded as it
is behind the part before it, and the speech's places lie between the parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin

from sparqle_fairseq.data.answers import BOTH, final_text
from sparqle_fairseq.data.audio import SAMPLE_RATE, finite, normalize_waveform, read_audio, resample_waveform
from sparqle_fairseq.data.hub import SETTINGS, downloaded, is_hub_id
from sparqle_fairseq.data.prompts import SPEECH, PromptBuilder, language_name
from sparqle_fairseq.data.segments import Segment, SpeechRule, cut_at_pauses, cut_at_times
from sparqle_fairseq.data.voice import VoiceDetector
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.huggingface.configuration import HUB_OPTIONS
from sparqle_fairseq.huggingface.frames import FrameRule
from sparqle_fairseq.models.qformer.qformer import QFormerConfig

AUDIO_TOKEN = "<|speech|>"
NO_LABEL = -100
AnyAudio = str | Path | np.ndarray | torch.Tensor | Mapping[str, Any]


class ProcessorError(SparqleError):
    """Recordings or texts that the model cannot be given; the message is one sentence."""


class SparqleProcessor(ProcessorMixin):
    """Feature extractor, tokenizer and prompts of a model.

    Args:
        feature_extractor: says the sampling rate; pads waveforms.
        tokenizer: of the LLM, with `audio_token` added.
        chat_template: the tokenizer's own is used where this is None.
        audio_token: stands in a text for a recording, and in `input_ids` for one query of it.
        frames: see `FrameRule`.
        queries, window_frames, speech_stride: of the Q-Former: how many places a recording takes.
        normalize: whether the encoder expects each waveform normalised.
        wordings: instructions by task and language, as in a template file; see docs/prompts.md.
        system, speech, use_chat_template, before_answer: settings of that file.
        answer: style of the answers, one of `data.answers.ANSWERS`.
        max_seconds: longest recording that is taken in one piece.
        chats: whether the LLM's tokenizer has a chat template; None: not known.
        strict_audio: refuse a file of which a part is lost, as training does; else what is left of it is heard, and the
            loss is logged.
    """

    def __init__(
        self,
        feature_extractor: Any,
        tokenizer: Any,
        chat_template: str | None = None,
        audio_token: str = AUDIO_TOKEN,
        frames: Mapping[str, Any] | None = None,
        queries: int = 100,
        window_frames: int = 0,
        speech_stride: int = 1,
        normalize: bool = False,
        wordings: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
        system: str | None = None,
        speech: str = SPEECH,
        use_chat_template: bool = True,
        before_answer: str = "\n",
        answer: str = "direct",
        max_seconds: float = 30.0,
        strict_audio: bool = True,
        chats: bool | None = None,
    ) -> None:
        self.audio_token = audio_token
        self.frames = dict(frames or {"conv": []})
        self.queries, self.window_frames, self.speech_stride = queries, window_frames, speech_stride
        self.normalize = normalize
        self.wordings, self.system, self.speech = wordings, system, speech
        self.use_chat_template, self.before_answer = use_chat_template, before_answer
        self.answer = answer
        self.max_seconds, self.strict_audio = max_seconds, strict_audio
        self.chats = chats
        super().__init__(feature_extractor, tokenizer, chat_template=chat_template)
        if chats and not (chat_template or getattr(tokenizer, "chat_template", None)):
            raise ProcessorError(
                f"{tokenizer.name_or_path} has lost the chat template of its LLM (chat_template.jinja), so it would be "
                "asked otherwise than in training; copy, download or export the model again"
            )
        self.audio_token_id = tokenizer.convert_tokens_to_ids(audio_token)
        if self.audio_token_id is None or tokenizer.convert_ids_to_tokens(self.audio_token_id) != audio_token:
            raise ProcessorError(f"the tokenizer has no token {audio_token!r}; add it as an additional special token")

    # ---- parts

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **options: Any) -> Any:  # type: ignore[override]
        """From a folder or hub id (`owner/name`, also with `@revision`). Raises `SparqleError`."""
        place = str(pretrained_model_name_or_path)
        if is_hub_id(place):
            named = {name: options.pop(name) for name in HUB_OPTIONS if name in options}
            place = str(downloaded(place, SETTINGS, named))
        for name in _NEEDED if Path(place).is_dir() else ():  # transformers goes on with other tokens without the last
            if not Path(place, name).is_file():
                raise ProcessorError(f"{place} has no {name}; copy, download or export the model again")
        return super().from_pretrained(place, **options)

    @property
    def templates(self) -> PromptTemplates:
        return PromptTemplates(
            self.wordings or PromptTemplates.load().wordings,
            self.system,
            self.speech,
            self.use_chat_template,
            self.before_answer,
        )

    @property
    def builder(self) -> PromptBuilder:
        tokenizer = self.tokenizer
        if self.chat_template is not None:
            tokenizer.chat_template = self.chat_template
        return self.templates.builder(tokenizer)

    @property
    def sampling_rate(self) -> int:
        return int(self.feature_extractor.sampling_rate)

    def places(self, samples: int) -> int:
        """How many places a recording of `samples` samples takes in `input_ids`."""
        if not self.window_frames:
            return self.queries
        frames = FrameRule(self.frames)(samples)
        shape = QFormerConfig(
            1,
            1,
            heads=1,
            queries=self.queries,
            window_frames=self.window_frames,
            speech_stride=self.speech_stride,
            speech_downsample="none" if self.speech_stride == 1 else "stack",
        )
        return int(shape.query_count(torch.tensor([frames])))

    def waveform(self, audio: AnyAudio, sampling_rate: int | None = None, name: str = "the recording") -> np.ndarray:
        """Mono float32 samples at `sampling_rate` of the model.

        Args:
            audio: path of a file (or a slice or zip member of one, as in a manifest), samples (S,) or (channels, S),
                or a mapping with `array` and `sampling_rate` as `datasets` gives.
            sampling_rate: Hz of samples; a file says its own.
            name: of the recording, for messages.

        Raises:
            SparqleError: it cannot be read, is empty or too short, holds numbers that are not finite, or its rate is
                not said.
        """
        if isinstance(audio, Mapping):
            sampling_rate = audio.get("sampling_rate", sampling_rate)
            audio = audio["array"] if audio.get("array") is not None else audio["path"]
        if isinstance(audio, str | Path):
            if "://" in str(audio):
                raise ProcessorError(f"{audio} is an address; download the file and give its path")
            samples = read_audio(str(audio), sample_rate=self.sampling_rate, strict=self.strict_audio)
            name = str(audio)
        else:
            samples = np.asarray(audio.detach().cpu() if isinstance(audio, torch.Tensor) else audio)
            if sampling_rate is None:
                raise ProcessorError(
                    f"{name} came as samples without a rate; give sampling_rate in Hz (the model hears "
                    f"{self.sampling_rate}), or a path"
                )
            if samples.dtype.kind in "iu":
                samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min or -1)
            if samples.ndim == 2:
                if samples.shape[0] > samples.shape[1]:
                    raise ProcessorError(f"{name} has shape {samples.shape}; give (samples,) or (channels, samples)")
                samples = samples.mean(axis=0)
            if samples.ndim != 1:
                raise ProcessorError(f"{name} has shape {samples.shape}; give (samples,) or (channels, samples)")
            samples = finite(name, samples.astype(np.float32))
            samples = resample_waveform(samples, int(sampling_rate), self.sampling_rate)
        least = FrameRule(self.frames).least
        if len(samples) < least:
            raise ProcessorError(
                f"{name} has {len(samples)} samples ({1000 * len(samples) / self.sampling_rate:.0f} ms), and the "
                f"speech encoder needs at least {least}; leave such short audio out"
            )
        return samples

    def segments(
        self,
        audio: AnyAudio,
        sampling_rate: int | None = None,
        cut: str = "vad",
        pause: float = SpeechRule.pause,
        threshold: float = SpeechRule.threshold,
    ) -> list[Segment]:
        """A long recording as pieces of at most `max_seconds`, cut as `sparqle translate` cuts it.

        Args:
            audio, sampling_rate: see `waveform`.
            cut: "vad" cuts at pauses and leaves out what is no speech; "fixed" cuts after every `max_seconds`, and
                leaves out pieces that hold silence alone.
            pause: seconds without speech that end a piece.
            threshold: probability of speech at which it begins.

        Returns:
            Pieces with `samples`, `start_seconds` and `end_seconds`; none where nothing is heard.

        Raises:
            SparqleError: the recording cannot be heard, or `cut` is neither.
        """
        if cut not in ("vad", "fixed"):
            raise ProcessorError(f"cut {cut!r} is neither vad nor fixed")
        if self.sampling_rate != SAMPLE_RATE:
            raise ProcessorError(
                f"pauses are found at {SAMPLE_RATE} Hz, and this model hears {self.sampling_rate}; cut the recording "
                "before"
            )
        samples = self.waveform(audio, sampling_rate)
        if cut == "fixed":
            return list(cut_at_times([samples], self.max_seconds))
        rule = SpeechRule(threshold=threshold, pause=pause, longest=self.max_seconds)
        return list(cut_at_pauses([samples], VoiceDetector(), rule))

    def _pad(self, waves: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        waves = [normalize_waveform(wave) if self.normalize else wave for wave in waves]
        longest = max(len(wave) for wave in waves)
        values, mask = torch.zeros(len(waves), longest), torch.zeros(len(waves), longest, dtype=torch.long)
        for i, wave in enumerate(waves):
            values[i, : len(wave)] = torch.from_numpy(np.ascontiguousarray(wave))
            mask[i, : len(wave)] = 1
        return {"input_values": values, "input_values_mask": mask}

    # ---- the usual call

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        audio: Any = None,
        sampling_rate: int | None = None,
        answers: Sequence[str] | str | None = None,
        padding_side: str = "left",
        add_special_tokens: bool = True,
        **options: Any,
    ) -> BatchFeature:
        """Token ids and waveforms of a batch.

        Args:
            text: prompts, with `audio_token` where a recording stands; their recordings come in this order.
            audio: one recording or several (see `waveform`); a list in the list is one text's.
            sampling_rate: Hz of recordings that are samples.
            answers: what the model is to answer, for training: they go behind the prompts, and into `labels`.
            padding_side: of the text.
            add_special_tokens: put the LLM's begin-of-sequence token in front where it has one and the text has not.

        Returns:
            `input_ids`, `attention_mask` (B, L), `input_values`, `input_values_mask` (N, S), and `labels` (B, L).

        Raises:
            SparqleError: the recordings are not as many as their places in the text, or one cannot be heard.
        """
        options.pop("return_tensors", None)
        if unknown := sorted(set(options) - _PASSED_OVER):
            raise ProcessorError(f"the processor has no option {unknown[0]}")
        texts = [text] if isinstance(text, str) else list(text or [])
        waves = [
            self.waveform(one, sampling_rate, f"recording {number}")
            for number, one in enumerate(_flat(audio, sampling_rate is not None), 1)
        ]
        found = [one.count(self.audio_token) for one in texts]
        if sum(found) != len(waves):
            raise ProcessorError(
                f"{len(waves)} recording(s) came, and the text has {sum(found)} place(s) for them; write "
                f"{self.audio_token} once for each"
            )
        rows, at = [], 0
        for one, count in zip(texts, found, strict=True):
            rows.append(self._ids(one, waves[at : at + count], add_special_tokens))
            at += count
        data: dict[str, Any] = self._text(rows, answers, padding_side) if texts else {}
        if waves:
            data |= self._pad(waves)
        return BatchFeature(data)

    def _ids(self, text: str, waves: Sequence[np.ndarray], add_special_tokens: bool) -> list[int]:
        """Ids of a text, with as many places as its recordings take."""
        builder = self.builder
        parts = text.split(self.audio_token)
        ids = list(builder._begin_of_sequence()) if add_special_tokens else []
        first = builder._ids(parts[0])
        ids = first if ids and first[:1] == ids else [*ids, *first]
        for before, part, wave in zip(parts[:-1], parts[1:], waves, strict=True):
            ids += [self.audio_token_id] * self.places(len(wave))
            ids += builder._ids(part, before)
        return ids

    def _text(self, rows: list[list[int]], answers: Any, padding_side: str) -> dict[str, torch.Tensor]:
        labels = [[NO_LABEL] * len(row) for row in rows]
        if answers is not None:
            texts = [answers] if isinstance(answers, str) else list(answers)
            if len(texts) != len(rows):
                raise ProcessorError(f"{len(texts)} answer(s) came for {len(rows)} prompt(s); give one for each")
            for row, label, answer in zip(rows, labels, texts, strict=True):
                ids = self.builder.encode_answer(answer)
                row += ids
                label += ids
        pad = self.tokenizer.pad_token_id
        pad = self.builder.end_of_turn if pad is None else pad
        data = {
            "input_ids": _padded(rows, pad, padding_side),
            "attention_mask": _padded([[1] * len(row) for row in rows], 0, padding_side),
        }
        if answers is not None:
            data["labels"] = _padded(labels, NO_LABEL, padding_side)
        return data

    # ---- requests

    def apply_translation_request(
        self,
        audio: Any,
        to: str | Sequence[str],
        prompt: str | None = None,
        wording: int = 0,
        answers: Sequence[str] | str | None = None,
        sampling_rate: int | None = None,
        **options: Any,
    ) -> BatchFeature:
        """A batch that asks for translations, one row a recording.

        Args:
            audio: one recording or several.
            to: BCP-47 code of the language, or one for each recording.
            prompt: an instruction of one's own, with `{speech}` where the speech goes, or without.
            wording: which of the templates' instructions, from 0.
            answers, sampling_rate, options: as in a call.

        Raises:
            SparqleError: a code names no language, or a recording cannot be heard or is longer than `max_seconds`.
        """
        recordings = _flat(audio, sampling_rate is not None)
        codes = [to] * len(recordings) if isinstance(to, str) else list(to)
        if len(codes) != len(recordings):
            raise ProcessorError(
                f"{len(codes)} language(s) came for {len(recordings)} recording(s); give one, or one for each"
            )
        for code in codes:
            language_name(code)
        task = BOTH if self.answer == "transcript-first" else "translation"
        return self._request(recordings, task, codes, prompt, wording, answers, sampling_rate, options)

    def apply_transcription_request(
        self,
        audio: Any,
        language: str | None = None,
        prompt: str | None = None,
        wording: int = 0,
        answers: Sequence[str] | str | None = None,
        sampling_rate: int | None = None,
        **options: Any,
    ) -> BatchFeature:
        """A batch that asks for transcripts; see `apply_translation_request`. `language` is what is spoken."""
        recordings = _flat(audio, sampling_rate is not None)
        codes = [language] * len(recordings)
        return self._request(recordings, "transcription", codes, prompt, wording, answers, sampling_rate, options)

    def _request(
        self,
        recordings: list[Any],
        task: str,
        codes: Sequence[str | None],
        prompt: str | None,
        wording: int,
        answers: Any,
        sampling_rate: int | None,
        options: dict[str, Any],
    ) -> BatchFeature:
        templates, builder = self.templates, self.builder
        waves = [self.waveform(one, sampling_rate, f"recording {n}") for n, one in enumerate(recordings, 1)]
        rows = []
        for number, (wave, code) in enumerate(zip(waves, codes, strict=True), 1):
            seconds = len(wave) / self.sampling_rate
            if seconds > self.max_seconds:
                raise ProcessorError(
                    f"recording {number} has {seconds:.1f} seconds, and the model takes {self.max_seconds:g} at a "
                    "time; cut it with the processor's segments(), or raise its max_seconds"
                )
            asked = builder.encode(templates.instruction(task, code, prompt, wording=wording))
            rows.append([*asked.before, *[self.audio_token_id] * self.places(len(wave)), *asked.after])
        data = self._text(rows, answers, str(options.pop("padding_side", "left")))
        if unknown := sorted(set(options) - _PASSED_OVER - {"return_tensors"}):
            raise ProcessorError(f"the processor has no option {unknown[0]}")
        return BatchFeature(data | self._pad(waves))

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: Any,
        chat_template: str | None = None,
        tokenize: bool = False,
        return_dict: bool = False,
        add_generation_prompt: bool = True,
        output_labels: bool = False,
        sampling_rate: int | None = None,
        **options: Any,
    ) -> Any:
        """A chat, or several, as text or as what the model takes.

        Content is text, or a list of {"type": "text", "text": …} and {"type": "audio", "audio" | "path" | "array": …}.

        Args:
            conversation: one chat or a list of them.
            chat_template: in place of the tokenizer's.
            tokenize: give token ids and waveforms, not text.
            return_dict: give all of them, not the ids alone.
            add_generation_prompt: go on to where the answer begins.
            output_labels: the last message, the assistant's, is the answer to learn.
            sampling_rate: Hz of recordings that are samples.
            options: to a call, or for the chat template.
        """
        chats = [conversation] if isinstance(conversation[0], Mapping) else list(conversation)
        if chat_template is not None:
            self.chat_template = chat_template
        named = {**options.pop("processor_kwargs", {})}
        named |= {name: options.pop(name) for name in list(options) if name in _PASSED_OVER or name == "padding_side"}
        named.pop("return_tensors", None)
        options.pop("return_tensors", None)
        sampling_rate = named.pop("sampling_rate", sampling_rate)
        recordings: list[Any] = []
        texts, answers = [], []
        for chat in chats:
            messages = [self._plain(message, recordings) for message in chat]
            if output_labels:
                if messages[-1]["role"] != "assistant":
                    raise ProcessorError(
                        "output_labels learns the last message, and it is not the assistant's; add one"
                    )
                answers.append(messages.pop()["content"])
            texts.append(self._render(messages, add_generation_prompt, options))
        if not tokenize:
            return texts if chats is conversation or len(texts) > 1 else texts[0]
        named["add_special_tokens"] = not self.builder.chats
        made = self(
            text=texts,
            audio=recordings or None,
            sampling_rate=sampling_rate,
            answers=answers if output_labels else None,
            **named,
        )
        return made if return_dict else made["input_ids"]

    def _plain(self, message: Mapping[str, Any], recordings: list[Any]) -> dict[str, str]:
        content = message["content"]
        if isinstance(content, str):
            return {"role": message["role"], "content": content}
        text = ""
        for part in content:
            if part["type"] == "audio":
                found = next(
                    (part[key] for key in ("audio", "path", "array", "url") if part.get(key) is not None), None
                )
                if found is None:
                    raise ProcessorError("a part of type audio names no recording; give it as audio, path or array")
                rate = part.get("sampling_rate")
                recordings.append(found if rate is None else {"array": found, "sampling_rate": rate})
                piece = self.audio_token
            elif part["type"] == "text":
                piece = str(part["text"])
            else:
                raise ProcessorError(f"a part is of type {part['type']!r}; a message holds text and audio")
            gap = " " if text and not text[-1].isspace() and not piece[:1].isspace() else ""
            text += gap + piece
        return {"role": message["role"], "content": text}

    def _render(self, messages: list[dict[str, str]], add_generation_prompt: bool, options: dict[str, Any]) -> str:
        builder = self.builder
        if builder.chats:
            return builder.render(messages, add_generation_prompt=add_generation_prompt, **options)
        if len(messages) > 1 + (messages[0]["role"] == "system"):
            raise ProcessorError("the LLM has no chat template, so a chat has one message; put all into it")
        text = "\n".join(message["content"] for message in messages)
        return text + self.before_answer if add_generation_prompt else text

    # ---- answers

    def decode(self, token_ids: Any, **options: Any) -> Any:
        """Text of what was generated; of transcript-first answers the translation."""
        options = {"skip_special_tokens": True, **options}
        decoded = self.tokenizer.decode(token_ids, **options)
        opening = self.builder.answer_opening
        if isinstance(decoded, str):
            return final_text(decoded.removeprefix(opening), self.answer)
        return [final_text(text.removeprefix(opening), self.answer) for text in decoded]

    def batch_decode(self, rows: Any, **options: Any) -> list[str]:
        return [self.decode(row, **options) for row in rows]

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "input_values", "input_values_mask"]


# Files that a processor is made of.
_NEEDED = ("processor_config.json", "tokenizer_config.json")
# What transformers' own callers ask for, and what this processor does anyway.
_PASSED_OVER = {"padding", "return_attention_mask"}


def _flat(audio: Any, samples: bool) -> list[Any]:
    """Recordings in a row; lists of lists are those of several texts."""
    if audio is None:
        return []
    if isinstance(audio, list | tuple):
        if samples and audio and isinstance(audio[0], int | float):
            return [np.asarray(audio, dtype=np.float32)]
        return [one for part in audio for one in _flat(part, samples)]
    return [audio]


def _padded(rows: Sequence[Sequence[int]], pad: int, side: str) -> torch.Tensor:
    """(B, L) of rows of different length."""
    if side not in ("left", "right"):
        raise ProcessorError(f"padding_side {side!r} is neither left nor right")
    longest = max(map(len, rows), default=0)
    padded = torch.full((len(rows), longest), pad, dtype=torch.long)
    for out, row in zip(padded, rows, strict=True):
        out[slice(longest - len(row), None) if side == "left" else slice(len(row))] = torch.tensor(row)
    return padded
