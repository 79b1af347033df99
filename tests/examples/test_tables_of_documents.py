"""`make tables` writes what a report says between the marks of a document, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT

from sparqle_fairseq.tools.report.measure import Rules
from sparqle_fairseq.tools.report.run import Request, run

BEFORE, AFTER = "# Title\n\nText with <!-- a comment -->.\n", "\nThe end.\n"


BLOCK = re.compile(r"<!-- (\w+) of (\S+) -->\n(.*?)<!-- end of tables -->", re.DOTALL)
SCORE = re.compile(r"\d+\.\d \\\[\d+\.\d, \d+\.\d\\\]")


@pytest.fixture
def reported(tmp_path, monkeypatch):
    """A folder with a report of two systems on two languages, one of them never trained."""
    monkeypatch.chdir(tmp_path)
    columns = "id\taudio\tn_frames\tsrc_text\ttgt_text\tsrc_lang\ttgt_lang"
    rows = [f"{i}\t{i}.wav\t16000\tone\t{text}\ten\t{lang}" for i, (text, lang) in enumerate(
        [("un deux", "fr"), ("trois quatre", "fr"), ("eins zwei", "de"), ("drei vier", "de")]
    )]  # fmt: skip
    (tmp_path / "test.tsv").write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    (tmp_path / "a.txt").write_text("un deux\ntrois cinq\neins zwei\nfünf sechs\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("un deux\ntrois quatre\neins zwei\ndrei vier\n", encoding="utf-8")
    rules = Rules(metrics=("wer", "cer"), draws=40, trials=100)
    run(Request(["a.txt", "b.txt"], Path("build"), manifests=[Path("test.tsv")], seen=["fr"], rules=rules))
    return tmp_path


def tables(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, ROOT / "examples" / "tables.py", "--root", root, *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_marked_tables_are_renewed_and_the_rest_is_left(reported):
    documents = {
        "README.md": f"{BEFORE}<!-- tables of build/report.json -->\nold\n<!-- end of tables -->{AFTER}",
        "docs/a.md": f"{BEFORE}<!-- tables of build/none.json -->\nold\n<!-- end of tables -->{AFTER}",
        "docs/b.md": f"{BEFORE}<!-- languages of build/report.json -->\nold\n<!-- end of tables -->{AFTER}",
    }
    for name, text in documents.items():
        (reported / name).parent.mkdir(exist_ok=True)
        (reported / name).write_text(text, encoding="utf-8")
    for _ in range(2):
        done = tables(reported)
        assert done.returncode == 0, done.stderr
        text = (reported / "README.md").read_text(encoding="utf-8")
        assert text.startswith(BEFORE)
        assert text.endswith(AFTER)
        assert r"| a (baseline) | 25.0 \[0.0, 50.0\] |" in text
        assert "old" not in text
        assert text.count("<!-- end of tables -->") == text.count("**Translation: English to French**") == 1
        assert "docs/a.md: build/none.json is not there" in done.stdout
        assert (reported / "docs" / "a.md").read_text(encoding="utf-8") == documents["docs/a.md"]
        rows = (reported / "docs" / "b.md").read_text(encoding="utf-8").splitlines()
        assert r"| French, WER | 25.0 \[0.0, 50.0\] | 0.0 \[0.0, 0.0\] |" in rows
        assert r"| German, WER, never trained | 50.0 \[0.0, 100.0\] | 0.0 \[0.0, 0.0\] |" in rows
        assert sum(row.startswith("|") for row in rows) == 4


def test_a_stale_table_is_found_and_left(reported):
    document = reported / "README.md"
    document.write_text(f"{BEFORE}<!-- languages of build/report.json -->\n<!-- end of tables -->{AFTER}")
    assert tables(reported).returncode == 0
    assert tables(reported, "--check").returncode == 0
    stale = document.read_text(encoding="utf-8").replace("25.0", "24.0")
    document.write_text(stale, encoding="utf-8")
    done = tables(reported, "--check")
    assert done.returncode == 1
    assert "README.md: stale; make tables writes it anew" in done.stdout
    assert document.read_text(encoding="utf-8") == stale


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- chart of build/report.json -->\n<!-- end of tables -->", "no table of the kind 'chart'"),
        ("<!-- tables of build/report.json -->\nold\n", "has a table without an end"),
        (
            "<!-- tables of build/report.json -->\n<!-- tables of build/report.json -->\n<!-- end of tables -->",
            "has a table without an end",
        ),
    ],
)
def test_a_mark_that_cannot_be_meant_is_one_sentence(reported, text, message):
    (reported / "README.md").write_text(text, encoding="utf-8")
    done = tables(reported)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_readme_and_the_demo_tell_the_same_scores():
    """Both have tables of one report, so that one of them cannot be renewed without the other."""
    found = {}
    for name in ("README.md", "examples/demo/README.md"):
        blocks = BLOCK.findall((ROOT / name).read_text(encoding="utf-8"))
        assert blocks, f"{name} has no marked tables"
        found[name] = {(report, score) for _, report, text in blocks for score in SCORE.findall(text)}
    assert len(found["README.md"]) >= 9
    assert found["README.md"] <= found["examples/demo/README.md"]
