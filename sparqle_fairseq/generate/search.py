"""Beam search and sampling over any decoder that gives logits token by token.

B utterances, K beams, V vocabulary. An utterance's hypotheses depend on nothing else in its batch: limits, finished
beams and random numbers are its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sparqle_fairseq.keyed_random import keyed_uniform


class StepDecoder(Protocol):
    """A model that answers with the logits of the next token."""

    vocab_size: int

    def start(self, net_input: dict[str, Any]) -> tuple[Tensor, Any]:
        """Logits (B, V) of the first token, and the state that goes on from there."""
        ...

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits (N, V) of the token after `tokens` (N,)."""
        ...

    def reorder(self, state: Any, rows: Tensor) -> Any:
        """The state with row i replaced by what was row `rows[i]`; rows may be repeated or left out."""
        ...


@dataclass(frozen=True)
class SearchSettings:
    """How to search; the names are fairseq's."""

    beam: int = 5
    lenpen: float = 1.0
    unnormalized: bool = False
    min_len: int = 1
    temperature: float = 1.0
    sampling: bool = False
    sampling_topk: int = -1
    sampling_topp: float = -1.0
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0
    seed: int = 1


@dataclass
class Hypothesis:
    tokens: list[int]  # closed by the end token
    positional_scores: list[float]  # natural log-probability of each token
    score: float  # sum of positional_scores / len(tokens) ** lenpen


class EnsembleDecoder:
    """Several decoders of one vocabulary as one: the mean of their probabilities."""

    def __init__(self, decoders: Sequence[StepDecoder]) -> None:
        self.decoders = list(decoders)
        self.vocab_size = self.decoders[0].vocab_size

    def start(self, net_input: dict[str, Any]) -> tuple[Tensor, Any]:
        return self._joined([decoder.start(net_input) for decoder in self.decoders])

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self._joined([decoder.step(tokens, part) for decoder, part in zip(self.decoders, state, strict=True)])

    def reorder(self, state: Any, rows: Tensor) -> Any:
        return [decoder.reorder(part, rows) for decoder, part in zip(self.decoders, state, strict=True)]

    def _joined(self, answers: list[tuple[Tensor, Any]]) -> tuple[Tensor, Any]:
        log_probs = torch.stack([logits.float().log_softmax(dim=-1) for logits, _ in answers])
        return log_probs.logsumexp(dim=0), [state for _, state in answers]  # softmax takes the division back


def ensemble(decoders: Sequence[StepDecoder]) -> StepDecoder:
    return decoders[0] if len(decoders) == 1 else EnsembleDecoder(decoders)


