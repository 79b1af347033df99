"""Beam search and sampling over any decoder that gives logits token by token.

B utterances, K beams, V vocabulary. An utterance's hypotheses depend on nothing else in its batch: limits, finished
beams and random numbers are its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sparqle_fairseq.generate.limits import Ended, Limits
from sparqle_fairseq.generate.rules import force_prefixes, free_tokens, only, penalize_repeats
from sparqle_fairseq.generate.sampling import draw
from sparqle_fairseq.generate.stopping import Stopped, Stopping, StopTexts, mask_of, scores_of


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
    ended: Ended = "end"
    written: list[int] | None = None  # what the model wrote in place of the end and before, where a stop text ended it


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
    """
    stopping = None if stop is None else Stopping(stop, prefixes, limits.fewest)
    count, beam, device = keys.numel(), settings.beam, keys.device
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
            log_probs = penalize_repeats(log_probs, tokens, settings.repetition_penalty)
        may_end, must_end = step >= limits.fewest[alive], step >= limits.most[alive]  # (B,)
        free = free_tokens(
            log_probs, tokens, pad=pad, end=end, may_end=may_end | must_end, ngram=settings.no_repeat_ngram_size
        )
        allowed = torch.where(must_end[:, None, None], only(end, like=free), free)
        if prefixes is not None:
            must_end = must_end & ~force_prefixes(allowed, [prefixes[row] for row in alive.tolist()], step)
        # A hypothesis is cut where it would have gone on: where its likeliest token is not the end that it is given.
        cut = must_end[:, None] & (log_probs.masked_fill(~free, -torch.inf).argmax(dim=-1) != end)  # (B, K)
        rows = torch.arange(alive.numel(), device=device)[:, None]
        origin, token, place, total = _candidates(log_probs, allowed, scores, settings, keys[alive], step)  # (B, C)
        stopped: dict[tuple[int, int], Stopped] = {}
        if stopping is not None:
            stopped, early = stopping.look(tokens, origin, token, total.isfinite(), alive)
            while early:  # as the end token, they may not come yet
                for row, k, new in early:
                    allowed[row, k, new] = False
                origin, token, place, total = _candidates(log_probs, allowed, scores, settings, keys[alive], step)
                stopped, early = stopping.look(tokens, origin, token, total.isfinite(), alive)
            token = token.masked_fill(mask_of(stopped, like=token), end)
        for row, k, column in _endings(token, total, origin, end, beam):
            utterance = int(alive[row])
            if len(finished[utterance]) < beam:
                ids = [*tokens[row, k].tolist(), end]
                ended = limits.causes[utterance] if bool(cut[row, k]) else "end"
                own = [*places[row, k].tolist(), float(place[row, column])]
                written = None
                if (row, column) in stopped:
                    found = stopped[row, column]
                    ids, own, ended, written = [*found.kept, end], scores_of(found, own), "stop", found.written
                score = float(total[row, column]) / (1 if settings.unnormalized else len(ids) ** settings.lenpen)
                finished[utterance].append(Hypothesis(ids, own, score, ended, written))
        chosen = _continuing(token, total, end, beam, settings.sampling)  # (B, K) columns of the candidates
        origin, token, place = origin.gather(1, chosen), token.gather(1, chosen), place.gather(1, chosen)
        scores = total.gather(1, chosen)
        scores = scores.masked_fill(token == end, -torch.inf)
        open_rows = torch.tensor(
            [len(finished[row]) < beam for row in alive.tolist()], dtype=torch.bool, device=device
        ) & scores.isfinite().any(dim=1)
        tokens = torch.cat([_follow(tokens, origin), token[:, :, None]], dim=2)[open_rows]
        places = torch.cat([_follow(places, origin), place[:, :, None]], dim=2)[open_rows]
        kept = (rows * beam + origin)[open_rows].flatten()
        alive, scores = alive[open_rows], scores[open_rows]
        if alive.numel():
            logits, state = decoder.step(tokens[:, :, -1].flatten(), decoder.reorder(state, kept))
        step += 1
    return [sorted(hypotheses, key=lambda hypothesis: -hypothesis.score) for hypotheses in finished]


def _candidates(
    log_probs: Tensor, allowed: Tensor, scores: Tensor, settings: SearchSettings, keys: Tensor, step: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Next tokens, C of each utterance: their beam, the token, its log-probability and the sum with its beam's."""
    beam = scores.size(1)
    rows = torch.arange(scores.size(0), device=scores.device)[:, None]
    if settings.sampling:
        token = draw(
            log_probs.masked_fill(~allowed, -torch.inf),
            settings.seed,
            keys,
            step,
            topk=settings.sampling_topk,
            topp=settings.sampling_topp,
        )
        origin = torch.arange(beam, device=scores.device).expand_as(token)
    else:
        origin, token = _best(log_probs.masked_fill(~allowed, -torch.inf) + scores[:, :, None], 2 * beam)
    place = log_probs[rows, origin, token]
    total = (scores.gather(1, origin) + place).masked_fill(~allowed[rows, origin, token], -torch.inf)
    return origin, token, place, total


def _best(candidates: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best of (B, K, V): their beams and tokens, (B, C) each."""
    vocab = candidates.size(2)
    flat = candidates.flatten(1).topk(min(count, candidates.flatten(1).size(1)), dim=1).indices
    return flat // vocab, flat % vocab


def _endings(token: Tensor, total: Tensor, origin: Tensor, end: int, beam: int) -> Iterator[tuple[int, int, int]]:
    """(row, beam, column) of the hypotheses whose end is among their utterance's `beam` best candidates."""
    ending = (token == end) & total.isfinite()
    ending[:, beam:] = False
    for row, column in ending.nonzero().tolist():
        yield row, int(origin[row, column]), column


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
