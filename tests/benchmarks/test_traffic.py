"""The bytes that a step moves at least, counted by hand, against those that torch's operations are seen to move."""

from __future__ import annotations

from typing import Any

import pytest
import qformer
import torch
from alternate import Times
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from traffic import Copy, Step

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")


class Moved(TorchDispatchMode):
    """Bytes read and written by operations that are neither products nor mere views."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        read = {id(x): x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        places = {x.untyped_storage().data_ptr() for x in read.values()}
        written = [x for x in tree_leaves(found) if isinstance(x, torch.Tensor)]
        is_view = all(x.untyped_storage().data_ptr() in places for x in written) and not func._schema.is_mutable
        if func.__name__.split(".")[0] not in PRODUCTS and not is_view:
            self.bytes += sum(x.numel() * x.element_size() for x in (*read.values(), *written))
        return found


@pytest.mark.parametrize("dropout", [0.1, 0.0])
def test_what_is_counted_by_hand_is_less_than_what_is_moved_and_no_tenth_of_it(monkeypatch, dropout):
    monkeypatch.setattr(qformer, "BATCH", 2)
    monkeypatch.setattr(qformer, "FRAMES", 150)
    monkeypatch.setattr(qformer, "SIZES", {"layers": 3, "hidden_size": 192, "heads": 3, "ffn_size": 768})
    taken = qformer.step("ours", dropout)
    with Moved() as moved, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        taken()
    least = qformer.beside_the_products(dropout).bytes
    assert 0.1 < least / moved.bytes < 1


def test_one_layer_by_hand():
    """2 rows of 3 queries of width 8 read 5 frames, inner size 16, one head; without dropout."""
    step = Step(2, 3, 5, hidden=8, ffn=16, heads=1, layers=1, reading=1, parameters=1000, dropout=False)
    assert step.parts == {
        # Forward: entry 2, three blocks of 3. Backward, of 48 elements: gradients 4 + 2 + 2 + 1, results 4, given 4.
        "norms, dropout and residuals": 4 * 48 * (2 + 3 * 3 + 9 + 4 + 4),
        "GELU": 4 * 5 * 96,
        "softmax's gradient": 4 * 2 * 2 * 48,
        "biases of queries, keys and values": 4 * (3 * 48 + 48 + 2 * 80),
        "gradients that are added": 4 * 3000,
        "loss": 4 * 3 * 48,
    }
    assert sum(step.parts.values()) == step.bytes


def test_dropout_writes_the_gradient_of_each_block_once_more_and_a_bit_for_each_element():
    with_dropout, without = (
        Step(2, 3, 5, hidden=8, ffn=16, heads=1, layers=1, reading=1, parameters=0, dropout=each)
        for each in (True, False)
    )
    bits = 4 * 48 + 2 * 3 * (3 + 5)  # of four norms' inputs and of all probabilities
    assert with_dropout.bytes - without.bytes == 4 * 3 * 48 + 2 * bits / 8


def test_a_copy_moves_what_it_says():
    copy = Copy(mebibytes=2)
    with Moved() as moved:
        copy()
    assert moved.bytes == 1.5 * copy.bytes  # torch names the copy among operands and as result
    assert torch.equal(copy._from, copy._to)


def test_sides_together_take_the_sum_in_each_round():
    times = Times({"a": [1.0, 2.0, 3.0], "b": [10.0, 20.0, 60.0]}).together("both", {"a": 1, "b": 0.5})
    assert times.seconds["both"] == [6.0, 12.0, 33.0]
    assert times.ratio("both", "a").value == 6.0