def search(
    decoder: StepDecoder,
    net_input: dict[str, Any],
    settings: SearchSettings,
    *,
    pad: int,
    end: int,
    max_lengths: Tensor,
    keys: Tensor,
    min_lengths: Tensor | None = None,
    prefixes: Sequence[Sequence[int]] | None = None,
) -> list[list[Hypothesis]]:
    """Hypotheses of each utterance, best first.

    Args:
        max_lengths: (B,) most tokens before the end token.
        keys: (B,) int64 names of the utterances for the random numbers of sampling.
        min_lengths: (B,) fewest tokens before the end token; by default `settings.min_len` for all.
        prefixes: ids that each utterance's hypotheses begin with, and may end with the end token; they come before any
            limit.
    """
    count, beam, device = keys.numel(), settings.beam, keys.device
    least = torch.full((count,), settings.min_len, device=device) if min_lengths is None else min_lengths
    finished: list[list[Hypothesis]] = [[] for _ in range(count)]
    logits, state = decoder.start(net_input)  # (B, V)
    alive = torch.arange(count, device=device)  # which utterances the rows belong to
    state = decoder.reorder(state, alive.repeat_interleave(beam))
    logits = logits.repeat_interleave(beam, dim=0)  # (B * K, V)
    # All beams are the same at first: a search goes on from one of them, a sampler from each.
    scores = torch.full((count, beam), 0.0 if settings.sampling else -torch.inf, device=device)
    scores[:, 0] = 0.0
    tokens = torch.empty((count, beam, 0), dtype=torch.long, device=device)
    places = torch.empty((count, beam, 0), device=device)  # positional scores
    step = 0
    while alive.numel():
        log_probs = (logits.float() / settings.temperature).log_softmax(dim=-1).unflatten(0, (-1, beam))  # (B, K, V)
        if settings.repetition_penalty != 1:
            log_probs = _penalize(log_probs, tokens, settings.repetition_penalty)
        allowed = _allowed(log_probs, tokens, settings, step, pad, end, least[alive], max_lengths[alive])
        if prefixes is not None:
            _force(allowed, prefixes, alive, step)
        if settings.sampling:
            origin, token = _draw(log_probs, allowed, settings, keys[alive], step)
        else:
            origin, token = _best(log_probs.masked_fill(~allowed, -torch.inf) + scores[:, :, None], 2 * beam)
        place = log_probs[torch.arange(alive.numel(), device=device)[:, None], origin, token]  # (B, C)
        total = scores.gather(1, origin) + place
        total = total.masked_fill(
            ~allowed[torch.arange(alive.numel(), device=device)[:, None], origin, token], -torch.inf
        )
        _finish(finished, alive, tokens, places, origin, token, place, total, settings, end)
        chosen = _continuing(token, total, end, beam, settings.sampling)  # (B, K) columns of the candidates
        origin, token, place = origin.gather(1, chosen), token.gather(1, chosen), place.gather(1, chosen)
        scores = total.gather(1, chosen)
        scores = scores.masked_fill(token == end, -torch.inf)
        open_rows = torch.tensor(
            [len(finished[row]) < beam for row in alive.tolist()], dtype=torch.bool, device=device
        ) & scores.isfinite().any(dim=1)
        tokens = torch.cat([_follow(tokens, origin), token[:, :, None]], dim=2)[open_rows]
        places = torch.cat([_follow(places, origin), place[:, :, None]], dim=2)[open_rows]
        rows = (torch.arange(alive.numel(), device=device)[:, None] * beam + origin)[open_rows].flatten()
        alive, scores = alive[open_rows], scores[open_rows]
        if alive.numel():
            logits, state = decoder.step(tokens[:, :, -1].flatten(), decoder.reorder(state, rows))
        step += 1
    return [sorted(hypotheses, key=lambda hypothesis: -hypothesis.score) for hypotheses in finished]


def _allowed(
    log_probs: Tensor,
    tokens: Tensor,
    settings: SearchSettings,
    step: int,
    pad: int,
    end: int,
    min_lengths: Tensor,
    max_lengths: Tensor,
) -> Tensor:
    """Which next tokens (B, K, V) may follow."""
    allowed = torch.ones_like(log_probs, dtype=torch.bool)
    if pad < allowed.size(-1):
        allowed[..., pad] = False
    if settings.no_repeat_ngram_size:
        _forbid_repeats(allowed, tokens, settings.no_repeat_ngram_size)
    at_limit = step >= max_lengths
    allowed[..., end] = (at_limit | (step >= min_lengths))[:, None]
    only_end = torch.zeros_like(allowed)
    only_end[..., end] = True
    return torch.where(at_limit[:, None, None], only_end, allowed)


def _penalize(log_probs: Tensor, tokens: Tensor, penalty: float) -> Tensor:
    """Log-probabilities (B, K, V), times `penalty` where the beam (B, K, step) already holds the token."""
    seen = torch.zeros_like(log_probs, dtype=torch.bool).scatter(2, tokens, True)
    return torch.where(seen, log_probs * penalty, log_probs)


def _force(allowed: Tensor, prefixes: Sequence[Sequence[int]], alive: Tensor, step: int) -> None:
    """Allow (B, K, V) nothing but the prefix where an utterance's has not come to its end."""
    for row, utterance in enumerate(alive.tolist()):
        if step < len(prefixes[utterance]):
            allowed[row] = False
            allowed[row, :, prefixes[utterance][step]] = True


