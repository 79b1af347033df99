"""`sparqle prepare join-segments`: neighbours become long segments whose sound and texts belong together."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.data.audio import read_audio
from sparqle_fairseq.data.manifest import read_manifest, write_manifest
from sparqle_fairseq.errors import SparqleError

RATE = 8000
COLUMNS = ("id", "audio", "n_frames", "src_text", "tgt_text", "src_lang", "tgt_lang", "task", "prompt")
# Seconds of each segment: three neighbours, one too far, one whose joined length would be too much; and Japanese.
SEGMENTS = [(0, 2, "One.", "Un."), (2.5, 4, "Two.", "Deux."), (4, 6, "Three.", "Trois."), (9, 10, "Far.", "Loin.")]


@pytest.fixture
def manifest(tmp_path):
    soundfile.write(tmp_path / "talk.wav", np.arange(RATE * 20) / (RATE * 20), RATE, subtype="FLOAT")
    rows = []
    for name, said in (("fr", SEGMENTS), ("ja", [(0, 1, "Red.", "赤い。"), (1, 2, "Blue.", "青い。")])):
        for i, (begin, end, english, other) in enumerate(said):
            place = f"talk.wav:{int(begin * RATE)}:{int((end - begin) * RATE)}"
            rows.append(
                {"id": f"{name}{i}", "audio": place, "n_frames": int((end - begin) * 16000), "src_text": english}
            )
            rows[-1] |= {"tgt_text": other, "src_lang": "en", "tgt_lang": name, "task": "translation"}
    rows.append({**rows[0], "id": "whole", "audio": "talk.wav", "n_frames": 320000})
    rows.append({**rows[0], "id": "own", "prompt": "Translate {speech}"})
    write_manifest(tmp_path / "train.tsv", [rows[2], *rows[:2], *rows[3:]], COLUMNS)  # in another order than time
    return tmp_path / "train.tsv"


def run(manifest, *more):
    out = manifest.with_name("long.tsv")
    words = ["prepare", "join-segments", str(manifest), "--out", str(out), *more, "--json"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    made = read_manifest(out)
    return json.loads(done.stdout), [made.row(i) for i in range(len(made))]


def test_neighbours_are_joined_in_the_order_of_time_and_the_rest_is_counted(manifest):
    found, rows = run(manifest)
    assert [(row.id, row.src_text, row.tgt_text) for row in rows] == [
        ("fr0+fr2", "One. Two. Three.", "Un. Deux. Trois."),
        ("ja0+ja1", "Red. Blue.", "赤い。青い。"),
    ]
    assert found["rows"] == 2
    assert found["segments"] == 5
    assert found["left_out"] == {
        "no slice of a recording": 1, "has a prompt or prefix of its own": 1, "no neighbour to join": 1,
    }  # fmt: skip
    first = read_audio(rows[0].audio)
    assert len(first) == rows[0].n_frames == 6 * 16000
    # The recording says by its value where it is.
    assert first[16000 * 5] == pytest.approx(5 / 20, abs=1e-3)
    assert read_audio(rows[1].audio)[24000] == pytest.approx(1.5 / 20, abs=1e-3)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--seconds", "4"], ["fr0+fr1", "ja0+ja1"]),
        (["--gap", "0.2"], ["fr1+fr2", "ja0+ja1"]),
        (["--gap", "3"], ["fr0+fr3", "ja0+ja1"]),
    ],
)
def test_length_and_gap_part_segments(manifest, more, expected):
    assert [row.id for row in run(manifest, *more)[1]] == expected


def test_nothing_to_join_is_one_sentence_and_no_file(manifest):
    with pytest.raises(SparqleError, match=r"no two neighbouring segments.*a row to join has talk.wav:START:LENGTH"):
        run(manifest, "--seconds", "1")
    assert not manifest.with_name("long.tsv").exists()
