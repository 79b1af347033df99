"""FLEURS in several languages by the two commands of its recipe: a table of them all, with the LLM's own ceiling."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from two_systems import content

sys.path.append(str(Path(__file__).parents[1] / "prepare"))

import miniature
from pasted import Miniature, pasted

from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.scores import score
from sparqle_fairseq.tasks.loading import Trained
from sparqle_fairseq.tools.prepare.fleurs import read_fleurs
from sparqle_fairseq.tools.report import controls

FOLDERS = ("en_us", "fr_fr", "de_de", "ca_es")


def test_all_languages_of_a_folder_are_scored_beside_what_the_llm_reads(world, stage2, tmp_path, monkeypatch):
    loaded = Trained(stage2.task, stage2.model, stage2.cfg, torch.device("cpu"))
    monkeypatch.setattr(controls, "open_model", lambda *_, **__: loaded)
    miniature.fleurs(tmp_path / "data" / "fleurs", FOLDERS)
    here = Miniature(world, tmp_path)
    *_, prepare, report = (words for words in pasted("fleurs") if words[0] == "sparqle")
    assert (prepare[1], report[1]) == ("prepare", "report")
    here.run(prepare)
    printed = here.run([*report, "--beam", "1", "--cpu", "--bootstrap", "40", "--trials", "100"])
    words = here.small(report)
    out = Path(words[words.index("--output") + 1])
    summary = content(out)["languages"]
    assert {row["language"]: row["kind"] for row in summary["rows"]} == {
        "fr": "seen",
        "de": "zero-shot",
        "ca": "zero-shot",
    }
    assert content(out)["systems"] == ["model", "transcript"]
    scores = [row["scores"]["model"]["bleu"] for row in summary["rows"]]
    assert scores == sorted(scores, reverse=True)
    manifests = Path(words[words.index("--manifest") + 1]).parent
    for row in summary["rows"]:
        split = f"test_{row['language']}"
        manifest = read_manifest(manifests / f"{split}.tsv")
        references = {manifest.row(i).id: manifest.row(i).tgt_text for i in range(len(manifest))}
        for system in ("model", "transcript"):
            lines = (out / "outputs" / f"{split}.{system}.tsv").read_text(encoding="utf-8").splitlines()[1:]
            texts = {line.split("\t")[0]: line.split("\t")[1] for line in lines}
            assert texts.keys() == references.keys()
            found = score([references[key] for key in texts], [*texts.values()], ["chrf"])["chrf"]
            assert row["scores"][system]["chrf"] == pytest.approx(found.value)
    head = next(line for line in printed.splitlines() if "came out instead" in line)
    assert "model: BLEU" in head
    assert "transcript: BLEU" in head


def test_a_folder_without_other_languages_is_refused(tmp_path):
    miniature.fleurs(tmp_path, ("en_us",))
    (tmp_path / "notes").mkdir()
    with pytest.raises(SparqleError, match="holds no language beside en_us; unpack the folders of others there"):
        read_fleurs(tmp_path, "en_us", ("all",))
