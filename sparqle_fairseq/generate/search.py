"""Beam search and sampling over any decoder that gives logits token by token.

B utterances, K beams, V vocabulary. An utterance's hypotheses depend on nothing else in its batch: limits, finished
beams and random numbers are its own. Each token costs one wait for the device, where what was found is read
(`Candidates.read`); the numbers that the next step needs stay there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, Protocol

import torch
from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.candidates import Candidates, Going, NextTokens, Row
from sparqle_fairseq.generate.hypotheses import Answers, Hypothesis
from sparqle_fairseq.generate.limits import Limits
from sparqle_fairseq.generate.settings import SearchSettings
from sparqle_fairseq.generate.stopping import Stopped, Stopping, StopTexts, mask_of

__all__ = ["EnsembleDecoder", "Hypothesis", "SearchSettings", "StepDecoder", "ensemble", "search"]


class StepDecoder(Protocol):
    """A model that answers with the logits of the next token, in any precision."""

    vocab_size: int

    def start(self, net_input: dict[str, Any]) -> tuple[Tensor, Any]:
        """Logits (B, V) of the first token, and the state that goes on from there."""
        ...

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits (N, V) of the token after `tokens` (N,)."""
        ...

    def reorder(self, state: Any, rows: Tensor) -> Any:
        """The state with row i replaced by what was row `rows[i]`; rows may be repeated or left out.

        Where as many rows are asked for as there are, each takes the place of one of its own utterance.
        """
        ...

    def not_finite(self) -> SparqleError:
        """What to raise where the logits are no numbers to search among."""
        ...


class EnsembleDecoder:
    """Several decoders of one vocabulary as one: the mean of their probabilities."""

    def __init__(self, decoders: Sequence[StepDecoder]) -> None:
        self.decoders = list(decoders)
        self.vocab_size = self.decoders[0].vocab_size
        self._norms = torch.zeros(len(self.decoders), 0)  # those of the last step

    def start(self, net_input: dict[str, Any]) -> tuple[Tensor, Any]:
        return self._joined([decoder.start(net_input) for decoder in self.decoders])

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self._joined([decoder.step(tokens, part) for decoder, part in zip(self.decoders, state, strict=True)])

    def reorder(self, state: Any, rows: Tensor) -> Any:
        return [decoder.reorder(part, rows) for decoder, part in zip(self.decoders, state, strict=True)]

    def not_finite(self) -> SparqleError:
        whole = self._norms.isfinite().all(dim=1).tolist()
        guilty = (decoder for decoder, finite in zip(self.decoders, whole, strict=True) if not finite)
        return next(guilty, self.decoders[0]).not_finite()

    def _joined(self, answers: list[tuple[Tensor, Any]]) -> tuple[Tensor, Any]:
        self._norms = torch.stack([logits.float().logsumexp(dim=-1) for logits, _ in answers])  # (decoders, N)
        log_probs = torch.stack([logits.float() for logits, _ in answers]) - self._norms[:, :, None]
        return log_probs.logsumexp(dim=0), [state for _, state in answers]  # softmax takes the division back


def ensemble(decoders: Sequence[StepDecoder]) -> StepDecoder:
    return decoders[0] if len(decoders) == 1 else EnsembleDecoder(decoders)


