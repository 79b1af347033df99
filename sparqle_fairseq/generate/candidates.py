"""The best next tokens of every utterance, found on the device and read from there in one piece.

B utterances, K beams, V vocabulary, C candidates of an utterance. The logits keep the order of the log-probabilities,
so the best are found among them, and what makes probabilities of them (the logarithm of their sum of exponentials) is
taken from the few that were found. Only what asks for every token's log-probability makes all of them: sampling, and a
penalty on repeats.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sparqle_fairseq.generate.limits import Limits
from sparqle_fairseq.generate.rules import forbid_repeats, penalize_repeats, prefix_table
from sparqle_fairseq.generate.sampling import draw
from sparqle_fairseq.generate.settings import SearchSettings

# Tokens that the search for the best looks at as one: their greatest first, then into the best of these.
_BLOCK = 64
# Logits whose exponentials are made at a time: more of them leave a CPU's caches, fewer are more kernels elsewhere.
_AT_ONCE, _AT_ONCE_ON_CPU = 1 << 21, 1 << 18


class Row(NamedTuple):
    """One utterance's candidates, best first, as the host sees them."""

    origin: list[int]  # the beam that each goes on from
    token: list[int]
    place: list[float]  # the token's log-probability
    total: list[float]  # the sum with its beam's; -inf where there is no such candidate
    chosen: list[int]  # the columns that the beams go on with
    cut: list[bool]  # of each beam, whether its end is none of its own
    finite: bool  # whether the decoder's numbers are

    def ended(self, columns: Collection[int], end: int, sampling: bool) -> Row:
        """The same where the candidates of these columns end; `Candidates.ended` says so on the device."""
        token = [end if column in columns else token for column, token in enumerate(self.token)]
        if sampling:
            return self._replace(token=token)
        goes_on = [token[column] != end and math.isfinite(self.total[column]) for column in range(len(token))]
        best_first = sorted(range(len(token)), key=lambda column: not goes_on[column])
        return self._replace(token=token, chosen=best_first[: len(self.chosen)])


class Going(NamedTuple):
    """The beams of the utterances that go on."""

    alive: Tensor  # (B,) which utterances these are
    logits: Tensor  # (B, K, V) of their next tokens, in any precision
    scores: Tensor  # (B, K), -inf for a beam that is none
    tokens: Tensor  # (B, K, step) what they hold, where `NextTokens.reads_history`


@dataclass(frozen=True)
class Candidates:
    """Those of all utterances, on the device."""

    origin: Tensor  # (B, C)
    token: Tensor  # (B, C)
    place: Tensor  # (B, C)
    total: Tensor  # (B, C)
    chosen: Tensor  # (B, beam)
    cut: Tensor  # (B, K)
    norm: Tensor  # (B, K) logarithm of the sum of exponentials
    end: int

    def read(self) -> list[Row]:
        """All of it on the host, by one wait for the device."""
        parts = [self.origin, self.token, self.place, self.total, self.chosen, self.cut, self.norm]
        # float64, which one of them makes of all, holds ids and float32 as they are.
        numbers = torch.cat([*parts[:-1], self.norm.double()], dim=1).cpu()
        origin, token, place, total, chosen, cut, norm = numbers.split([part.size(1) for part in parts], dim=1)
        columns = (
            *(part.long().tolist() for part in (origin, token)),
            *(part.tolist() for part in (place, total)),
            chosen.long().tolist(),
            cut.bool().tolist(),
            norm.isfinite().all(dim=1).tolist(),
        )
        return [Row(*row) for row in zip(*columns, strict=True)]

    def ended(self, where: Tensor, sampling: bool) -> Candidates:
        """The same where some candidates (B, C) end."""
        token = self.token.masked_fill(where, self.end)
        chosen = _going_on(token, self.total, self.end, self.chosen.size(1), sampling)
        return replace(self, token=token, chosen=chosen)


