"""Attention masks of transformers' LLMs, made without a look at their values."""

from __future__ import annotations

from functools import wraps
from typing import Any

from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS


def make_masks_without_waiting() -> None:
    """Let transformers make the mask of `sdpa` on a device without asking it whether anything is padded.

    It asks so as to leave a mask out that hides nothing, once or twice in every pass, and the program waits for the
    answer. Who knows that nothing is padded gives no mask. On the CPU there is nothing to wait for, and it may ask.
    """
    usual = ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]
    if hasattr(usual, "_never_asks_the_device"):
        return

    @wraps(usual)
    def sdpa_mask(*args: Any, **options: Any) -> Any:
        padding = options.get("attention_mask")
        if isinstance(padding, Tensor) and padding.device.type != "cpu":
            options["allow_is_causal_skip"] = False
        return usual(*args, **options)

    sdpa_mask._never_asks_the_device = True  # type: ignore[attr-defined]
    ALL_MASK_ATTENTION_FUNCTIONS.register("sdpa", sdpa_mask)