def search(
    decoder: StepDecoder,
    net_input: dict[str, Any],
    settings: SearchSettings,
    limits: Limits,
    *,
    pad: int,
    end: int,
    keys: Tensor,
    prefixes: Sequence[Sequence[int]] | None = None,
    stop: StopTexts | None = None,
) -> list[list[Hypothesis]]:
    """Hypotheses of each utterance, best first.

    Args:
        limits: of each utterance, fewest and most tokens before the end token.
        keys: (B,) int64 names of the utterances for the random numbers of sampling.
        prefixes: ids that each utterance's hypotheses begin with, and may end with the end token; they come before any
            limit.
        stop: texts that end a hypothesis as the end token does; they are no part of it.

    Raises:
        SparqleError: the decoder's, where its logits are not finite.
    """
    answers = Answers(settings, limits.causes, end)
    next_tokens = NextTokens(settings, limits, pad=pad, end=end, keys=keys, prefixes=prefixes)
    stopping = None if stop is None else Stopping(stop, prefixes, limits.fewest, end)
    logits, state = decoder.start(net_input)  # (B, V)
    alive = torch.arange(keys.numel(), device=keys.device)
    # A search goes on from one beam, as all are the same at first; a sampler draws for each.
    beams = settings.beam if settings.sampling else 1
    if beams > 1:
        state = decoder.reorder(state, alive.repeat_interleave(beams))
        logits = logits.repeat_interleave(beams, dim=0)
    going = Going(
        alive,
        logits.unflatten(0, (-1, beams)),
        torch.zeros(keys.numel(), beams, device=keys.device),
        torch.empty((keys.numel(), beams, 0), dtype=torch.long, device=keys.device),
    )
    for step in count():
        if not answers.chains:
            break
        found, rows, stopped = _look(next_tokens, stopping, going, answers, step)
        if not all(row.finite for row in rows):
            raise decoder.not_finite()
        open_rows = answers.take(rows, stopped)
        if open_rows:
            going, state = _go_on(decoder, state, going, found, rows, open_rows, next_tokens.reads_history)
    return answers.sorted()


def _look(
    next_tokens: NextTokens, stopping: Stopping | None, going: Going, answers: Answers, step: int
) -> tuple[Candidates, list[Row], dict[tuple[int, int], Stopped]]:
    """The candidates of a step, on the device and read, and (row, column) -> where a stop text ends one."""
    utterances = list(answers.chains)
    found = next_tokens(going, utterances, step)
    rows = found.read()
    if stopping is None:
        return found, rows, {}
    banned: list[tuple[int, int, int]] = []
    stopped, early = stopping.look(rows, answers.chains, step)
    while early:  # as the end token, they may not come yet
        banned += early
        found = next_tokens(going, utterances, step, banned)
        rows = found.read()
        stopped, early = stopping.look(rows, answers.chains, step)
    if stopped:
        sampling = next_tokens.settings.sampling
        found = found.ended(mask_of(stopped, like=found.token), sampling)
        columns: dict[int, set[int]] = {}
        for row, column in stopped:
            columns.setdefault(row, set()).add(column)
        rows = [row.ended(columns[i], found.end, sampling) if i in columns else row for i, row in enumerate(rows)]
    return found, rows, stopped


def _go_on(
    decoder: StepDecoder,
    state: Any,
    going: Going,
    found: Candidates,
    rows: Sequence[Row],
    open_rows: Sequence[int],
    with_history: bool,
) -> tuple[Going, Any]:
    """The beams of the next step and the decoder's state; utterances that are done leave both."""
    beams, beam = going.scores.size(1), found.chosen.size(1)
    origin, token, total = (x.gather(1, found.chosen) for x in (found.origin, found.token, found.total))  # (B, beam)
    alive, history = going.alive, going.tokens
    kept = torch.arange(len(rows), device=alive.device)[:, None] * beams + origin
    all_stay = len(open_rows) == len(rows)
    if not all_stay:
        where = torch.tensor(open_rows, device=alive.device)
        alive, history, kept, token, total = (x.index_select(0, where) for x in (alive, history, kept, token, total))
        origin = origin.index_select(0, where)
    # The likeliest beams are often the same as before, in the same order, and one beam is always itself.
    own = list(range(beam))
    if not (all_stay and beam == beams and all([row.origin[c] for c in row.chosen] == own for row in rows)):
        state = decoder.reorder(state, kept.flatten())
    if with_history:
        history = history.gather(1, origin[:, :, None].expand(-1, -1, history.size(2)))
        history = torch.cat([history, token[:, :, None]], dim=2)
    scores = total.masked_fill(token == found.end, -torch.inf)
    logits, state = decoder.step(token.flatten(), state)
    return Going(alive, logits.unflatten(0, (-1, beam)), scores, history), state
