"""Manifests that other toolkits write are known by their content: NeMo, Hugging Face, lhotse, Kaldi, ESPnet."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from asked import OWN, prepared, refused, sound, sounds

EN = ("--src-lang", "en", "--dev", 0, "--test", 0)


def json_lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# -- NeMo ----------------------------------------------------------------------------------------------------


def test_nemo_manifests_are_splits_by_their_names(tmp_path: Path) -> None:
    root = sounds(tmp_path / "r", "clips/a.wav", "clips/b.wav", "clips/c.wav")
    json_lines(
        root / "train_manifest.json", {"audio_filepath": "clips/a.wav", "duration": 2.0, "text": "one", "lang": "en"}
    )
    json_lines(
        root / "validation_manifest.json", {"audio_filepath": f"{root}/clips/b.wav", "duration": 2.2, "text": "two"}
    )
    json_lines(root / "test_manifest.json", {"audio_filepath": "clips/c.wav", "duration": None, "text": "three"})
    done = prepared(tmp_path / "out", "own-audio", root, *EN)
    assert {name: [text for _, text in rows] for name, rows in done.texts().items()} == {
        "train_en": ["one"], "dev_en": ["two"], "test_en": ["three"],
    }  # fmt: skip
    assert done.corrected == 1
    assert not done.left_out
    alone = prepared(tmp_path / "alone", "own-audio", root / "train_manifest.json", *EN)
    assert alone.texts() == {"train_en": [("clips/a", "one")]}


CANARY = {"audio_filepath": "a.wav", "duration": 2.0}


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [  # the texts by manifest
        ({"text": "Hi", "lang": "en"}, (), {"train_en": "Hi"}),
        ({"text": "Hola", "lang": "es"}, (), {"train_es": "Hola"}),
        ({"text": "Salut", "target_lang": "fr"}, (), {"train_fr": "Salut"}),
        ({"text": "Salut", "lang": "fr"}, ("--tgt-lang", "fr"), {"train_fr": "Salut"}),
        ({"text": "Hola", "source_lang": "es", "target_lang": "es", "taskname": "asr"}, (), {"train_es": "Hola"}),
        ({"answer": "Salut", "text": "Hi", "source_lang": "en", "target_lang": "fr", "taskname": "s2t_translation"}, (),
         {"train_en": "Hi", "train_fr": "Salut"}),
        ({"answer": "na", "text": "Hi", "source_lang": "en", "target_lang": "en"}, (), {"train_en": "Hi"}),
        ({"answer": "Hi", "source_lang": "en", "target_lang": "en", "pnc": "yes"}, (), {"train_en": "Hi"}),
    ],
)  # fmt: skip
def test_nemos_one_text_is_a_transcript_or_a_translation_as_its_languages_say(
    tmp_path: Path, row, options, expected
) -> None:
    root = sounds(tmp_path / "r", "a.wav")
    json_lines(root / "manifest.json", {**CANARY, **row})
    done = prepared(tmp_path / "out", "own-audio", root, *EN, *options)
    assert {name: rows[0][1] for name, rows in done.texts().items()} == expected


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"text": "Hi", "taskname": "s2t_translation"}, ":1: found a translation of no language"),
        (
            {"text": "Oi", "source_lang": "en", "target_lang": "fr", "taskname": "asr"},
            ":1: found the task 'asr' from en",
        ),
        ({"text": "Hi", "answer": "Ho", "source_lang": "en", "target_lang": "en"}, ":1: found two transcripts"),
        ({"text": "Hi", "lang": "english"}, "no language code; write for example en"),
        ({"text": "Hi", "duration": 1.0}, "found a length of 1.00 seconds, and "),
        ({"text": "Hi", "duration": 1.0, "offset": 0.0}, "found a length of 1.00 seconds, and "),
        ({"text": "Hi", "duration": 1.9, "offset": 1.0}, "seconds 1 to 2.9 are no part of a recording of 2.00 seconds"),
    ],
)
def test_a_nemo_row_that_cannot_be_is_refused(tmp_path: Path, capsys, row, sentence) -> None:
    root = sounds(tmp_path / "r", "a.wav")
    json_lines(root / "manifest.json", {**CANARY, **row})
    assert sentence in refused(capsys, tmp_path / "out", "own-audio", root, *EN)


def test_nemo_offsets_cut_a_recording_into_its_rows(tmp_path: Path) -> None:
    root = sounds(tmp_path / "r", "a.wav")
    rows = ({"offset": 0.0, "duration": 0.75, "text": "one"}, {"offset": 0.75, "duration": 1.25, "text": "two"})
    json_lines(root / "manifest.json", *({**CANARY, **row} for row in rows))
    done = prepared(tmp_path / "out", "own-audio", root, *EN)
    assert [(Path(row.audio).name, row.tgt_text) for row in done.rows("train_en")] == [
        ("a.wav:0:6000", "one"), ("a.wav:6000:10000", "two"),
    ]  # fmt: skip


# -- Hugging Face --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_audiofolder_has_its_splits_in_folders(tmp_path: Path, form: str) -> None:
    root = tmp_path / "r"
    for split in ("train", "validation", "test"):
        sound(root / split / "0.wav")
        if form == "csv":
            (root / split / "metadata.csv").write_text(f'file_name,transcription\n0.wav,"Hi, {split}"\n')
        else:
            json_lines(root / split / "metadata.jsonl", {"file_name": "0.wav", "transcription": f"Hi, {split}"})
    done = prepared(tmp_path / "out", "own-audio", root, *EN)
    assert done.texts() == {
        "train_en": [("train/0", "Hi, train")], "dev_en": [("validation/0", "Hi, validation")],
        "test_en": [("test/0", "Hi, test")],
    }  # fmt: skip
    assert not done.left_out


def test_an_audiofolder_with_one_table_above_has_them_in_its_paths(tmp_path: Path) -> None:
    root = sounds(tmp_path / "r", "train/0.wav", "valid/1.wav", "valid/2.wav")
    (root / "metadata.csv").write_text("file_name,transcription\ntrain/0.wav,Hi\nvalid/1.wav,Ho\n")
    (root / "dataset_infos.json").write_text("{}")
    done = prepared(tmp_path / "out", "own-audio", root, *EN)
    assert done.texts() == {"train_en": [("train/0", "Hi")], "dev_en": [("valid/1", "Ho")]}
    assert done.left_out == {"table beside metadata.csv": 1, "recording that no row names": 1}


def test_an_audiofolder_in_parquet_says_what_to_do(tmp_path: Path, capsys) -> None:
    root = sounds(tmp_path / "r", "train/0.wav")
    (root / "train/metadata.parquet").write_bytes(b"PAR1")
    sentence = refused(capsys, tmp_path / "out", "own-audio", root, *EN)
    assert "metadata.parquet: a parquet file is not read; write it as metadata.jsonl" in sentence


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train", "validation", "test"), ("train", "dev", "test")),
        (("train", "eval"), ("train", "dev")),
        (("train", "eval", "test"), ("train", "dev", "test")),
        (("train", "dev", "eval"), ("train", "dev", "test")),
        (("Training", "Val", "Testing"), ("train", "dev", "test")),
    ],
)
def test_splits_by_other_names(tmp_path: Path, names, expected) -> None:
    root = sounds(tmp_path / "r", *(f"{k}.wav" for k in range(len(names))))
    rows = "".join(f"{k}.wav,text {k},{name}\n" for k, name in enumerate(names))
    (root / "t.csv").write_text(f"audio,text,split\n{rows}")
    done = prepared(tmp_path / "out", "own-audio", root, *EN)
    assert done.texts() == {f"{split}_en": [(str(k), f"text {k}")] for k, split in enumerate(expected)}
    assert len(done.notes) == sum(name != split for name, split in zip(names, expected, strict=True))


# -- lhotse --------------------------------------------------------------------------------------------------


def recording(name: str, path: Path, seconds: float = 2.0, channels: int = 1) -> dict[str, Any]:
    source = {"type": "file", "channels": list(range(channels)), "source": str(path)}
    count = round(seconds * 8000)
    ids = list(range(channels))
    return {"id": name, "sources": [source], "sampling_rate": 8000, "num_samples": count, "duration": seconds,
            "channel_ids": ids}  # fmt: skip


def span(name: str, start: float, seconds: float, text: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "recording_id": "rec", "start": start, "duration": seconds, "channel": 0, "text": text, **more}


def cut(name: str, start: float, seconds: float, spans: list, of: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": name, "start": start, "duration": seconds, "channel": 0, "supervisions": spans, "recording": of,
            "type": "MonoCut", **more}  # fmt: skip


@pytest.mark.parametrize("name", ["cuts_train.jsonl.gz", "cuts.jsonl"])
def test_lhotse_cuts_are_parts_of_their_recordings(tmp_path: Path, name: str) -> None:
    root = tmp_path / "r"
    rec = recording("rec", sound(root / "wavs/rec.wav"))
    whole = recording("whole", sound(root / "wavs/whole.wav"))
    json_lines(
        root / name,
        cut("c1", 0.5, 1.0, [span("s1", 0.0, 1.0, "one", language="English", speaker="ann")], rec),
        cut("c2", 0.0, 2.0, [span("s2", 0.25, 0.5, "two"), span("s3", 1.0, 0.5, "three")], rec),
        cut("c3", 0.0, 2.0, [span("s4", 0.0, 2.0, "four", custom={"translated_text": {"fra": "quatre"}})], whole),
        cut("c4", 0.0, 2.0, [], whole),
        cut("c5", 1.0, 0.5, [span("s5", 0.0, 0.5, "")], rec),
    )
    done = prepared(tmp_path / "out", "own-audio", root, *OWN)
    rows = {row.id: (Path(row.audio).name, row.n_frames, row.tgt_text) for row in done.rows("train_en")}
    assert rows == {
        "c1": ("rec.wav:4000:8000", 16000, "one"), "s2": ("rec.wav:2000:4000", 8000, "two"),
        "s3": ("rec.wav:8000:4000", 8000, "three"), "c3": ("whole.wav", 32000, "four"),
    }  # fmt: skip
    assert done.texts()["train_fr"] == [("c3", "quatre")]
    assert done.rows("train_en")[0].speaker == "ann"
    assert done.left_out == {"cut without a supervision": 1, "supervision without a text": 1}


def test_lhotse_supervisions_find_their_recordings(tmp_path: Path) -> None:
    root = tmp_path / "r"
    json_lines(
        root / "x_recordings_dev.jsonl.gz",
        recording("rec", sound(root / "a.wav")),
        recording("y", sound(root / "b.wav")),
    )
    json_lines(root / "x_supervisions_dev.jsonl.gz", span("s1", 0.0, 2.0, "one"), span("s2", 0.5, 1.0, "two"))
    done = prepared(tmp_path / "out", "own-audio", root, *EN)
    assert done.texts() == {"dev_en": [("s1", "one"), ("s2", "two")]}
    assert [Path(row.audio).name for row in done.rows("dev_en")] == ["a.wav", "a.wav:4000:8000"]
    assert done.left_out == {"recording without a supervision": 1, "recording that no row names": 1}


REFUSED_CUTS = {
    "mixed": ({"type": "MixedCut", "tracks": []}, "found a MixedCut, which is no part of one recording"),
    "features alone": ({"recording": None, "features": {}}, "found a cut without a recording"),
    "one channel of two": ({"recording": recording("rec", Path("a.wav"), channels=2)}, "found channel 0 of a "),
    "a command": ({"recording": {**recording("rec", Path("a.wav")), "sources": [{"type": "command", "source": "sox"}]}},
                  "is a 'command' and no file"),
    "faster": ({"recording": {**recording("rec", Path("a.wav")), "transforms": [{"name": "Speed", "kwargs": {}}]}},
               "changed as it is read (Speed)"),
    "no start": ({"start": None}, "found None in start; a number of seconds stands there"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_CUTS)
def test_a_cut_that_is_no_part_of_a_file_is_refused_with_its_line(tmp_path: Path, capsys, case: str) -> None:
    change, sentence = REFUSED_CUTS[case]
    root = sounds(tmp_path / "r", "a.wav")
    good = cut("c1", 0.0, 1.0, [span("s1", 0.0, 1.0, "one")], recording("rec", Path("a.wav")))
    json_lines(root / "cuts.jsonl", good, {**good, "id": "c2", **change})
    said = refused(capsys, tmp_path / "out", "own-audio", root, *EN)
    assert f"{root}/cuts.jsonl:2: " in said
    assert sentence in said


# -- Kaldi and ESPnet ----------------------------------------------------------------------------------------


def kaldi(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_scp", ".scp").replace("__", ".")).write_text(text)
    return folder


def test_a_kaldi_folder_with_segments(tmp_path: Path) -> None:
    rec = sound(tmp_path / "audio/rec.wav")
    folder = kaldi(
        tmp_path / "data/train", wav_scp=f"rec {rec}\nunused {rec}\n", text="u1 one two\nu2 three\nu9 nobody\n",
        segments="u1 rec 0.0 0.5\nu2 rec 0.5 -1\nu3 rec 1.0 1.5\n", utt2spk="u1 ann\nu2 bob\n", utt2lang="u2 es\n",
    )  # fmt: skip
    done = prepared(tmp_path / "out", "own-audio", folder, *EN)
    assert done.texts() == {"train_en": [("u1", "one two")], "train_es": [("u2", "three")]}
    (one,), (two,) = done.rows("train_en"), done.rows("train_es")
    assert (Path(one.audio).name, one.speaker) == ("rec.wav:0:4000", "ann")
    assert (Path(two.audio).name, two.speaker) == ("rec.wav:4000:12000", "bob")
    assert done.left_out == {
        "text without a recording": 1, "utterance without a text": 1, "recording without a segment": 1,
    }  # fmt: skip


def test_folders_of_espnet_have_a_text_for_each_language(tmp_path: Path) -> None:
    for split in ("train_sp.en-fr", "dev.en-fr", "tst-COMMON.en-fr"):
        path = sound(tmp_path / f"wav/{split}.wav")
        kaldi(
            tmp_path / "data" / split, wav_scp=f"u {path}\n", utt2dur="u 2.1\n", text__tc__en=f"u Hi, {split}!\n",
            text__lc__rm__en=f"u hi {split}\n", text__lc__fr="u salut\n", text__tc__fr="u Salut !\n",
        )  # fmt: skip
    done = prepared(tmp_path / "out", "own-audio", tmp_path / "data", "--src-lang", "en")
    assert {name: rows[0][1] for name, rows in done.texts().items()} == {
        "train_en": "Hi, train_sp.en-fr!", "dev_en": "Hi, dev.en-fr!", "test_en": "Hi, tst-COMMON.en-fr!",
        "train_fr": "Salut !", "dev_fr": "Salut !", "test_fr": "Salut !",
    }  # fmt: skip
    assert done.corrected == 6
    assert done.left_out == {
        "the same text as text.tc.en, with less of its case or punctuation": 3,
        "the same text as text.tc.fr, with less of its case or punctuation": 3,
    }


@pytest.mark.parametrize(
    ("scp", "more", "sentence"),
    [
        (
            "u sox a.flac -t wav - |\n",
            {},
            "wav.scp:1: found the command 'sox a.flac -t wav - |', and commands of a table",
        ),
        ("u data/raw.ark:1234\n", {}, "wav.scp:1: found 'data/raw.ark:1234', which is no sound file"),
        ("u\n", {}, "wav.scp:1: found a recording without a file"),
        ("u a.wav\nu b.wav\n", {}, "wav.scp:2: found 'u', which line 1 has"),
        ("r a.wav\n", {"segments": "u r 1.0 0.5\n"}, "segments:1: found the end 0.5 before the start 1"),
        ("r a.wav\n", {"segments": "u r 0.0 5.0\n"}, "segments:1, utterance u: "),
        ("r a.wav\n", {"segments": "u x 0.0 1.0\n"}, "segments:1: found the recording 'x', which wav.scp lacks"),
        (
            "r a.wav\n",
            {"segments": "u r 0.0\n"},
            "segments:1: found 'r 0.0'; write utterance, recording, start and end",
        ),
        ("u a.wav\n", {"utt2dur": "u 1.0\n"}, "found a length of 1.00 seconds"),
        ("u a.wav\nv b.wav\n", {"reco2file_and_channel": "u call A\nv call B\n"}, "found channel B of call"),
    ],
)
def test_a_kaldi_folder_that_cannot_be_read_is_refused_with_its_line(
    tmp_path: Path, capsys, scp, more, sentence
) -> None:
    folder = kaldi(tmp_path / "train", wav_scp=scp, text="u one\n", **more)
    sounds(folder, "a.wav", "b.wav")
    assert sentence in refused(capsys, tmp_path / "out", "own-audio", folder, *EN)
