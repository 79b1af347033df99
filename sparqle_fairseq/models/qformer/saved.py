"""What a step need not keep for its backward pass: what is cheap to make again. Plain PyTorch.

Autograd keeps the inputs of every matrix product. Some of them follow by a few operations an element from what is kept
anyway (the output of an activation function or of a LayerNorm, rows picked from a table): within `thrifty`, these are
made again when the backward pass asks for them. The numbers are the same ones.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Make = Callable[[], Tensor]


class _Recipe:
    """How a tensor is made again: once for all who ask for it, and forgotten when each of them did."""

    def __init__(self, make: Make) -> None:
        self.make = make
        self.askers = 0
        self.left = 0
        self.made: Tensor | None = None

    def __call__(self) -> Tensor:
        made = self.made
        if made is None:
            with torch.no_grad():
                made = self.make()
            self.left = self.askers
        self.left -= 1
        self.made = made if self.left > 0 else None
        return made


class _Later:
    """A tensor over all of what a recipe makes."""

    def __init__(self, recipe: _Recipe, tensor: Tensor) -> None:
        self.recipe, self.shape, self.stride = recipe, tensor.shape, tensor.stride()
        recipe.askers += 1

    def __call__(self) -> Tensor:
        made = self.recipe()
        return made.as_strided(self.shape, self.stride, made.storage_offset())


Known = dict[tuple[int, int], tuple["weakref.ref[Tensor]", _Recipe]]
_known: ContextVar[Known | None] = ContextVar("known", default=None)


@contextmanager
def thrifty() -> Iterator[None]:
    """Within, what `can_be_made_again` names is not kept for the backward pass."""
    if not torch.is_grad_enabled():
        yield
        return
    before = _known.set({})
    try:
        with torch.autograd.graph.saved_tensors_hooks(_pack, _unpack):
            yield
    finally:
        _known.reset(before)


def can_be_made_again(tensor: Tensor, make: Make) -> None:
    """Say that `make` gives the numbers of `tensor`, in the same layout, of what the backward pass keeps anyway.

    It runs without gradients. It must hold neither `tensor` nor anything else that would not be kept.
    """
    known = _known.get()
    if known is not None:
        known[_place(tensor)] = (weakref.ref(tensor), _Recipe(make))


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor.to(dtype)`, which can be made again where the tensor can."""
    if tensor.dtype == dtype:
        return tensor
    converted = tensor.to(dtype)
    if (recipe := _recipe(tensor)) is not None:
        recipe.askers += 1
        can_be_made_again(converted, lambda: recipe().to(dtype))
    return converted


def picked(whole: Tensor, rows: Tensor) -> Tensor:
    """The rows (P, ...) of a tensor that the backward pass keeps anyway; they are picked again there."""
    found, kept = whole.index_select(0, rows), whole.detach()
    can_be_made_again(found, lambda: kept.index_select(0, rows))
    return found


def _pack(saved: Tensor) -> Any:
    recipe = _recipe(saved)
    # Detached: an operation that keeps its own output would hold itself, for good where no backward pass comes by.
    return saved.detach() if recipe is None else _Later(recipe, saved)


def _unpack(saved: Any) -> Tensor:
    return saved() if isinstance(saved, _Later) else saved


def _recipe(tensor: Tensor) -> _Recipe | None:
    """That of a tensor or of a view of all of it."""
    known = _known.get()
    found = known.get(_place(tensor)) if known else None
    if found is None:
        return None
    reference, recipe = found
    whole = reference()  # memory that was freed may hold another tensor by now
    return recipe if whole is not None and (whole.numel(), whole.dtype) == (tensor.numel(), tensor.dtype) else None


def _place(tensor: Tensor) -> tuple[int, int]:
    return tensor.untyped_storage()._cdata, int(tensor.storage_offset())


def computed_twice(forward: Callable[..., Any], *inputs: Any) -> Any:
    """`forward(*inputs)`, of which the inputs alone are kept, and the rest is computed again in the backward pass.

    Random numbers are drawn again as they were (gradient checkpointing, Chen et al. 2016, arXiv 1604.06174).
    """
    return checkpoint(forward, *inputs, use_reentrant=False)
