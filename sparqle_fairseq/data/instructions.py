"""Text side of stage 2: an instruction with the place of the speech, and the answer that the LLM must give."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import Any

import torch

from sparqle_fairseq.data.answers import BOTH, answer_text, prompt_task, transcript_first, transcript_part
from sparqle_fairseq.data.dataset import pad_ids
from sparqle_fairseq.data.manifest import ManifestError, ManifestRow
from sparqle_fairseq.data.mixture import Mixture
from sparqle_fairseq.data.prompts import SPEECH, PromptBuilder, PromptError
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.keyed_random import text_key

logger = logging.getLogger(__name__)

# Stands in a prompt's ids where the speech goes; no token has a negative id.
SPEECH_PLACE = -1


class InstructionSide:
    """Encodes prompt and answer.

    `sample_seed` draws a wording by (seed, epoch, utterance) in training; None takes the first wording always. `style`
    of the answers is one of `ANSWERS`.
    """

    def __init__(
        self,
        builder: PromptBuilder,
        templates: PromptTemplates,
        pad: int,
        max_tokens: int,
        sample_seed: int | None = None,
        style: str = "direct",
    ) -> None:
        self.style = style
        self.builder = builder
        self.templates = templates
        self.pad = pad
        self.max_tokens = max_tokens
        self.sample_seed = sample_seed
        self.mixture: Mixture | None = None  # of training's answers
        self.reading_room: int | None = None  # tokens of prompt, transcript and answer, where transcripts are read
        self._own_prompts: set[str] = set()  # of rows, that were looked at
        self.prefix = ""  # what the answers of rows without a prefix of their own begin with, in generation

    def scored(self, row: ManifestRow) -> dict[str, str | None]:
        return {
            "reference": row.tgt_text,
            "language": row.tgt_lang or (row.src_lang if row.task == "transcription" else None),
            "task": row.task,
        }

    def item(self, row: ManifestRow, where: str, epoch: int) -> dict[str, Any]:
        rng = None
        if self.sample_seed is not None:
            rng = random.Random(f"{self.sample_seed} {epoch} {text_key(row.id)}")
        try:
            style = self.style if self.mixture is None else self.mixture.style(self.style, row.id, epoch)
            task = prompt_task(row, style)
            instruction = self.templates.instruction(task, row.tgt_lang, row.prompt, rng)
            prompt = self.builder.encode(instruction)
            if row.prompt and row.prompt not in self._own_prompts:
                self._own_prompts.add(row.prompt)
                self._look_at(instruction, where)
        except PromptError as error:
            raise PromptError(f"{where}: {error}") from error
        text = answer_text(row, style, where)
        answer = None if text is None else self.builder.encode_answer(text)
        given = 0  # ids at the answer's start that are not to be learned
        if self.mixture is not None and task == BOTH and text is not None:
            wrong = self.mixture.with_errors(str(row.src_text), row.id, epoch)
            if wrong is not None:
                answer = self.builder.encode_answer(transcript_first(wrong, str(row.tgt_text)))
                given = _alike(answer, self.builder.encode_answer(transcript_part(wrong))[:-1])
        length = len(prompt.before) + len(prompt.after) + len(answer or [])
        if length > self.max_tokens:
            raise ManifestError(
                f"{where}: prompt and answer have {length} tokens, but the LLM has room for {self.max_tokens} "
                "beside the speech; shorten the text or take an LLM with a longer context"
            )
        prefix = row.prefix or self.prefix
        reading = {} if self.reading_room is None else {"reading": self._reading(row, instruction, answer, where)}
        return {
            **reading,
            "prefix": self.builder.encode_answer(prefix)[:-1] if prefix else [],
            "prompt": [*prompt.before, SPEECH_PLACE, *prompt.after],
            "answer": answer,
            "given": given,
            **self.scored(row),
            "utterance": text_key(row.id),
        }

    def _reading(self, row: ManifestRow, instruction: str, answer: list[int] | None, where: str) -> list[int]:
        """The prompt's ids with the transcript before the place of the speech. Raises `ManifestError`."""
        transcript = row.src_text or (row.tgt_text if row.task == "transcription" else None)
        if not transcript:
            raise ManifestError(f"{where}: the LLM is to read the transcript (--objective); fill in src_text")
        ids = self.reading(instruction, transcript)
        length = len(ids) - 1 + len(answer or [])
        if self.reading_room is not None and length > self.reading_room:
            raise ManifestError(
                f"{where}: prompt, transcript and answer have {length} tokens, but the LLM has room for "
                f"{self.reading_room}; shorten the text or take an LLM with a longer context"
            )
        return ids

    def reading(self, instruction: str, transcript: str) -> list[int]:
        """The prompt's ids with a transcript before the place of the speech, which is to stay empty.

        Raises `PromptError`: the transcript holds what stands for the speech.
        """
        if SPEECH in transcript:
            raise PromptError(f"the transcript holds {SPEECH}, which stands for the speech; leave it out")
        prompt = self.builder.encode(instruction.replace(SPEECH, f"{transcript.strip()}{SPEECH}"))
        return [*prompt.before, SPEECH_PLACE, *prompt.after]

    def _look_at(self, instruction: str, where: str) -> None:
        """Say where a row's own prompt puts the LLM off; of template files the task says it."""
        before = self.builder.before_the_answer(instruction)
        if self.builder.parts_answers(before) and instruction.endswith(before):
            logger.warning(
                "%s: its prompt ends in %r, and an answer would have another first token if both were one text; an LLM "
                "that was not trained on such prompts goes on badly: end it without",
                where,
                before[-1:],
            )

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        # Prompts are padded at their left, so that every answer starts in the same column.
        prompt, prompt_padding_mask = pad_ids([item["prompt"] for item in items], self.pad, left=True)
        batch: dict[str, Any] = {
            "net_input": {
                "prompt": prompt,
                "prompt_padding_mask": prompt_padding_mask,
                "utterance": torch.tensor([item["utterance"] for item in items]),
            },
            "target": None,
            "reference": [item["reference"] for item in items],
            "language": [item["language"] for item in items],
            "task": [item["task"] for item in items],
            "prefix": [item["prefix"] for item in items],
            "ntokens": 0,
        }
        if any(item["answer"] is not None for item in items):
            # A row without a target text has padding alone.
            target, padding_mask = pad_ids([item["answer"] or [] for item in items], self.pad)
            batch["net_input"] |= {"answer": target, "answer_padding_mask": padding_mask}
            batch["target"] = target
            if any(item["given"] for item in items):
                counts = torch.tensor([item["given"] for item in items])
                batch["given"] = torch.arange(target.size(1))[None] < counts[:, None]
            batch["learned_lengths"] = [len(item["answer"] or []) - item["given"] for item in items]
            batch["ntokens"] = sum(batch["learned_lengths"])
        if "reading" in items[0]:
            reading, padding_mask = pad_ids([item["reading"] for item in items], self.pad, left=True)
            batch |= {"reading": reading, "reading_padding_mask": padding_mask}
        return batch


def _alike(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids two lists begin with alike."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))
