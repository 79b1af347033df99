"""The first number that is not finite is found behind outputs that lie within outputs."""

from __future__ import annotations

import logging

import pytest
import torch
from fairseq.nan_detector import NanDetector
from torch import nn

from sparqle_fairseq.fairseq_fixes.nan_detector import look_into_nested_outputs


class Sums(nn.Module):
    """What both stages give: the sums of each objective, by its name."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x):
        made = self.inner(x)
        return {"stg": {"sum": made.sqrt(), "count": torch.tensor(2)}, "stc": [made, (made,)]}


@pytest.mark.parametrize(
    ("bias", "found"),
    [(-1.0, "NaN detected in output of , shape: torch.Size([1, 2]), forward"), (0.0, "Inf detected"), (1.0, "")],
)
def test_both_directions_are_watched_through_dicts_of_dicts(caplog, bias, found):
    look_into_nested_outputs()
    model = Sums()
    nn.init.zeros_(model.inner.weight)
    nn.init.constant_(model.inner.bias, bias)
    with caplog.at_level(logging.WARNING, "fairseq.nan_detector"), NanDetector(model):
        sums = model(torch.ones(1, 3))
        sums["stg"]["sum"].sum().backward()  # the root of 0 has no finite gradient
    assert found in caplog.text
    assert bool(caplog.text) == bool(found)
    assert ("backward" in caplog.text) == (bias != 1.0), "the gradient of a negative number's root is NaN, too"
    hooks = [*model._forward_hooks, *model.inner._forward_hooks]
    assert not hooks, "nothing is watched any more"
