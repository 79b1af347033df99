"""A report over 100,000 hypotheses takes less than a minute of CPU time."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sparqle_fairseq.tools.report.run import Request, run

ROWS, WORDS = 100_000, 10


@pytest.mark.long
@pytest.mark.parametrize("task", ["translation", "transcription"])
def test_a_hundred_thousand_hypotheses_take_less_than_a_minute(tmp_path, task):
    """All metrics of the task, intervals, breakdowns, flags, languages, examples and pictures, of ten words each."""
    rng = np.random.default_rng(0)
    words = np.array([f"{a}{b}{c}" for a in "bcdfglmnprst" for b in ("a", "e", "i", "ou") for c in ("t", "les", "r")])
    right = rng.choice(words, (ROWS, WORDS))
    wrong = np.where(rng.random(right.shape) < 0.2, rng.choice(words, right.shape), right)
    for name, table in (("ref.txt", right), ("a.txt", wrong)):
        (tmp_path / name).write_text("".join(f"{' '.join(row)}\n" for row in table), encoding="utf-8")
    request = Request(
        [str(tmp_path / "a.txt")],
        tmp_path / "out",
        references=tmp_path / "ref.txt",
        tgt_lang="fr",
        src_lang="en" if task == "translation" else "fr",
        row_task=task,
    )
    began = time.process_time()
    made = run(request)
    seconds = time.process_time() - began
    assert made.content["parts"][0]["n"] == ROWS
    print(f"{task}: {seconds:.0f} s of CPU time for {ROWS} hypotheses of {WORDS} words")
    assert seconds < 60
