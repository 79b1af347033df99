"""`make tables` writes what a report says between the marks of a document, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from commands import ROOT

from sparqle_fairseq.tools.report.measure import Rules
from sparqle_fairseq.tools.report.run import Request, run

BEFORE, AFTER = "# Title\n\nText with <!-- a comment -->.\n", "\nThe end.\n"


def test_marked_tables_are_renewed_and_the_rest_is_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ref.txt").write_text("un\ndeux\n", encoding="utf-8")
    (tmp_path / "a.txt").write_text("un\ntrois\n", encoding="utf-8")
    rules = Rules(metrics=("wer",), draws=40)
    run(Request(["a.txt"], Path("build"), references=Path("ref.txt"), tgt_lang="fr", rules=rules))
    documents = {
        "README.md": f"{BEFORE}<!-- tables of build/report.json -->\nold\n<!-- end of tables -->{AFTER}",
        "docs/a.md": f"{BEFORE}<!-- tables of build/none.json -->\nold\n<!-- end of tables -->{AFTER}",
    }
    for name, text in documents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    words = [sys.executable, ROOT / "examples" / "tables.py", "--root", tmp_path]
    for _ in range(2):
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        text = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert text.startswith(BEFORE)
        assert text.endswith(AFTER)
        assert r"| a | 50.0 \[0.0, 100.0\] |" in text
        assert "old" not in text
        assert text.count("<!-- end of tables -->") == text.count("**Translation: French**") == 1
        assert "docs/a.md: build/none.json is not there" in done.stdout
        assert (tmp_path / "docs" / "a.md").read_text(encoding="utf-8") == documents["docs/a.md"]
