"""The commands of docs/evaluation.md run as they are written, COMET's scores made up between them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import ROOT
from documents import commands_of, run

from sparqle_fairseq.data.manifest import read_manifest


@pytest.fixture
def outputs(world, tmp_path, monkeypatch):
    """What the document names: a manifest, and two systems' texts as lines."""
    monkeypatch.chdir(tmp_path)
    manifest = read_manifest(world.data / "test_fr.tsv")
    texts = [manifest.text("tgt_text", i) or "" for i in range(len(manifest))]
    Path("build/demo/manifests").mkdir(parents=True)
    Path("build/demo/manifests/test_fr.tsv").write_bytes((world.data / "test_fr.tsv").read_bytes())
    Path("ours.txt").write_text("\n".join(texts), encoding="utf-8")
    Path("theirs.txt").write_text("\n".join(texts[::-1]), encoding="utf-8")


def made_up_scores(folder: Path) -> None:
    """What comet-score would write beside the texts."""
    files = [path for path in folder.glob("*.txt") if path.stem not in ("src", "ref")]
    scores = {
        str(path): [{"mt": line, "COMET": 0.8} for line in path.read_text(encoding="utf-8").splitlines()]
        for path in files
    }
    (folder / "scores.json").write_text(json.dumps(scores), encoding="utf-8")


@pytest.mark.usefixtures("outputs")
def test_the_commands_of_the_document_run(world):
    commands = [words for words in commands_of(ROOT / "docs" / "evaluation.md") if words[1] == "report"]
    # tests/tools/report has a test of each of these.
    commands = [words for words in commands if "--controls" not in words and "talks.tsv" not in words]
    assert len(commands) >= 2
    for words in commands:
        if "--comet" in words:
            made_up_scores(Path("report/comet/translation_fr"))
        run(words, world)
    found = json.loads(Path("with_comet/report.json").read_text(encoding="utf-8"))
    assert found["parts"][0]["scores"]["ours"]["comet"]["value"] == pytest.approx(80)
