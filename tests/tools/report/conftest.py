"""A small test set with two systems, as fairseq-generate writes them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from two_systems import BAD, FRENCH, GOOD, IDS, SAID, generated


@pytest.fixture
def small(tmp_path) -> SimpleNamespace:
    """`manifest`, and the systems `good` and `bad` as fairseq-generate writes."""
    rows = ["id\taudio\tn_frames\tsrc_text\ttgt_text\tsrc_lang\ttgt_lang\tspeaker\troom"]
    rows += [
        f"{IDS[i]}\twav/{IDS[i]}.wav\t{16000 * (i + 1)}\t{SAID[i]}\t{FRENCH[i]}\ten\tfr\t{'ab'[i % 2]}\t{'xy'[i // 2]}"
        for i in range(4)
    ]
    (tmp_path / "test.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    remarks = ["end\t0.5\t-0.1\t-0.6\theard", "length\t0.5\t-0.1\t-0.6\theard", "end", "end\t-0.2\t-0.8\t-0.6\tunheard"]
    (tmp_path / "good.txt").write_text(generated(GOOD, FRENCH), encoding="utf-8")
    (tmp_path / "bad.txt").write_text(generated(BAD, FRENCH, remarks), encoding="utf-8")
    return SimpleNamespace(
        folder=tmp_path, manifest=tmp_path / "test.tsv", good=tmp_path / "good.txt", bad=tmp_path / "bad.txt"
    )


@pytest.fixture
def drawn():
    """A test that asks for this has pictures in its reports."""


@pytest.fixture(autouse=True)
def _few_pictures(request, monkeypatch):
    """Drawing takes seconds, which few tests need."""
    from sparqle_fairseq.tools.report import write

    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(write, "can_draw", lambda: False)
