"""Benchmarks tell a known ratio, whatever the machine does meanwhile, and the memory that a run takes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from alternate import (
    ALLOCATOR,
    Gemm,
    Products,
    Row,
    Spread,
    alternate,
    cpu_seconds,
    memory_held,
    memory_of,
    peak_bytes,
    product_flops,
    product_flops_by_precision,
)
from commands import ROOT


class Machine:
    """A clock on which a run costs what it says, times how slow the machine is just then."""

    def __init__(self, slowness):
        self.slowness = list(slowness)
        self.ran = []

    def __call__(self, run):
        name, cost = run()
        self.ran.append(name)
        return cost * self.slowness[(len(self.ran) - 1) // 2]


def test_a_machine_that_slows_down_leaves_the_ratio():
    clock = Machine([50, 1, 2, 4, 8])
    times = alternate({"a": lambda: ("a", 3.0), "b": lambda: ("b", 4.0)}, rounds=4, clock=clock)
    spread = times.ratio("a", "b")
    assert (spread.value, spread.low, spread.high) == (0.75, 0.75, 0.75)
    assert times["a"] == 9.0  # of 3, 6, 12, 24: the slow first round does not count
    assert times.ratio("a", "b", factor=2).value == 1.5


def test_sides_take_turns_in_going_first():
    clock = Machine([1] * 4)
    alternate({"a": lambda: ("a", 1), "b": lambda: ("b", 1)}, rounds=3, warm_ups=1, clock=clock)
    assert clock.ran in (["a", "b", "b", "a", "a", "b", "b", "a"], ["b", "a", "a", "b", "b", "a", "a", "b"])


def test_each_run_begins_fresh():
    left = []

    def run():
        assert not left
        left.append(1)

    alternate({"a": run, "b": run}, rounds=2, clock=lambda run: run() or 1.0, fresh=left.clear)


def test_quartiles_of_paired_ratios():
    spread = Spread.of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (spread.low, spread.value, spread.high) == (2.0, 3.0, 4.0)
    assert Row.spread("c", "time", spread, goal=3.0).low == 2.0
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])


def test_waiting_is_no_cpu_time():
    def loop():
        sum(range(200_000))

    times = alternate({"once": loop, "thrice": lambda: [loop() for _ in range(3)]}, rounds=5)
    assert 1.8 < times.ratio("thrice", "once").value < 5
    assert cpu_seconds(lambda: torch.cuda.is_available() or __import__("time").sleep(0.05)) < 0.04


def test_operations_of_products_are_counted():
    left, right = torch.randn(8, 3), torch.randn(3, 5)
    assert product_flops(lambda: left @ right) == 2 * 8 * 3 * 5
    query = torch.randn(2, 4, 6, 8)
    attend = torch.nn.functional.scaled_dot_product_attention
    assert product_flops(lambda: attend(query, query, query)) == 2 * 2 * (2 * 4 * 6 * 6 * 8)
    assert Gemm(size=16).flops == 4 * 2 * 16**3


def test_operations_are_told_apart_by_the_precision_of_their_operands():
    left, right = torch.randn(8, 3), torch.randn(3, 5)
    image, kernel = torch.randn(1, 2, 10, dtype=torch.float64), torch.randn(4, 2, 3, dtype=torch.float64)

    def run():
        assert (left @ right).shape == (left.bfloat16() @ right.bfloat16()).shape
        torch.conv1d(image, kernel)

    assert product_flops_by_precision(run) == {
        torch.float32: 2 * 8 * 3 * 5,
        torch.bfloat16: 2 * 8 * 3 * 5,
        torch.float64: 2 * 4 * 2 * 3 * 8,
    }
    assert Gemm(size=16, dtype=torch.bfloat16)._out.dtype == torch.bfloat16


def test_products_are_those_of_the_run_and_nothing_else():
    x, layer = torch.randn(7, 3), torch.nn.Linear(3, 5)

    def taken():
        layer(x).exp().sum().backward()

    products = Products(taken)
    layer.weight.grad = None
    assert product_flops(products) == product_flops(taken) == 2 * 2 * 7 * 3 * 5
    assert layer.weight.grad is not None
    layer.weight.grad = None
    products()
    assert layer.weight.grad is None


MEASURED = """
import torch
from alternate import peak_bytes
kept = torch.ones(8 << 20)
def run():
    first = torch.ones(10 << 20)
    del first
    second = torch.ones(4 << 20)
    third = torch.ones(4 << 20)
    kept.add_(0)  # pages that were there before and are written to are no growth
print(peak_bytes(run))
def fails():
    raise KeyError
try:
    peak_bytes(fails)
except RuntimeError as error:
    print(error)
"""


def test_memory_is_what_is_alive_at_once():
    environment = {**os.environ, **ALLOCATOR, "PYTHONPATH": f"{ROOT / 'benchmarks'}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", MEASURED], env=environment, capture_output=True, text=True, check=True)
    found, failed = done.stdout.splitlines()
    # 10 Mi floats; not 18 Mi, which were allocated one after the other. The kernel counts pages by the dozen.
    assert abs(int(found) - (40 << 20)) < 1 << 20
    assert "ended with 1" in failed


def held(mebibytes):
    """Built before the measurement: twice as much as the run takes."""
    kept = torch.ones(2 * mebibytes << 18)
    return lambda: kept[: mebibytes << 18].clone().add_(kept[0])


def test_memory_of_what_a_new_process_builds_is_that_of_the_run_alone():
    assert abs(memory_of(held, mebibytes=40) - (40 << 20)) < 1 << 20


def leaves(mebibytes):
    """Takes three times as much as is kept of it."""

    def run():
        passing = torch.ones(2 * mebibytes << 18)
        return passing[: mebibytes << 18].clone()

    return run


def test_memory_that_is_held_is_what_the_run_gives():
    assert abs(memory_held(leaves, mebibytes=40) - (40 << 20)) < 1 << 20


def test_memory_is_not_measured_with_an_allocator_that_keeps_it(monkeypatch):
    monkeypatch.delenv("MALLOC_TOP_PAD_", raising=False)
    with pytest.raises(RuntimeError, match="ALLOCATOR"):
        peak_bytes(lambda: None)