class NextTokens:
    """Finds the candidates of a batch, step by step.

    Args:
        settings: how to search.
        limits: of each utterance, fewest and most tokens before the end token.
        pad, end: ids; `pad` may lie beyond the vocabulary.
        keys: (B,) int64 names of the utterances for the random numbers of sampling.
        prefixes: ids that each utterance's hypotheses begin with.
    """

    def __init__(
        self,
        settings: SearchSettings,
        limits: Limits,
        *,
        pad: int,
        end: int,
        keys: Tensor,
        prefixes: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.settings, self.pad, self.end, self.keys = settings, pad, end, keys
        self._fewest, self._most = limits.fewest, limits.most
        # The host's own copies say when a step needs no rule at all.
        self._lengths = torch.stack([limits.fewest, limits.most]).T.tolist()
        self._prefix_lengths = [len(prefix) for prefix in prefixes or ()]
        self._prefixes = prefix_table(prefixes, keys.device) if any(self._prefix_lengths) and prefixes else None

    @property
    def reads_history(self) -> bool:
        return bool(self.settings.no_repeat_ngram_size) or self.settings.repetition_penalty != 1

    def __call__(
        self,
        going: Going,
        utterances: Sequence[int],
        step: int,
        banned: Sequence[tuple[int, int, int]] = (),
    ) -> Candidates:
        """The candidates of one step; the logits are left as they are.

        Args:
            going: what goes on.
            utterances: `going.alive` on the host.
            step: tokens that the beams hold.
            banned: (row, beam, token) that may not come.
        """
        settings, end = self.settings, self.end
        alive, logits, scores, tokens = going
        norm = _log_sums(logits, settings.temperature)  # (B, K)
        values, price = self._values(logits, norm, tokens)
        forced = self._forced(values, price, step, utterances, alive)
        ends_early = any(step < self._lengths[i][0] and step < self._lengths[i][1] for i in utterances)
        may_end = ((step >= self._fewest[alive]) | (step >= self._most[alive]))[:, None, None] if ends_early else None
        if banned or settings.no_repeat_ngram_size:
            values = values.clone()
        if settings.no_repeat_ngram_size:
            forbid_repeats(values, tokens, settings.no_repeat_ngram_size)
        if banned:
            values[tuple(torch.tensor(banned, device=values.device).T)] = -torch.inf
        # So many more, as some of the best may be forbidden.
        forbidden = int(self.pad < logits.size(-1)) + int(may_end is not None)
        count = 1 if settings.sampling or settings.beam == 1 else 2 * settings.beam
        best, token = largest(values, (1 if settings.sampling else count) + forbidden)  # (B, K, n)
        if forbidden:
            best = self._without_forbidden(best, token, may_end)
        if forced is None:
            cut = torch.zeros_like(norm, dtype=torch.bool)
        else:
            # A hypothesis is cut where it would have gone on: its likeliest token is not the end that it is given.
            likeliest = token.gather(2, best.argmax(dim=2, keepdim=True))[:, :, 0]  # (B, K)
            cut = forced.by_limit[:, None] & (likeliest != end)
        if settings.sampling:
            best, token = self._drawn(values, may_end, alive, step)
        place = price(best)
        if forced is not None:
            alone = forced.token[:, None, None]
            here, first = alone >= 0, torch.arange(token.size(2), device=token.device) == 0
            token = torch.where(here & first, alone, token)
            place = torch.where(here, torch.where(first, forced.place[:, :, None], -torch.inf), place)
        return self._best_of_all(token, place, scores, count, cut, norm)

    def _values(self, logits: Tensor, norm: Tensor, tokens: Tensor) -> tuple[Tensor, _Price]:
        """Numbers (B, K, V) in the order of the log-probabilities, and what makes these of some of them."""
        settings = self.settings
        if not settings.sampling and settings.repetition_penalty == 1:
            return logits, _Price(norm, settings.temperature)
        values = logits.float() / settings.temperature - norm[:, :, None]
        if settings.repetition_penalty != 1:
            values = penalize_repeats(values, tokens, settings.repetition_penalty)
        return values, _Price(None, 1.0)

    def _forced(
        self, values: Tensor, price: _Price, step: int, utterances: Sequence[int], alive: Tensor
    ) -> _Forced | None:
        """Tokens that prefixes and limits force at this step; None without any."""
        by_prefix = self._prefixes is not None and any(step < self._prefix_lengths[i] for i in utterances)
        by_limit = any(step >= self._lengths[i][1] for i in utterances)
        if not by_prefix and not by_limit:
            return None
        must_end = step >= self._most[alive]
        forced = torch.where(must_end, self.end, -1)
        if by_prefix:
            assert self._prefixes is not None
            prefix = self._prefixes[alive, step]
            forced, must_end = torch.where(prefix >= 0, prefix, forced), must_end & (prefix < 0)
        columns = forced.clamp(min=0)[:, None, None].expand(-1, values.size(1), 1)
        return _Forced(forced, must_end, price(values.gather(2, columns))[:, :, 0])

    def _without_forbidden(self, best: Tensor, token: Tensor, may_end: Tensor | None) -> Tensor:
        """-inf among the values (B, K, n) of tokens (B, K, n) that may not come."""
        forbidden = token == self.pad
        if may_end is not None:
            forbidden = forbidden | ((token == self.end) & ~may_end)
        return best.masked_fill(forbidden, -torch.inf)

    def _drawn(self, values: Tensor, may_end: Tensor | None, alive: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(B, K, 1) each: the value of the token that each beam draws, and the token."""
        settings = self.settings
        words = torch.arange(values.size(2), device=values.device).expand(*values.shape[:2], -1)
        allowed = self._without_forbidden(values, words, may_end)
        token = draw(
            allowed, settings.seed, self.keys[alive], step, topk=settings.sampling_topk, topp=settings.sampling_topp
        )
        return allowed.gather(2, token[:, :, None]), token[:, :, None]

    def _best_of_all(
        self, token: Tensor, place: Tensor, scores: Tensor, count: int, cut: Tensor, norm: Tensor
    ) -> Candidates:
        """The best `count` of (B, K, n), over all beams of an utterance; when sampling, one of each beam."""
        settings = self.settings
        total = (scores[:, :, None] + place).flatten(1)  # (B, K * n)
        if settings.sampling:
            origin = torch.arange(settings.beam, device=token.device).expand_as(total)
            token, place = token.flatten(1), place.flatten(1)
        else:
            size = token.size(2)
            total, at = total.topk(min(count, total.size(1)), dim=1)
            origin, token, place = at // size, token.flatten(1).gather(1, at), place.flatten(1).gather(1, at)
            lacking = settings.beam - total.size(1)
            if lacking > 0:  # fewer tokens than beams
                origin, token = functional.pad(origin, (0, lacking)), functional.pad(token, (0, lacking))
                place, total = (functional.pad(x, (0, lacking), value=-torch.inf) for x in (place, total))
        chosen = _going_on(token, total, self.end, settings.beam, settings.sampling)
        return Candidates(origin, token, place, total, chosen, cut, norm, self.end)


class _Forced(NamedTuple):
    """Tokens that come whatever their log-probabilities."""

    token: Tensor  # (B,), -1 where there is none
    by_limit: Tensor  # (B,) whether it is the end because the longest length is reached
    place: Tensor  # (B, K) its log-probability


class _Price(NamedTuple):
    """Log-probabilities of values: their logits', or they are these already."""

    norm: Tensor | None  # (B, K)
    temperature: float

    def __call__(self, values: Tensor) -> Tensor:
        """(B, K, n)."""
        return values.float() if self.norm is None else values.float() / self.temperature - self.norm[:, :, None]


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest (or all) along the last of (..., V), largest first, and their places.

    The largest lie in the blocks of largest maxima, and finding a maximum is much faster than sorting.
    """
    size = values.size(-1)
    count = min(count, size)
    whole = size - size % _BLOCK
    if whole // _BLOCK <= 2 * count:
        return values.topk(count, dim=-1)
    blocks = values[..., :whole].unflatten(-1, (-1, _BLOCK))
    at = blocks.amax(dim=-1).topk(count, dim=-1).indices  # (..., count)
    within = torch.arange(_BLOCK, device=values.device)
    places = (at[..., None] * _BLOCK + within).flatten(-2)  # (..., count * block)
    found = blocks.gather(-2, at[..., None].expand(*at.shape, _BLOCK)).flatten(-2)
    if whole < size:
        rest = torch.arange(whole, size, device=values.device)
        places = torch.cat([places, rest.expand(*places.shape[:-1], -1)], dim=-1)
        found = torch.cat([found, values[..., whole:]], dim=-1)
    best, at = found.topk(count, dim=-1)
    return best, places.gather(-1, at)


def _log_sums(logits: Tensor, temperature: float) -> Tensor:
    """Logarithm of the sum of exponentials of `logits` (B, K, V) / temperature, in float32: (B, K)."""
    rows = logits.flatten(0, 1)
    parts = rows.split(max(1, (_AT_ONCE_ON_CPU if rows.is_cpu else _AT_ONCE) // rows.size(1)))
    numbers = (part.float() if temperature == 1 else part.float() / temperature for part in parts)
    return torch.cat([part.logsumexp(dim=1) for part in numbers]).view(logits.shape[:2])


def _going_on(token: Tensor, total: Tensor, end: int, beam: int, sampling: bool) -> Tensor:
    """Columns (B, beam) of the candidates that go on: the best that do not end; when sampling, each beam's own."""
    columns = torch.arange(token.size(1), device=token.device).expand_as(token)
    if sampling:
        return columns
    goes_on = (token != end) & total.isfinite()
    return torch.where(goes_on, columns, columns + token.size(1)).argsort(dim=1)[:, :beam]
