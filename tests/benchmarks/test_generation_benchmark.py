"""The benchmark of the search at sizes that take no time: it ends, and finds transformers' texts or says so."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from alternate import Settings
from commands import ROOT


@pytest.fixture
def benchmark(monkeypatch):
    """`benchmarks/generation.py`, whose name is that of a helper of the tests too."""
    spec = importlib.util.spec_from_file_location("generation_benchmark", ROOT / "benchmarks" / "generation.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    sizes = {"VOCABULARY": 300, "PROMPT": 8, "TOKENS": 4, "UTTERANCES": 2, "BATCHES": (1, 2), "VOCABULARIES": (300,)}
    for name, value in sizes.items():
        monkeypatch.setattr(module, name, value)
    for name in ("SMALL", "LARGER"):
        monkeypatch.setattr(module, name, module.Shape(name, 1, 16, 2, 1))
    return module


def test_it_ends_and_a_case_says_what_no_search_is_faster_than(benchmark):
    result = benchmark.measure(Settings(rounds=1))
    cases = {row.case for row in result.rows}
    assert len(cases) == 6
    for case in cases:
        measured = [row.measure for row in result.rows if row.case == case]
        assert sum("passes alone" in name for name in measured) == 2
        assert sum("with their sums" in name for name in measured) == 1
        assert len(measured) == 5
    assert [len(panel.lines["greedy"]) for panel in result.growth] == [2, 1]


def test_another_text_than_transformers_ends_it(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "theirs", lambda *_: [[5], [6]])
    with pytest.raises(RuntimeError, match="2 of 2 texts are not transformers' own"):
        benchmark.measure(Settings(rounds=1))


def test_the_passes_alone_are_those_of_the_search(benchmark):
    """The same rows in each of them, from a batch whose utterances end one after the other."""
    llm = benchmark.language_model(benchmark.SMALL, 300, "cpu")
    prompts = benchmark.Prompts.of(16, benchmark.torch.tensor([2, 4]), "cpu")
    rows = benchmark.rows_of(llm, lambda: benchmark.ours(llm, prompts, 3))
    assert rows == [2, 6, 6, 3, 3]
    assert benchmark.rows_of(llm, lambda: benchmark.passes(llm, prompts, rows)) == rows