def _forbid_repeats(allowed: Tensor, tokens: Tensor, size: int) -> None:
    """Forbid every token that would complete an n-gram which its beam already holds."""
    length = tokens.size(2)
    if length < size:
        return
    for row, beams in enumerate(tokens.tolist()):
        for k, history in enumerate(beams):
            last = history[length - size + 1 :]
            for i in range(length - size + 1):
                if history[i : i + size - 1] == last:
                    allowed[row, k, history[i + size - 1]] = False


def _best(candidates: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best of (B, K, V): their beams and tokens, (B, C) each."""
    vocab = candidates.size(2)
    flat = candidates.flatten(1).topk(min(count, candidates.flatten(1).size(1)), dim=1).indices
    return flat // vocab, flat % vocab


def _draw(
    log_probs: Tensor, allowed: Tensor, settings: SearchSettings, keys: Tensor, step: int
) -> tuple[Tensor, Tensor]:
    """One token for each beam from its own distribution, by random numbers of (seed, utterance, beam, step)."""
    rows, beam, vocab = log_probs.shape
    candidates = log_probs.masked_fill(~allowed, -torch.inf)
    if settings.sampling_topk > 0:
        least = candidates.topk(min(settings.sampling_topk, vocab), dim=-1).values[..., -1:]
        candidates = candidates.masked_fill(candidates < least, -torch.inf)
    elif settings.sampling_topp > 0:
        ordered, order = candidates.softmax(dim=-1).sort(dim=-1, descending=True)
        beyond = ordered.cumsum(dim=-1) - ordered >= settings.sampling_topp  # the first is never beyond
        candidates = candidates.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -torch.inf)
    words = torch.arange(vocab, device=keys.device)
    noise = torch.stack(
        [keyed_uniform(keys, words, (settings.seed * 1_000_003 + step) * beam + k) for k in range(beam)], dim=1
    )  # (B, K, V)
    token = (candidates - torch.log(-torch.log(noise))).argmax(dim=-1)  # Gumbel-max, (B, K)
    return torch.arange(beam, device=keys.device).expand(rows, beam), token


def _finish(
    finished: list[list[Hypothesis]],
    alive: Tensor,
    tokens: Tensor,
    places: Tensor,
    origin: Tensor,
    token: Tensor,
    place: Tensor,
    total: Tensor,
    settings: SearchSettings,
    end: int,
) -> None:
    """Close the hypotheses whose end is among their utterance's `beam` best candidates."""
    ending = (token == end) & total.isfinite()
    ending[:, settings.beam :] = False
    for row, column in ending.nonzero().tolist():
        hypotheses = finished[int(alive[row])]
        if len(hypotheses) == settings.beam:
            continue
        k = int(origin[row, column])
        ids = [*tokens[row, k].tolist(), end]
        score = float(total[row, column])
        if not settings.unnormalized:
            score /= len(ids) ** settings.lenpen
        hypotheses.append(Hypothesis(ids, [*places[row, k].tolist(), float(place[row, column])], score))


def _continuing(token: Tensor, total: Tensor, end: int, beam: int, sampling: bool) -> Tensor:
    """Columns (B, K) of the candidates that go on: the best that do not end; when sampling, each beam's own."""
    if sampling:
        return torch.arange(beam, device=token.device).expand(token.size(0), beam)
    goes_on = (token != end) & total.isfinite()
    columns = torch.arange(token.size(1), device=token.device).expand_as(token)
    return torch.where(goes_on, columns, columns + token.size(1)).argsort(dim=1)[:, :beam]


def _follow(history: Tensor, origin: Tensor) -> Tensor:
    """Histories (B, K, step) of the beams that `origin` (B, K) names."""
    return history.gather(1, origin[:, :, None].expand(-1, -1, history.size(2)))
