"""The cheap step of stage 1 is the straightforward one: the benchmark's own comparison, at a small size."""

from __future__ import annotations

from functools import partial

import pytest
import stage1_step


@pytest.fixture(autouse=True)
def small(monkeypatch):
    sizes = {"hidden_size": 48, "heads": 4, "ffn_size": 96, "queries": 30}
    monkeypatch.setattr(stage1_step, "QFormerConfig", partial(stage1_step.QFormerConfig, **sizes))
    monkeypatch.setattr(stage1_step, "VOCABULARY", 1200)
    monkeypatch.setattr(stage1_step, "WIDTH", 40)
    monkeypatch.setattr(stage1_step, "FRAMES", 60)
    monkeypatch.setattr(stage1_step, "REAL_FRAMES", (60, 60, 50, 50))
    monkeypatch.setattr(stage1_step, "LAYERS", 4)


def test_losses_and_gradients_are_those_of_the_straightforward_form_and_cost_fewer_products():
    apart, counts = stage1_step.compared("cpu")
    assert apart < 1e-5
    assert counts["ours"] < 0.9 * counts["straightforward"]
