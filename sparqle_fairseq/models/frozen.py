"""A box that keeps a pre-trained module out of training, out of checkpoints and in its own precision."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Frozen(nn.Module):
    """Holds a pre-trained module outside the module tree.

    A trainer treats every module that it can reach alike: it casts it with the rest, puts it in train mode,
    copies it for the moving average, broadcasts it at every step and writes it into every checkpoint. None of
    that is wanted for a speech encoder or an LLM that does not learn, so it is kept where the trainer cannot
    reach it:

    * it is in no ``parameters()``, ``modules()`` or ``state_dict()``;
    * it is in eval mode, and its parameters require no gradient (gradients still flow *through* it to its inputs);
    * ``half()``, ``bfloat16()`` and ``to(dtype)`` leave its precision alone, ``to(device)`` and ``cuda()`` move it;
    * a deep copy of the box holds the same module, not a second one.

    Args:
        module: the module to keep; it is changed in place (frozen, cast).
        dtype: the precision to keep it in; None keeps the one it has.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        if dtype is not None:
            module.to(dtype)
        module.requires_grad_(False)
        module.eval()
        # In a list, because nn.Module registers whatever module is assigned to an attribute.
        self._held = [module]
        self.training = False

    @property
    def module(self) -> nn.Module:
        """The module that is kept."""
        return self._held[0]

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the module's first floating-point parameter; float32 where it has none."""
        floating = (p.dtype for p in self.module.parameters() if p.is_floating_point())
        return next(floating, torch.float32)

    @property
    def device(self) -> torch.device:
        """Device of the module's first parameter; the CPU where it has none."""
        return next((p.device for p in self.module.parameters()), torch.device("cpu"))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module that is kept."""
        return self.module(*args, **kwargs)

    def train(self, mode: bool = True) -> "Frozen":
        """Stay in eval mode, whatever is asked for."""
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Frozen":
        # Everything that casts or moves a module comes through here with a function of a tensor. What it does
        # to an empty one tells the device; the precision that it asks for is not ours.
        device = self.device
        target = fn(torch.empty(0, dtype=self.dtype, device=device)).device
        if target != device:
            self.module.to(target)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Frozen":
        copy = type(self).__new__(type(self))
        nn.Module.__init__(copy)
        copy._held = self._held
        copy.training = False
        memo[id(self)] = copy
        return copy

    def extra_repr(self) -> str:
        """Name of what is kept, since it is not listed as a child."""
        return f"{type(self.module).__name__}, dtype={self.dtype}"
