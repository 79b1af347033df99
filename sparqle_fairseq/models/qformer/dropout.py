"""Dropout and attention with dropout as training on CPUs needs them: drawn as bits, and kept as bits.

torch draws a number for each element that may be left out, and keeps it for the backward pass in four bytes; of
attention it keeps the probabilities, too. Here four elements share one draw of 64 bits, one bit of each is kept, and
probabilities are computed again, as in FlashAttention (Dao et al. 2022, arXiv 2205.14135). On other devices torch's own
kernels do that already and are used.

Which elements are left out follows from torch's random state alone, as it does there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparqle_fairseq.models.qformer.saved import picked

_CHOICES = 1 << 16  # 16 random bits decide an element
# Elements of attention that are at work at a time, unless one row has more: few beside what is saved.
_CHUNK = 1 << 16


class Kept:
    """Which of `count` elements are kept: each with the same probability, and one bit in memory."""

    def __init__(self, count: int, dropout: float, like: Tensor) -> None:
        dropped = min(max(round(dropout * _CHOICES), 1), _CHOICES - 1)
        self.bits = torch.empty(-(-count // 8), dtype=torch.uint8, device=like.device)
        seed = int(torch.empty((), dtype=torch.int64).random_())
        if type(self.bits) is Tensor:  # and not one without bytes, of which memory is foretold
            self.bits.copy_(torch.from_numpy(_drawn_bits(seed, self.bits.numel(), dropped)))
        # What is kept grows, so that the mean stays.
        self.eights = _eights(_CHOICES / (_CHOICES - dropped), like)

    def factors(self, start: int, out: Tensor) -> Tensor:
        """0 or the gain for elements from `start` on, as many as fill `out`; both are multiples of 8."""
        bits = self.bits[start // 8 : (start + out.numel()) // 8].to(torch.int32)
        torch.index_select(self.eights, 0, bits, out=out.view(-1, 8))
        return out

    def times(self, x: Tensor) -> Tensor:
        """`x`, of as many elements as there are, with the others 0."""
        count = x.numel()
        factors = self.factors(0, x.new_empty(self.bits.numel() * 8))
        return factors[:count].view(x.shape).mul_(x)


def _drawn_bits(seed: int, count: int, dropped: int) -> Any:
    """`count` bytes of bits that are 0 with probability `dropped` / `_CHOICES`, the first in the lowest place.

    NumPy draws, compares and packs in a third of the time that torch takes on a CPU.
    """
    draws = numpy.random.Generator(numpy.random.SFC64(seed)).integers(
        -(1 << 63), 1 << 63, size=2 * count, dtype=numpy.int64
    )
    return numpy.packbits(draws.view(numpy.int16) >= dropped - _CHOICES // 2, bitorder="little")


def _eights(gain: float, like: Tensor) -> Tensor:
    """Row b (8,) has the gain where b has a bit, the lowest first: (256, 8)."""
    byte, bit = torch.arange(256, device=like.device)[:, None], torch.arange(8, device=like.device)
    return ((byte >> bit) & 1).to(like.dtype).mul_(gain)


def _drawn_here(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


class Dropout(nn.Dropout):
    """In training mode, each element is 0 with probability `p`, and what is left grows so that the mean stays."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p or not _drawn_here(x):
            return super().forward(x)
        return _Dropped.apply(x, self.p)

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        """`residual + self(x)`, of one shape, in one pass over memory where numbers are drawn here."""
        if not self.training or not self.p or not _drawn_here(x) or x.dtype != residual.dtype:
            return residual + self(x)
        return _DroppedAdded.apply(x, residual, self.p)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dropout: float) -> Tensor:
        ctx.kept = Kept(x.numel(), dropout, x)
        return ctx.kept.times(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.kept.times(gradient), None


class _DroppedAdded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, dropout: float) -> Tensor:
        count = x.numel()
        ctx.kept = Kept(count, dropout, x)
        factors = ctx.kept.factors(0, x.new_empty(ctx.kept.bits.numel() * 8))[:count].view(x.shape)
        return torch.addcmul(residual, x, factors, out=factors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        return ctx.kept.times(gradient), gradient, None


def attend(
    query: Tensor, key: Tensor, value: Tensor, keep: Tensor | None, dropout: float, rows: Tensor | None = None
) -> Tensor:
    """Scaled dot-product attention with dropout of its probabilities.

    `query` (B, heads, N, D), `key` and `value` (B, heads, S, D); `keep` broadcasts to (B, heads, N, S) and is True
    where attending is allowed, somewhere for each of the N. With `rows` (B,), row b meets row `rows[b]` of keys and
    values, of which there may be any number. Returns (B, heads, N, D).
    """
    drawn = bool(dropout) and _drawn_here(query)
    if rows is not None and not (drawn and type(rows) is Tensor):  # they have no bytes where memory is foretold
        key, value, rows = picked(key, rows), picked(value, rows), None
    if not drawn:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=keep, dropout_p=dropout)
    barred = None
    if keep is not None:
        # Not -inf: where nothing may be attended to, that would not be a number.
        barred = torch.zeros_like(keep, dtype=query.dtype).masked_fill_(~keep, torch.finfo(query.dtype).min)
    met = _Met(None if rows is None else rows.tolist(), *_ends(keep, query.size(0)))
    return _Attended.apply(query, key, value, barred, met, dropout)


