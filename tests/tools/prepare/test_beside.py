"""Texts beside recordings: every file of the folder is used, or named with the reason why it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from asked import OWN, prepared, refused, sound, sounds

from sparqle_fairseq.data.audio import AUDIO_SUFFIXES
from sparqle_fairseq.tools.prepare.languages import language_code, serves
from sparqle_fairseq.tools.prepare.recordings import walk
from sparqle_fairseq.tools.translate.recordings import find_recordings


def texts(folder: Path, **of: str) -> None:
    for name, text in of.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_prepare_and_translate_take_the_same_files_for_audio(tmp_path: Path) -> None:
    root = sounds(tmp_path / "r", "a.wav", "B.WAV", ".hidden.wav")
    sound(root / "c.sph", format="NIST")
    sound(root / "sub/d.oga", format="OGG")
    for name in ("a.txt", "B.TXT", "c.txt", "sub/d.txt", "notes.md"):
        (root / name).write_text("Hi")
    found, _ = find_recordings([str(root)], tmp_path)
    done = prepared(tmp_path / "out", "own-audio", root, *OWN[:2], "--dev", 0, "--test", 0)
    assert sorted(row.audio for row in done.rows("train_en")) == sorted(recording.path for recording in found)
    assert done.left_out == {"file that is neither audio nor text": 1}
    assert {".sph", ".m4a", ".webm", ".aac"} <= AUDIO_SUFFIXES


@pytest.mark.parametrize(
    ("recording", "text"), [("rec.wav", "REC.TXT"), ("Rec.WAV", "rec.txt"), ("rec.wav", "rec.Txt")]
)
def test_a_text_belongs_to_its_recording_in_any_case(tmp_path: Path, recording: str, text: str) -> None:
    root = sounds(tmp_path / "r", recording)
    (root / text).write_text("Hi")
    done = prepared(tmp_path / "out", "own-audio", root, *OWN[:2], "--dev", 0, "--test", 0)
    assert done.texts() == {"train_en": [(recording[:-4], "Hi")]}
    assert not done.left_out


def test_what_is_not_used_is_named_with_its_reason(tmp_path: Path) -> None:
    root = sounds(tmp_path / "r", "a.wav", "b.wav", "c.wav")
    texts(root, a__txt="Hi", a__2__txt="Two", a__final__txt="Hi!", d__txt="Nobody", b__txt=" \n", a__srt="1")
    done = prepared(
        tmp_path / "out", "own-audio", root, "--src-lang", "en", "--dev", 0, "--test", 0, "--left-out", tmp_path / "l"
    )
    assert done.texts() == {"train_en": [("a", "Hi")]}
    assert {tuple(line.split("\t")[1:]) for line in (tmp_path / "l").read_text().splitlines()[1:]} == {
        (f"{root}/a.2.txt", "text with '2' in its name, which is no language code"),
        (f"{root}/a.final.txt", "text with 'final' in its name, which is no language code"),
        (f"{root}/a.srt", "file that is neither audio nor text"),
        (f"{root}/b.txt", "empty text"),
        (f"{root}/b.wav", "recording without a text"),
        (f"{root}/c.wav", "recording without a text"),
        (f"{root}/d.txt", "text without a recording"),
    }


@pytest.mark.parametrize("code", ["fr", "FR", "fr-FR", "fr_FR", "fra", "fre", "fr-CA"])
def test_every_spelling_of_a_language_serves_it(tmp_path: Path, code: str) -> None:
    root = sounds(tmp_path / "r", "talk.wav")
    texts(root, talk__txt="Hi", talk__de__txt="Hallo", talk__2__txt="Two")
    (root / f"talk.{code}.txt").write_text("Salut")
    done = prepared(tmp_path / "out", "own-audio", root, *OWN)
    assert done.texts() == {"train_en": [("talk", "Hi")], "train_fr": [("talk", "Salut")]}
    assert done.rows("train_fr")[0].tgt_lang == "fr"
    assert done.left_out == {
        "text with '2' in its name, which is no language code": 1, "text in German (de), not in fr": 1,
    }  # fmt: skip


def test_of_two_texts_in_one_language_the_nearest_is_taken(tmp_path: Path) -> None:
    root = sounds(tmp_path / "r", "talk.wav")
    texts(root, talk__txt="Hi", talk__en__txt="Hello")
    (root / "talk.fr-CA.txt").write_text("Allô")
    (root / "talk.fr.txt").write_text("Salut")
    done = prepared(tmp_path / "out", "own-audio", root, *OWN)
    assert done.texts() == {"train_en": [("talk", "Hi")], "train_fr": [("talk", "Salut")]}
    assert done.left_out == {"another text of the same recording and language was taken": 2}


@pytest.mark.parametrize(
    ("code", "wanted", "so"),
    [
        ("fr-FR", "fr", True), ("fr", "fr-CA", True), ("zh-Hans", "zh", True), ("zh-CN", "zh", True),
        ("cmn", "zh", True),
        ("zh-Hant", "zh", False), ("zh-TW", "zh-Hans", False), ("pt-PT", "pt-BR", False), ("pt", "pt-BR", True),
        ("sr-Latn", "sr", False), ("de", "fr", False), ("yue", "zh", False),
    ],
)  # fmt: skip
def test_a_language_serves_another_of_the_same_script_and_no_other_country(code: str, wanted: str, so: bool) -> None:
    assert serves(code, wanted) is so


@pytest.mark.parametrize(
    "text", ["2", "01", "v2", "final", "hyp", "xx", "und", "mul", "qaa", "x-y", "de-en", "", "français"]
)
def test_what_langcodes_does_not_know_is_no_language(text: str) -> None:
    assert language_code(text) is None


def test_a_folder_of_which_nothing_can_be_used_is_refused_with_the_reasons(tmp_path: Path, capsys) -> None:
    root = sounds(tmp_path / "r", "rec.wav")
    (root / "rec.2.txt").write_text("Two")
    sentence = refused(capsys, tmp_path / "out", "own-audio", root, *OWN)
    assert f"{root}/rec.2.txt (text with '2' in its name, which is no language code)" in sentence


def test_two_recordings_of_one_name_are_refused(tmp_path: Path, capsys) -> None:
    root = sounds(tmp_path / "r", "a.wav", "a.flac")
    (root / "a.txt").write_text("Hi")
    sentence = refused(capsys, tmp_path / "out", "own-audio", root, *OWN)
    assert f"{root}/a.txt: is a text for a.flac and a.wav; give each recording a name of its own" in sentence


def test_a_number_in_a_name_is_no_language_where_a_recording_has_it(tmp_path: Path) -> None:
    root = sounds(tmp_path / "r", "rec.wav", "rec.2.wav", "rec.fr.wav")
    texts(root, rec__txt="One", rec__2__txt="Two", rec__fr__txt="Three")
    done = prepared(tmp_path / "out", "own-audio", root, *OWN[:2], "--dev", 0, "--test", 0)
    assert done.texts() == {"train_en": [("rec.2", "Two"), ("rec.fr", "Three"), ("rec", "One")]}


def test_hidden_files_are_no_part_of_a_folder(tmp_path: Path) -> None:
    for name in ("a.txt", ".b.txt", ".git/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(walk(tmp_path)) == [tmp_path / "a.txt"]
