"""How many frames an encoder makes of samples, as numbers that a processor can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class FrameRule:
    """How many frames an encoder makes of samples; plain numbers, so that it can be written down.

    Args:
        rule: {"conv": [[kernel, stride], …]}, or Whisper's {"hop", "stride", "window", "least"}, in samples and frames.
    """

    def __init__(self, rule: Mapping[str, Any]) -> None:
        self.rule = rule

    def __call__(self, samples: int) -> int:
        if "conv" in self.rule:
            for kernel, stride in self.rule["conv"]:
                samples = (samples - kernel) // stride + 1
            return max(samples, 0)
        whole, rest = divmod(samples, self.rule["window"])
        per_window = self.rule["window"] // (self.rule["hop"] * self.rule["stride"])
        last = -(-(rest // self.rule["hop"]) // self.rule["stride"]) if rest >= self.rule["least"] else 0
        return whole * per_window + last

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        if "conv" in self.rule:
            return math.prod(stride for _, stride in self.rule["conv"])
        return int(self.rule["hop"] * self.rule["stride"])

    @property
    def least(self) -> int:
        """Fewest samples that give a frame."""
        if "conv" in self.rule:
            field, hop = 1, 1
            for kernel, stride in self.rule["conv"]:
                field, hop = field + (kernel - 1) * hop, hop * stride
            return field
        return int(self.rule["least"])


def frame_rule(network: Any) -> dict[str, Any]:
    """The `FrameRule` of a speech encoder's network."""
    if hasattr(network, "conv_spec"):
        return {"conv": [[kernel, stride] for _, kernel, stride in network.conv_spec]}
    return {"hop": network.hop, "stride": network.stride, "window": network.window, "least": network.min_samples}
