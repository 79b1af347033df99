"""The peak memory of a computation that is not carried out: tensors have shapes, but no bytes.

The model's own code runs, forward and backward, on torch's fake tensors, and whatever it allocates and frees is
counted. So nothing here knows what a layer stores, and nothing has to be kept up with the models.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_ATEN = torch.ops.aten


@dataclass
class Peak:
    """Bytes at the moment when most were held."""

    total: int = 0
    logits: int = 0  # of these, in tensors as wide as the vocabulary


@dataclass
class Counter(TorchDispatchMode):
    """Counts the bytes of tensors that are alive. `vocabulary` is the width by which logits are recognised."""

    vocabulary: int = 0
    peak: Peak = field(default_factory=Peak)

    def __post_init__(self) -> None:
        super().__init__()
        self.total = self.logits = 0
        self.known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self._note(leaf, there_before=True)
        found = _without_values(func, args)
        if found is NotImplemented:
            found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self._note(leaf)
        return found

    def __exit__(self, *error: Any) -> None:
        """Look at nothing from now on: what is freed later calls no more Python, in whatever order it goes."""
        super().__exit__(*error)
        self.known.clear()

    def _note(self, tensor: Tensor, there_before: bool = False) -> None:
        """Count a tensor's bytes unless they are known. What is read before it was made was there before: weights."""
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self.known and self.known[key]() is storage:
            return
        size = 0 if there_before else storage.nbytes()
        wide = size if self.vocabulary and tensor.dim() > 1 and tensor.size(-1) == self.vocabulary else 0

        def freed(_: Any) -> None:
            self.total -= size
            self.logits -= wide
            self.known.pop(key, None)

        self.known[key] = weakref.ref(storage, freed)
        self.total += size
        self.logits += wide
        if self.total > self.peak.total:
            self.peak = Peak(self.total, self.logits)


def _without_values(func: Any, args: tuple[Any, ...]) -> Any:
    """Answers where the model asks for values, which are not there; NotImplemented for all other questions.

    A mask keeps everything, since most memory is wanted then; a whole number is 0, another one 1, since it may divide.
    """
    if func is _ATEN._local_scalar_dense.default:
        if args[0].dtype == torch.bool:
            return False
        return 1.0 if args[0].dtype.is_floating_point else 0
    if func is _ATEN.index.Tensor and len(args[1]) == 1 and _is_mask(args[1][0]):
        return args[0].flatten(0, args[1][0].dim() - 1).clone()
    if func in (_ATEN.index_put_.default, _ATEN._index_put_impl_.default) and any(map(_is_mask, args[1])):
        return args[0]
    if func is _ATEN.index_put.default and any(map(_is_mask, args[1])):
        return args[0].clone()
    if func in (_ATEN._ctc_loss.default, _ATEN._ctc_loss.Tensor):
        # How many labels the longest text has is a value; that padding counts among them makes the table no smaller.
        log_probs, labels = args[:2]  # (Q, B, symbols), (B, L)
        queries, rows = log_probs.shape[:2]
        return log_probs.new_empty(rows), log_probs.new_empty(rows, queries, 2 * labels.size(1) + 1)
    return NotImplemented


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype == torch.bool


def _copied(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """A deep copy of a tensor without bytes, as `nn.TransformerDecoder` makes of its layers."""
    if id(tensor) not in memo:
        copy = tensor.detach().clone()
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(copy, tensor.requires_grad) if is_parameter else copy
    found: Tensor = memo[id(tensor)]
    return found


@contextmanager
def without_bytes() -> Iterator[None]:
    """Tensors made inside have shapes and no bytes."""
    # torch keeps what each operation gave, in one table for all modes of a process. A trace begins with an empty one,
    # as in a process of its own, and leaves none behind. Without a table a trace takes 1.8 times as long.
    FakeTensorMode.cache_clear()
    try:
        with (
            FakeTensorMode(allow_non_fake_inputs=True),
            torch.random.fork_rng(devices=[]),
            # torch's own copy of a tensor asks for the address of its bytes, which it says is undefined for these.
            mock.patch.object(FakeTensor, "__deepcopy__", _copied, create=True),
        ):
            yield
    finally:
        FakeTensorMode.cache_clear()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Modules made inside have this precision: a module without bytes cannot be cast."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def as_made() -> Iterator[None]:
    """Modules stay where they are and as they are, whoever moves them: one without bytes cannot be moved."""
    with mock.patch.object(nn.Module, "to", lambda module, *_, **__: module):
        yield


_Module = TypeVar("_Module", bound=nn.Module)


def in_precision(module: _Module, dtype: torch.dtype) -> _Module:
    """The module with new parameters of that precision: those without bytes cannot be cast."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(torch.zeros(parameter.shape, dtype=dtype), parameter.requires_grad))
    return module


def peak_of(run: Callable[[], object], vocabulary: int = 0) -> Peak:
    """The most bytes that `run` holds at once beyond what was there; to be called inside `without_bytes`."""
    counter = Counter(vocabulary)
    with counter:
        kept = run()
        del kept
    return counter.peak


def weight_bytes(module: nn.Module) -> int:
    """Bytes of parameters and buffers, tied ones once."""
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
