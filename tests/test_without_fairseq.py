"""The core needs no fairseq, and what needs it says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("without_fairseq.py")


def test_the_core_works_where_fairseq_cannot_be_imported(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", SCRIPT, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = done.stdout.splitlines()
    assert said[-1] == "done", done.stdout
    starts = ["imported", "register:", "encoder:", "stage 1: loss", "stage 1 writes", "stage 2: loss", "stage 2 writes"]
    starts += ["translate --hf writes", "transformers writes"]
    assert [line.startswith(start) for line, start in zip(said, starts, strict=False)] == [True] * len(starts)
    for line in said[1:3]:
        assert "needs the package fairseq" in line
        assert line.endswith("run: pip install ve-fairseq")
