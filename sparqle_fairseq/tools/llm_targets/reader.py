"""The LLM alone: it reads instructions with transcripts in the place of the speech, and answers.

B rows, R prompt ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparqle_fairseq.data.dataset import pad_ids
from sparqle_fairseq.data.instructions import InstructionSide
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.limits import Limits
from sparqle_fairseq.generate.search import SearchSettings, search
from sparqle_fairseq.generate.stopping import StopTexts
from sparqle_fairseq.keyed_random import text_key
from sparqle_fairseq.models.llm.llm import LanguageModel, text_codec
from sparqle_fairseq.models.stage2.decoder import PromptedLLM
from sparqle_fairseq.models.stage2.prompted import prompt_of_text

# Tokens that an answer may have beside `LONGER` for each token of the transcript.
SPARE, LONGER = 20, 4


@dataclass(frozen=True)
class Question:
    """What is read: a transcript, the language of the answer, and the name for random draws."""

    id: str
    transcript: str
    language: str
    prompt: str | None = None  # the row's own instruction
    where: str = ""  # in messages


@dataclass(frozen=True)
class Answer:
    text: str
    whole: bool  # whether it ended by itself


class Reader:
    """Answers as training asks: the first wording of the templates, or the row's own.

    Args:
        llm: on its device.
        templates: the instructions.
        settings: how to search.
    """

    def __init__(self, llm: LanguageModel, templates: PromptTemplates, settings: SearchSettings) -> None:
        self.llm, self.settings = llm, settings
        self.side = InstructionSide(templates.builder(llm.tokenizer), templates, llm.pad, llm.context)
        self.stop = StopTexts(templates.stop, *text_codec(llm.tokenizer)) if templates.stop else None
        self.decoder = PromptedLLM(llm, self._embed)

    def answers(
        self,
        questions: Sequence[Question],
        batch_size: int,
        progress: Callable[[Iterable[int], int], Iterable[int]] | None = None,
    ) -> list[Answer]:
        """Of each question, in their order. Raises `SparqleError`: one does not fit into the LLM's context."""
        prompts = [self._prompt(question) for question in questions]
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        starts: Iterable[int] = range(0, len(order), batch_size)
        found: dict[int, Answer] = {}
        for start in progress(starts, -(-len(order) // batch_size)) if progress else starts:
            rows = order[start : start + batch_size]
            found |= zip(rows, self._batch([questions[i] for i in rows], [prompts[i] for i in rows]), strict=True)
        return [found[i] for i in range(len(questions))]

    def _prompt(self, question: Question) -> list[int]:
        instruction = self.side.templates.instruction("translation", question.language, question.prompt)
        try:
            ids = self.side.reading(instruction, question.transcript)
        except SparqleError as error:
            raise SparqleError(f"{question.where}: {error}") from error
        if len(ids) >= self.llm.context:
            raise SparqleError(
                f"{question.where}: instruction and transcript have {len(ids) - 1} tokens, but the LLM has room for "
                f"{self.llm.context} with the answer; shorten the transcript"
            )
        return ids

    @torch.no_grad()
    def _batch(self, questions: Sequence[Question], prompts: Sequence[Sequence[int]]) -> Iterator[Answer]:
        device = self.llm.frozen.device
        prompt, padding_mask = (each.to(device) for each in pad_ids(prompts, self.llm.pad, left=True))
        nothing = prompt.new_zeros(len(prompts), 1)  # in the place of the speech
        given = {
            "source": nothing,
            "padding_mask": nothing.bool(),
            "prompt": prompt,
            "prompt_padding_mask": padding_mask,
        }
        tokenizer = self.llm.tokenizer
        said = [len(tokenizer.encode(question.transcript, add_special_tokens=False)) for question in questions]
        room = [
            min(LONGER * tokens + SPARE, self.llm.context - len(ids)) for tokens, ids in zip(said, prompts, strict=True)
        ]
        hypotheses = search(
            self.decoder,
            given,
            self.settings,
            Limits.at_most(torch.tensor(room, device=device)),
            pad=self.llm.pad,
            end=self.llm.end,
            keys=torch.tensor([text_key(question.id) for question in questions], device=device),
            stop=self.stop,
        )
        for best, *_ in hypotheses:
            text = self.llm.decode([token for token in best.tokens if token != self.llm.end]).strip()
            yield Answer(text, best.ended in ("end", "stop"))

    def _embed(self, source: Tensor, padding: Tensor, prompt: Tensor, prompt_padding: Tensor) -> tuple[Tensor, Tensor]:
        return prompt_of_text(self.llm, prompt, prompt_padding)
