"""Where a mask is True, as numbers: without a wait for the device where the program knows how many there are."""

from __future__ import annotations

from torch import Tensor


def places_where(mask: Tensor, count: int | None = None) -> Tensor:
    """The places (K,) in the flat `mask` where it is True, in order.

    `count` is K, which a device is asked for otherwise: what is True sorts before what is not.
    """
    flat = mask.flatten()
    if count is None:
        return flat.nonzero()[:, 0]
    return flat.byte().argsort(descending=True, stable=True)[:count]
