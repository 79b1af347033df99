"""Where the positions of a pass stand: in rows of one length, or one after the other without padding. Plain PyTorch.

Linear layers, norms and dropout look at a position by itself, and most of a step is spent there; attention alone needs
rows. So where a batch has padding, positions are packed, and attention spreads them out. B rows, Q queries and L tokens
of a row, of which K are real in all rows together; H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparqle_fairseq.models.qformer.saved import picked


@dataclass(frozen=True)
class Rows:
    """`x` is (B, Q + L, H): in each row the queries, and then its text, padding and all."""

    queries: int

    def spread(self, x: Tensor) -> Tensor:
        """As rows: (B, Q + L, H)."""
        return x

    def gathered(self, rows: Tensor) -> Tensor:
        """What `spread` gave, as `x` stands."""
        return rows

    def apart(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The queries (B, Q, H) and the text (B, L, H)."""
        # Split, and not sliced twice: the gradient of a slice is as large as all of `x`, and both would be added.
        query, text = x.split([self.queries, x.size(1) - self.queries], dim=1)
        return query, text

    def joined(self, query: Tensor, text: Tensor) -> Tensor:
        """The reverse of `apart`."""
        return torch.cat([query, text], dim=1)

    def first(self, x: Tensor, wanted: int) -> tuple[Tensor, Rows]:
        """The first positions of each row: (B, wanted, H)."""
        return x[:, :wanted], Rows(min(self.queries, wanted))


@dataclass(frozen=True)
class Packed:
    """`x` is (B * Q + K, H): the queries of all rows, and then the real tokens of all rows."""

    rows: int
    queries: int
    length: int  # L
    places: Tensor  # (B * Q + K,) where each stands in the flat (B * (Q + L))

    @classmethod
    def of(cls, queries: int, real: Tensor) -> Packed:
        """`real` (B, L) is True at tokens that are no padding."""
        rows, length = real.shape
        every = torch.arange(rows * (queries + length)).view(rows, -1)
        places = torch.cat([every[:, :queries].flatten(), every[:, queries:][real]])
        return cls(rows, queries, length, places)

    def spread(self, x: Tensor) -> Tensor:
        """As rows, with 0 at padding: (B, Q + L, H)."""
        whole = _Spread.apply(x, self.places, self.rows * (self.queries + self.length))
        return whole.view(self.rows, -1, x.size(1))

    def gathered(self, rows: Tensor) -> Tensor:
        """What `spread` gave, as `x` stands; padding is left behind."""
        return picked(rows.flatten(0, 1), self.places)

    def apart(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The queries (B, Q, H) and the text (K, H)."""
        query, text = x.split([self.rows * self.queries, len(x) - self.rows * self.queries])
        return query.view(self.rows, self.queries, x.size(1)), text

    def joined(self, query: Tensor, text: Tensor) -> Tensor:
        """The reverse of `apart`."""
        return torch.cat([query.flatten(0, 1), text])

    def first(self, x: Tensor, wanted: int) -> tuple[Tensor, Rows]:
        """The first positions of each row, with 0 at padding: (B, wanted, H)."""
        if wanted == self.queries:
            return self.apart(x)[0], Rows(wanted)
        return Rows(self.queries).first(self.spread(x), wanted)


class _Spread(torch.autograd.Function):
    """Rows (K, H) at their `places` of `count`, with 0 elsewhere. torch's `index_copy` would keep the rows as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, count: int) -> Tensor:
        ctx.places = places
        return x.new_zeros(count, x.size(1)).index_copy_(0, places, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(0, ctx.places), None, None


Layout = Rows | Packed
PADDED = Rows(0)  # rows of one kind, whose padding is computed


def layout_of(queries: int, padding_mask: Tensor) -> Layout:
    """Packed where a text (B, L) has padding, and where packing costs less than it saves.

    That is on a CPU alone: to pick positions elsewhere, the program waits until the device has said how many.
    """
    if padding_mask.device.type == "cpu" and bool(padding_mask.any()):
        return Packed.of(queries, ~padding_mask)
    return Rows(queries)
