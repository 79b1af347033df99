"""Texts of whole talks are cut where the references are cut: what mweralign does when it is called by hand."""

from __future__ import annotations

import json
import subprocess

import pytest
from two_systems import GOOD, IDS, content, report

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.report import resegment
from sparqle_fairseq.tools.report.resegment import resegmented

TALKS = ["the cat sat on mat it was read", "second talks end here"]
REFERENCES = [["the cat sat", "on the mat", "it was red"], ["second talk", "ends here"]]


def test_a_talk_is_cut_as_the_program_cuts_it(tmp_path):
    for name, lines in {"r": REFERENCES[0], "t": TALKS[:1]}.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    program = resegment._program()
    assert program is not None, "pip install mweralign"
    words = [program, "-r", tmp_path / "r", "-t", tmp_path / "t", "-o", tmp_path / "o", "-m", "none"]
    subprocess.run(words, check=True, capture_output=True)
    by_hand = [line.strip() for line in (tmp_path / "o").read_text(encoding="utf-8").splitlines()]
    assert resegmented(TALKS[:1], REFERENCES[:1], "en") == [by_hand]
    assert by_hand == ["the cat sat", "on mat", "it was read"]


def test_talks_are_kept_apart_and_one_without_text_has_none():
    assert resegmented([TALKS[0], " ", TALKS[1]], [REFERENCES[0], ["a", "b"], REFERENCES[1]]) == [
        ["the cat sat", "on mat", "it was read"],
        ["", ""],
        ["second talks", "end here"],
    ]
    assert resegmented([""], [["a", "b"]], "fr") == [["", ""]]


def test_chinese_is_cut_between_any_two_signs_and_thai_is_not_cut():
    assert resegmented(["今天天气好我们去公园"], [["今天天气很好", "我们去公园"]], "zh-TW") == [
        ["今天天气好", "我们去公园"]
    ]
    with pytest.raises(SparqleError, match="the text of a talk in th has no spaces to be cut at"):
        resegmented(["สวัสดี"], [["สวัสดี", "ครับ"]], "th")


def test_without_the_program_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(resegment.sys, "executable", "/nowhere/python")
    with pytest.raises(SparqleError, match=r"mweralign is not installed, .* run: pip install mweralign"):
        resegmented(TALKS, REFERENCES)
    monkeypatch.undo()
    with pytest.raises(SparqleError, match="talk 2: its reference 1 is empty"):
        resegmented(TALKS, [REFERENCES[0], [" ", "x"]])


def test_what_translate_wrote_of_talks_is_scored_by_the_references_of_their_slices(small):
    """Two talks of two sentences each; the segments of `translate` fall across the sentences."""
    lines = small.manifest.read_text(encoding="utf-8").splitlines()
    for i, line in enumerate(lines[1:]):
        cells = line.split("\t")
        cells[1] = f"wav/talk{i // 2}.wav:{i % 2 * 20000}:20000"
        lines[i + 1] = "\t".join(cells)
    small.manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    documents = []
    for talk in range(2):
        text = " ".join(GOOD[2 * talk : 2 * talk + 2])
        pieces = [text[:9], text[9:30], text[30:]] if talk else [text[:5], text[5:]]
        segments = [{"start": i, "end": i + 1, "text": piece} for i, piece in enumerate(pieces)]
        documents.append({"audio": f"talk{talk}.wav", "language": "fr", "segments": segments})
    path = small.folder / "talks.json"
    path.write_text(json.dumps(documents[::-1]), encoding="utf-8")
    out = small.folder / "out"
    report(f"cut={path}", f"gold={small.good}", "--manifest", small.manifest, "-o", out)
    part = content(out)["parts"][0]
    assert part["n"] == 4
    shown = {each["id"]: each["hypothesis"] for each in part["examples"]["cut"]["worst"]}
    assert set(shown) == set(IDS)
    joined = " ".join(shown[name] for name in IDS)
    expected = " ".join(" ".join(piece["text"].strip() for piece in document["segments"]) for document in documents)
    assert joined == expected
    assert part["scores"]["cut"]["chrf"]["value"] > 80
    path.write_text(json.dumps(documents[:1]), encoding="utf-8")
    with pytest.raises(SparqleError, match=r"has no text of .*talk1\.wav; translate it, too"):
        report(path, "--manifest", small.manifest, "-o", small.folder / "other")
