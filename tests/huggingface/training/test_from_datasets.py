"""A data set becomes a manifest whose rows are its rows, and whose recordings are its recordings."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny

from sparqle_fairseq.data.audio import read_audio
from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.huggingface.training.from_datasets import open_dataset, write_from_dataset

WAVES = [tiny.tones("red fox", seed=1), tiny.tones("cat", seed=2), tiny.tones("blue dog runs", seed=3)]
TEXTS = [("red fox", "Rouge\nRenard"), ("cat", "Chat"), ("blue dog runs", "Bleu Chien court")]


@pytest.fixture
def rows(tmp_path):
    """One recording in a file, one as bytes, one as samples."""
    soundfile.write(tmp_path / "one.wav", WAVES[0], 16000)
    soundfile.write(tmp_path / "two.flac", WAVES[1], 16000)
    cells = [
        {"path": str(tmp_path / "one.wav"), "bytes": None},
        {"path": "two.flac", "bytes": (tmp_path / "two.flac").read_bytes()},
        {"array": WAVES[2], "sampling_rate": 16000},
    ]
    return [
        {"audio": cell, "sentence": english, "translation": french, "clip": f"clip{i}"}
        for i, (cell, (english, french)) in enumerate(zip(cells, TEXTS, strict=True))
    ]


def check(manifest):
    assert len(manifest) == 3
    for i, wave in enumerate(WAVES):
        row = manifest.row(i)
        assert row.n_frames == len(wave)
        assert np.abs(read_audio(row.audio) - wave).max() < 1e-4
        assert (row.src_text, row.tgt_text) == (TEXTS[i][0], TEXTS[i][1].replace("\n", " "))
        assert (row.src_lang, row.tgt_lang, row.task) == ("en", "fr", "translation")


def test_every_kind_of_recording_is_in_the_manifest(rows, tmp_path):
    named = {"src_text": "sentence", "src_lang": "en"}
    out = tmp_path / "out"
    assert write_from_dataset(rows, out, "train", **named, tgt_text="translation", tgt_lang="fr", name="clip") == 3
    manifest = read_manifest(out / "train.tsv")
    check(manifest)
    assert manifest.id(2) == "clip2"
    assert manifest.audio(0) == str(tmp_path / "one.wav")
    write_from_dataset(rows, out, "asr", **named)
    spoken = read_manifest(out / "asr.tsv").row(0)
    assert (spoken.task, spoken.tgt_text, spoken.tgt_lang) == ("transcription", "red fox", "en")


def test_what_is_missing_is_one_sentence(rows, tmp_path):
    for named, said in (
        ({"src_text": "text"}, "no column 'text'; its columns are audio, sentence, translation, clip"),
        ({"src_text": "sentence", "audio": "speech"}, "no column 'speech'"),
        ({}, "neither transcripts nor translations were named"),
    ):
        with pytest.raises(SparqleError, match=said):
            write_from_dataset(rows, tmp_path / "out", "train", **named)
    rows[1]["audio"] = {"path": None, "bytes": None}
    with pytest.raises(SparqleError, match="recording 00000001 has neither bytes"):
        write_from_dataset(rows, tmp_path / "out", "train", src_text="sentence")
    assert not (tmp_path / "out" / "train.tsv").exists()


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SparqleError, match="pip install 'sparqle-fairseq\\[datasets\\]'"):
        open_dataset("owner/name", None, "train", "audio")


def test_a_data_set_on_the_disk_goes_through_the_script(rows, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "examples" / "huggingface"))
    import from_datasets

    found = [{**row, "audio": cell} for row, cell in zip(rows, _encoded(tmp_path), strict=True)]
    made = datasets.Dataset.from_list(found).cast_column("audio", datasets.Audio())
    datasets.DatasetDict({"train": made}).save_to_disk(str(tmp_path / "set"))
    words = [str(tmp_path / "set"), "--out", str(tmp_path / "out"), "--src-text", "sentence", "--src-lang", "en"]
    from_datasets.main([*words, "--tgt-text", "translation", "--tgt-lang", "fr"])
    check(read_manifest(tmp_path / "out" / "train.tsv"))
    with pytest.raises(SparqleError, match="cannot be read as a data set"):
        open_dataset(str(tmp_path / "nothing"), None, "train", "audio")
    with pytest.raises(SparqleError, match="no column 'speech'"):
        open_dataset(str(tmp_path / "set"), None, "train", "speech")


def _encoded(folder):
    for i, wave in enumerate(WAVES):
        soundfile.write(folder / f"{i}.wav", wave, 16000)
        yield {"path": f"{i}.wav", "bytes": (folder / f"{i}.wav").read_bytes()}