def _ends(keep: Tensor | None, rows: int) -> tuple[list[int] | None, bool]:
    """Behind which place nobody of a row may look, and whether somebody may not look at a place before."""
    if keep is None or keep.size(1) > 1 or keep.size(2) > 1 or type(keep) is not Tensor:
        return None, True
    seen = keep[:, 0, 0]  # (B or 1, S)
    last = (seen * torch.arange(1, seen.size(1) + 1)).amax(dim=1)
    return last.clamp(min=1).expand(rows).tolist(), not torch.equal(seen.sum(dim=1), last)


@dataclass(frozen=True)
class _Met:
    """Which keys and values each row of the queries meets."""

    rows: list[int] | None  # None: those of the same row
    ends: list[int] | None  # how many of its places; None: all
    gaps: bool  # whether some of these are barred

    @property
    def all_once(self) -> bool:
        return self.rows is None and self.ends is None

    def length(self, part: slice, longest: int) -> int:
        return longest if self.ends is None else max(self.ends[part])

    def of(self, whole: Tensor, part: slice, length: int) -> Tensor:
        """Those (rows, heads, length, D) that a part of the rows meets; copied only if they are several picked ones."""
        if self.rows is None:
            return whole[part, :, :length]
        rows = self.rows[part]
        return (whole[rows[0] : rows[0] + 1] if len(rows) == 1 else whole[rows])[:, :, :length]

    def add(self, whole: Tensor, part: slice, found: Tensor) -> None:
        """Give `found`, their gradient, to the gradient of all, which is 0 before unless `all_once`."""
        into = whole[:, :, : found.size(2)]
        if self.rows is None:
            into[part] = found
        elif len(rows := self.rows[part]) == 1:
            into[rows[0]] += found[0]
        else:
            into.index_add_(0, torch.tensor(rows), found)


class _Attended(torch.autograd.Function):
    """Some rows of the batch at a time, so that probabilities never stand in memory for all of them."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, barred: Tensor | None, met: _Met, dropout: float
    ) -> Tensor:
        rows, heads, places, width = query.shape
        room = _room(query, key)
        kept = Kept(rows * room, dropout, query)
        # Laid out as (B, N, heads, D), which is how it is read next.
        mixed = query.new_empty(rows, places, heads, width).transpose(1, 2)
        for part, _, _, shares, factors, _ in _chunks(query, key, barred, met, kept):
            mixed[part] = _product(factors.mul_(shares), met.of(value, part, shares.size(3)))
        ctx.save_for_backward(query, key, value, barred, mixed)
        ctx.kept, ctx.met = kept, met
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, barred, mixed = ctx.saved_tensors
        met: _Met = ctx.met
        scale = query.size(-1) ** -0.5
        to_query, to_key, to_value = (_empty_like(x) for x in (query, key, value))
        if not met.all_once:
            to_key.zero_()
            to_value.zero_()
        # What the softmax takes from each row: the sum over its probabilities times their gradients.
        common = (gradient * mixed).sum(dim=-1, keepdim=True)  # (B, heads, N, 1)
        for part, asked, keys, shares, factors, spare in _chunks(query, key, barred, met, ctx.kept):
            own = gradient[part]
            to_shares = _product(own, met.of(value, part, shares.size(3)).transpose(-1, -2), spare)
            dropped = factors.mul_(shares)
            met.add(to_value, part, _product(dropped.transpose(-1, -2), own))
            to_scores = to_shares.mul_(dropped).addcmul_(shares, common[part], value=-1)
            to_query[part] = _product(to_scores, keys)
            met.add(to_key, part, _product(to_scores.transpose(-1, -2), asked))
        return to_query.mul_(scale), to_key, to_value, None, None, None


def _room(query: Tensor, key: Tensor) -> int:
    """Bits of a row of the batch, filled up to whole bytes."""
    return -(-query.size(1) * query.size(2) * key.size(2) // 8) * 8


def _chunks(
    query: Tensor, key: Tensor, barred: Tensor | None, met: _Met, kept: Kept
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor, Tensor, Tensor]]:
    """Some rows of the batch, their scaled queries, the keys they meet, their probabilities (rows, heads, N, S) and
    what these are multiplied by, until all had their turn; and room for as many numbers. The next turn overwrites the
    last three: fresh memory is slow.
    """
    rows, heads, places, _ = query.shape
    room = _room(query, key)
    step = min(max(1, _CHUNK // max(room, 1)), rows)
    scale = query.size(-1) ** -0.5
    rooms = [query.new_empty(step, room) for _ in range(3)]
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        taken, length = part.stop - start, met.length(part, key.size(2))
        shape, count = (taken, heads, places, length), heads * places * length
        shares, spare = (own[:taken, :count].view(shape) for own in rooms[:2])
        asked = query[part] * scale  # fewer numbers than there are scores
        keys = met.of(key, part, length)
        scores = _product(asked, keys.transpose(-1, -2), spare)
        if barred is not None and (taken > 1 or met.gaps):
            scores += (barred if barred.size(0) == 1 else barred[part])[..., :length]
        torch.softmax(scores, dim=-1, out=shares)
        filled = -(-count // 8) * 8 if taken == 1 else room
        factors = kept.factors(start * room, rooms[2][:taken, :filled])[:, :count].view(shape)
        yield part, asked, keys, shares, factors, spare


def _product(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    if left.size(0) > 1:
        return torch.matmul(left, right, out=out)
    # One row as a batch of its heads: MKL reads them where they lie. Several rows would be copied first.
    return torch.bmm(left[0], right[0], out=None if out is None else out[0])[None]


def _empty_like(x: Tensor) -> Tensor:
    """In the layout of (B, positions, heads, D), which is how keys, values and queries are made."""
    return x.new_empty(x.size(0), x.size(2), x.size(1), x.size(3)).transpose(1, 2)
