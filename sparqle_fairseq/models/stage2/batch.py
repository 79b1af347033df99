"""What the objectives of stage 2 read of a batch, each thing made once, when it is first asked for.

B utterances, N candidates, R ids of the prompt with the transcript, L answer tokens, V
vocabulary of the LLM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sparqle_fairseq.models.qformer.places import places_where
from sparqle_fairseq.models.stage2.candidates import Candidates
from sparqle_fairseq.models.stage2.prompted import prompt_of_text

# Logits that the LLM makes at a time where it reads transcripts: 128 MB of them in fp32.
LOGITS_AT_A_TIME = 1 << 25


class Lessons(NamedTuple):
    """What objectives need of a batch beside speech, prompt and answer; None where none of them asks for it."""

    reading: Tensor | None = None  # (B, R) the prompt with the transcript before the speech's place, left-padded
    reading_padding_mask: Tensor | None = None  # (B, R)
    candidates: Candidates | None = None
    given: Tensor | None = None  # bool (B, L), True at tokens of the answer that are not to be learned
    learned_lengths: Sequence[int] | None = None  # B numbers of tokens to be learned, so that no device is asked


class Stage2Batch:
    """A batch as the objectives see it.

    Args:
        model: a `SpeechLLM`.
        answer: ids (B, L), the end of turn last.
        answer_padding_mask: bool (B, L).
        lessons: what else there is.
        logits: makes (B, L, V): column j says what follows the prompt with the speech and the answer's first j tokens.
        heard: the prompts (B, P, M) as an adapter fills them, and the bool (B, P) where they are real; for candidates.
    """

    def __init__(
        self,
        model: Any,
        answer: Tensor,
        answer_padding_mask: Tensor,
        lessons: Lessons,
        logits: Callable[[], Tensor],
        heard: Callable[[Any], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self.model = model
        self.answer, self.real = answer, ~answer_padding_mask
        self.learned = self.real if lessons.given is None else self.real & ~lessons.given
        self.lessons = lessons
        self._logits, self._heard = logits, heard

    @property
    def tokens(self) -> Tensor:
        """How many answer tokens are to be learned."""
        return self.learned.sum()

    @property
    def utterances(self) -> Tensor:
        """How many utterances there are."""
        return torch.tensor(float(self.real.size(0)), device=self.real.device)

    @cached_property
    def places(self) -> Tensor:
        """Where they are in the flat answers (B * L): (K,)."""
        lengths = self.lessons.learned_lengths
        return places_where(self.learned, None if lengths is None else sum(lengths))

    @cached_property
    def logits(self) -> Tensor:
        """(B, L, V) of the LLM that hears the speech."""
        return self._logits()

    @property
    def candidates(self) -> Candidates:
        assert self.lessons.candidates is not None, "nobody has looked for candidates"
        return self.lessons.candidates

    @cached_property
    def scores(self) -> Tensor:
        """(B, N) log-probability of each candidate, 0 where there is none."""
        return self._scores(self.model.adapter)

    @cached_property
    def scores_at_start(self) -> Tensor:
        """The same by the adapter that training began with, without gradient."""
        with torch.no_grad(), self.model.adapter_of_start() as adapter:
            return self._scores(adapter)

    def _scores(self, adapter: Any) -> Tensor:
        assert self._heard is not None
        tokens, padding_mask = (each.flatten(0, 1) for each in self.candidates[:2])  # (B * N, L)
        count = self.candidates.tokens.size(1)
        prefix, seen = (each.repeat_interleave(count, dim=0) for each in self._heard(adapter))
        real = places_where(~padding_mask, self.candidates.ntokens)  # (K,)
        logits = self.model.llm.forced(prefix, seen, tokens, padding_mask).flatten(0, 1).index_select(0, real)  # (K, V)
        own = -F.cross_entropy(logits.float(), tokens.flatten()[real], reduction="none")
        of = real // tokens.size(1)  # candidate of each token
        return own.new_zeros(tokens.size(0)).index_add(0, of, own).unflatten(0, (-1, count))

    def read_logits(self) -> Iterator[tuple[slice, Tensor]]:
        """The same of the LLM as it is without LoRA, which reads the transcript: some rows of B, and theirs (b, L, V).

        Without gradient, and so many rows at a time that the logits of all never stand in memory. An LLM that is
        divided among processes runs once, so that it runs as often in each of them.
        """
        reading, padding_mask = self.lessons.reading, self.lessons.reading_padding_mask
        assert reading is not None, "the batch has no transcripts to read"
        assert padding_mask is not None
        llm = self.model.llm
        size = reading.size(0)
        if llm.sharding == "none":
            size = max(1, LOGITS_AT_A_TIME // max(1, self.answer.size(1) * llm.vocab_size))
        for start in range(0, reading.size(0), size):
            rows = slice(start, start + size)
            with torch.no_grad(), self.model.llm_as_it_came():
                prefix, seen = prompt_of_text(llm, reading[rows], padding_mask[rows])
                logits = llm.forced(prefix, seen, self.answer[rows], ~self.real[rows])
            yield rows, logits
