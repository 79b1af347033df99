"""Operations that a GPU refuses between numbers of two precisions, some of which a CPU lets pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_ATEN = torch.ops.aten
_ALIKE = {
    _ATEN.mm, _ATEN.addmm, _ATEN.bmm, _ATEN.baddbmm, _ATEN.convolution, _ATEN.convolution_backward,
    _ATEN.native_layer_norm, _ATEN.native_group_norm, _ATEN._scaled_dot_product_flash_attention_for_cpu,
    _ATEN._scaled_dot_product_attention_math, _ATEN.scaled_dot_product_attention,
}  # fmt: skip


class MixedPrecisions(RuntimeError):
    """A product, convolution, norm or attention was given two precisions."""


class OnePrecision(TorchDispatchMode):
    """Within it, every product, convolution, norm and attention has one precision; a bool mask may stand beside it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in _ALIKE:
            leaves = tree_leaves((args, kwargs))
            found = {leaf.dtype for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()}
            if len(found) > 1:
                raise MixedPrecisions(f"{func} was given {', '.join(sorted(map(str, found)))}")
        return func(*args, **(kwargs or {}))
