"""What is written is read back by other programs' readers."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pysubs2
import pytest

from sparqle_fairseq.tools.translate.formats import FORMATS, About, Line, open_format

LINES = [
    Line(0.0, 2.1164, "Il y a un chat.", -0.0658),
    Line(59.9996, 3661.5, "Zwei Zeilen,\n\nmit <i>Zeichen</i> & --> Pfeil\tund Tab", -1.5, "length", "repetition"),
    Line(3700, 3701, "Ende", 0.0),
]
ABOUT = About("talk.wav", "fr", "translation")


def written(form: str, lines=LINES) -> str:
    document = open_format(form)
    return document.head(ABOUT) + "".join(map(document.line, lines)) + document.tail()


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles_are_read_with_their_times(form):
    read = pysubs2.SSAFile.from_string(written(form), format_=form)
    assert [(event.start, event.end) for event in read] == [(0, 2116), (60000, 3661500), (3700000, 3701000)]
    assert read[0].plaintext == "Il y a un chat."
    assert read[2].plaintext == "Ende"


def test_text_cannot_break_a_cue():
    srt, vtt = written("srt"), written("vtt")
    assert srt.count("-->") == vtt.count("-->") == 3
    assert "Zwei Zeilen, mit <i>Zeichen</i> & → Pfeil und Tab" in srt
    assert "Zwei Zeilen, mit &lt;i&gt;Zeichen&lt;/i&gt; &amp; → Pfeil und Tab" in vtt


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_an_empty_text_is_no_cue_and_numbers_go_on(form):
    text = written(form, [LINES[0], Line(3, 4, "  ", 0.0), LINES[2]])
    assert text.count("-->") == 2
    if form == "srt":
        assert text.splitlines()[4] == "2"


def test_the_table_has_a_row_for_each_segment():
    rows = list(csv.DictReader(io.StringIO(written("tsv")), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [row["start"] for row in rows] == ["0.000", "60.000", "3700.000"]
    assert rows[1]["text"] == "Zwei Zeilen, mit <i>Zeichen</i> & --> Pfeil und Tab"
    assert (rows[1]["ended"], rows[1]["flag"]) == ("length", "repetition")
    assert {row["language"] for row in rows} == {"fr"}


def test_json_holds_all_of_it():
    read = json.loads(written("json"))
    assert {key: read[key] for key in ("audio", "language", "task")} == vars(ABOUT)
    assert [segment["text"] for segment in read["segments"]] == [line.text for line in LINES]
    assert read["segments"][0] == {
        "start": 0.0,
        "end": 2.116,
        "text": "Il y a un chat.",
        "score": -0.0658,
        "ended": "end",
        "flag": None,
    }


RIVALS = (Line(0.0, 2.1164, "Il y a un chien.", -0.5, "length"), Line(0.0, 2.1164, "Un\nchat.", -0.75))
SEVERAL = [replace(LINES[0], rivals=RIVALS), LINES[2]]


def test_several_texts_of_a_segment_are_ranked_in_every_format_that_holds_them():
    assert written("txt", SEVERAL) == "1. Il y a un chat.\n2. Il y a un chien.\n3. Un chat.\nEnde\n"
    rows = list(csv.DictReader(io.StringIO(written("tsv", SEVERAL)), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [(row["rank"], row["text"], row["ended"]) for row in rows] == [
        ("1", "Il y a un chat.", "end"),
        ("2", "Il y a un chien.", "length"),
        ("3", "Un chat.", "end"),
        ("1", "Ende", "end"),
    ]
    first, last = json.loads(written("json", SEVERAL))["segments"]
    assert first["rivals"] == [
        {"text": "Il y a un chien.", "score": -0.5, "ended": "length"},
        {"text": "Un\nchat.", "score": -0.75, "ended": "end"},
    ]
    assert "rivals" not in last


def test_plain_text_is_a_line_for_each_segment():
    assert written("txt").splitlines()[0] == "Il y a un chat."
    assert len(written("txt").splitlines()) == 3


@pytest.mark.parametrize("form", FORMATS)
def test_a_recording_without_speech_is_a_document_too(form):
    text = written(form, [])
    assert text == {"txt": "", "srt": "", "vtt": "WEBVTT\n\n"}.get(form, text)
    if form == "json":
        assert json.loads(text)["segments"] == []
