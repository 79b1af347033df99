"""Corpora laid out like others, in other languages and by other names: mTEDx, IWSLT, Europarl-ST; marks in CoVoST 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from asked import prepared, refused, sound

from sparqle_fairseq.tools.prepare.splits import split_in_name, split_of


def talks(
    pair: Path, split: str, *languages: str, wav: str = "talk.wav", file: str = "talk.flac", seconds: float = 1.0
) -> Path:
    """`data/<split>` of a pair of languages: one talk with two segments."""
    folder = pair / "data" / split
    (folder / "txt").mkdir(parents=True)
    sound(folder / "wav" / file, 3.0)
    rows = (f"- {{duration: {seconds}, offset: {k}.0, speaker_id: s, wav: {wav}}}\n" for k in (0, 1))
    (folder / "txt" / f"{split}.yaml").write_text("".join(rows))
    for language in languages:
        (folder / "txt" / f"{split}.{language}").write_text(f"one in {language}\ntwo in {language}\n")
    return folder


def test_mtedx_has_spanish_speech_with_spanish_transcripts(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        talks(tmp_path / "c/es-en", split, "es", "en")
    done = prepared(tmp_path / "out", "mustc", tmp_path / "c", "--tgt-lang", "en")
    assert {name: [text for _, text in rows] for name, rows in done.texts().items()} == {
        f"{split}_{language}": [f"one in {language}", f"two in {language}"]
        for split in ("train", "valid", "test")
        for language in ("es", "en")
    }
    row = done.rows("valid_en")[1]
    assert (row.src_text, row.src_lang, row.tgt_lang, row.task) == ("two in es", "es", "en", "translation")
    assert row.audio == f"{tmp_path}/c/es-en/data/valid/wav/talk.flac:8000:8000"


def test_the_spoken_language_is_that_of_the_folder_itself_too(tmp_path: Path, capsys) -> None:
    talks(tmp_path / "pt-en", "train", "pt", "en")
    talks(tmp_path / "renamed", "train", "pt", "en")
    for root in ("pt-en", "renamed"):
        done = prepared(tmp_path / f"out-{root}", "mustc", tmp_path / root, "--tgt-lang", "en")
        assert [row.src_lang for row in done.rows("train_en")] == ["pt", "pt"]
    sentence = refused(capsys, tmp_path / "no", "mustc", tmp_path / "pt-en", "--tgt-lang", "fr")
    assert "holds pt with texts in en, none in fr; give --tgt-lang en" in sentence


def test_two_spoken_languages_with_one_target_need_an_answer(tmp_path: Path, capsys) -> None:
    for source in ("es", "fr"):
        talks(tmp_path / f"{source}-en", "train", source, "en")
    sentence = refused(capsys, tmp_path / "out", "mustc", tmp_path, "--tgt-lang", "en")
    assert "found es-en, fr-en; say which language is spoken with --src-lang" in sentence
    done = prepared(tmp_path / "out", "mustc", tmp_path, "--src-lang", "fr", "--tgt-lang", "en")
    assert sorted(done.texts()) == ["train_en", "train_fr"]


def test_transcripts_of_a_language_alone(tmp_path: Path) -> None:
    talks(tmp_path / "c/es-es", "valid", "es")
    done = prepared(tmp_path / "out", "mustc", tmp_path / "c", "--tgt-lang", "es")
    assert done.texts() == {"valid_es": [("talk_0", "one in es"), ("talk_1", "two in es")]}
    assert {row.task for row in done.rows("valid_es")} == {"transcription"}


def test_test_sets_of_iwslt_are_splits_by_their_own_names(tmp_path: Path, capsys) -> None:
    for split in ("dev", "IWSLT.tst2020"):
        talks(tmp_path / "en-de", split, "en", "de", file="talk.wav")
    sound(tmp_path / "en-de/data/dev/wav/other.wav")
    done = prepared(tmp_path / "out", "mustc", tmp_path, "--tgt-lang", "de")
    assert sorted(done.texts()) == ["IWSLT.tst2020_de", "IWSLT.tst2020_en", "dev_de", "dev_en"]
    assert done.left_out == {"talk without a segment": 1}
    one = prepared(tmp_path / "one", "mustc", tmp_path, "--tgt-lang", "de", "--splits", "validation,IWSLT.tst2020")
    assert sorted(one.texts()) == sorted(done.texts())
    sentence = refused(capsys, tmp_path / "no", "mustc", tmp_path, "--tgt-lang", "de", "--splits", "tst2021")
    assert "there is no such folder" in sentence


@pytest.mark.parametrize(("seconds", "corrected"), [(2.3, True), (2.6, False)])
def test_a_segment_that_ends_after_its_talk_is_counted_or_refused(tmp_path: Path, capsys, seconds, corrected) -> None:
    talks(tmp_path / "en-de", "dev", "en", "de", seconds=seconds)
    words = ("mustc", tmp_path, "--tgt-lang", "de")
    if not corrected:
        sentence = refused(capsys, tmp_path / "out", *words)
        assert "dev.yaml, segment 2, utterance talk_1: " in sentence
        assert "seconds 1 to 3.6 are no part of a recording of 3.00 seconds" in sentence
    else:
        done = prepared(tmp_path / "out", *words)
        assert [row.n_frames for row in done.rows("dev_de")] == [36800, 32000]
        assert done.corrected == 2


def test_europarl_st_has_segments_of_speeches(tmp_path: Path, capsys) -> None:
    root = tmp_path / "v1.1"
    sound(root / "en/audios/en.20081119.5.3-147.flac", 3.0)  # in its owners' archive: m4a
    for split in ("train", "dev", "test"):
        folder = root / "en/fr" / split
        folder.mkdir(parents=True)
        (folder / "segments.lst").write_text("en.20081119.5.3-147 0.0 1.5\nen.20081119.5.3-147 1.5 2.75\n")
        (folder / "segments.en").write_text("One.\nTwo.\n")
        (folder / "segments.fr").write_text("Un.\nDeux.\n")
    done = prepared(tmp_path / "out", "europarl-st", root, "--tgt-lang", "fr")
    assert sorted(done.texts()) == [f"{split}_{lang}" for split in ("dev", "test", "train") for lang in ("en", "fr")]
    row = done.rows("dev_fr")[1]
    assert (row.id, row.src_text, row.tgt_text) == ("en.20081119.5.3-147_1", "Two.", "Deux.")
    assert row.audio.endswith("audios/en.20081119.5.3-147.flac:12000:10000")
    valid = prepared(tmp_path / "valid", "europarl-st", root, "--tgt-lang", "fr", "--splits", "valid")
    assert sorted(valid.texts()) == ["dev_en", "dev_fr"]
    (root / "en/fr/dev/segments.lst").write_text("en.20081119.5.3-147 0.0 1.5\nen.20081119.5.3-147 1.5\n")
    sentence = refused(capsys, tmp_path / "no", "europarl-st", root, "--tgt-lang", "fr")
    assert "segments.lst:2: found 'en.20081119.5.3-147 1.5' where a recording, a start and an end stand" in sentence
    (root / "en/fr/dev/segments.fr").write_text("Un.\n")
    assert "found 1 lines for the 2 segments" in refused(
        capsys, tmp_path / "no", "europarl-st", root, "--tgt-lang", "fr"
    )


def common_voice(root: Path, *rows: tuple[str, str, str], split: str = "dev") -> Path:
    """(clip, sentence as in the table, translation as in the table)."""
    head = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent\n"
    for clip, _, _ in rows:
        sound(root / "clips" / clip)
    (root / "validated.tsv").write_text(head + "".join(f"c\t{clip}\t{text}\t2\t0\t\t\t\n" for clip, text, _ in rows))
    table = "".join(f"{clip}\t{text}\t{split}\n" for clip, _, text in rows)
    (root / "covost_v2.en_de.tsv").write_text("path\ttranslation\tsplit\n" + table)
    return root


def test_translations_that_are_marked_for_removal_are_no_targets(tmp_path: Path) -> None:
    root = common_voice(
        tmp_path, ("a.mp3", "One.", "Eins."), ("b.mp3", "Two.", "REMOVE"), ("c.mp3", "Remove.", "Entfernen."),
        ("d.mp3", "Four.", "#N/A"), ("e.mp3", "Five.", "Remove."),
    )  # fmt: skip
    done = prepared(tmp_path / "out", "covost2", root, "--tgt-lang", "de", "--splits", "dev")
    assert done.texts()["dev_de"] == [("a", "Eins."), ("c", "Entfernen."), ("e", "Remove.")]
    assert done.left_out == {"translation that is the mark REMOVE": 1, "a mark for a translation (#N/A)": 1}
    assert f"{root}/covost_v2.en_de.tsv:3 (b.mp3) (translation that is the mark REMOVE)" in done.named
    assert "kept 1 texts that may be marks of a table ('Remove.' 1 times)" in done.notes[0]


def test_the_tables_that_the_owners_script_writes_have_the_mark_too(tmp_path: Path) -> None:
    sound(tmp_path / "clips/a.mp3")
    sound(tmp_path / "clips/b.mp3")
    rows = "c\ta.mp3\tOne.\tEins.\nc\tb.mp3\tTwo.\tREMOVE\n"
    for split in ("train", "dev", "test"):
        (tmp_path / f"covost_v2.en_de.{split}.tsv").write_text("client_id\tpath\tsentence\ttranslation\n" + rows)
    done = prepared(tmp_path / "out", "covost2", tmp_path, "--tgt-lang", "de", "--splits", "valid")
    assert done.texts() == {"dev_de": [("a", "Eins.")], "dev_en": [("a", "One.")]}
    assert done.left_out == {"translation that is the mark REMOVE": 1}


QUOTED = '"""He,"" she said."'
PLAIN = '"He," she said.'


def test_csv_quotes_in_tables_of_common_voice_are_read(tmp_path: Path) -> None:
    root = common_voice(
        tmp_path, ("a.mp3", QUOTED, '"""Er"", sagte sie."'), ("b.mp3", 'He said \\"no\\".', '"Nein"'),
        ("c.mp3", '"All of it."', 'Ein "Wort".'),
    )  # fmt: skip
    done = prepared(tmp_path / "out", "covost2", root, "--tgt-lang", "de", "--splits", "dev")
    assert [(row.src_text, row.tgt_text) for row in done.rows("dev_de")] == [
        (PLAIN, '"Er", sagte sie.'), ('He said "no".', '"Nein"'), ('"All of it."', 'Ein "Wort".'),
    ]  # fmt: skip


def test_csv_quotes_in_tables_of_fleurs_are_read(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        sound(tmp_path / f"en_us/audio/{split}/1.wav")
        (tmp_path / "fr_fr").mkdir(exist_ok=True)
        (tmp_path / f"en_us/{split}.tsv").write_text(f"1\t1.wav\t{QUOTED}\the she said\th e\t32000\tMALE\n")
        (tmp_path / f"fr_fr/{split}.tsv").write_text("1\t2.wav\tIl, dit-elle.\til dit elle\ti l\t32000\tMALE\n")
    done = prepared(tmp_path / "out", "fleurs", tmp_path, "--tgt-lang", "fr_fr")
    assert sorted(done.texts()) == [f"{split}_{lang}" for split in ("dev", "test", "train") for lang in ("en", "fr")]
    assert done.rows("dev_fr")[0].src_text == PLAIN


def test_recordings_that_no_transcript_of_librispeech_names_are_named(tmp_path: Path) -> None:
    chapter = tmp_path / "LibriSpeech/dev-clean/1/2"
    for k in range(3):
        sound(chapter / f"1-2-000{k}.flac")
    (chapter / "1-2.trans.txt").write_text("1-2-0000 ONE\n1-2-0002 THREE\n")
    done = prepared(tmp_path / "out", "librispeech", tmp_path)
    assert len(done.rows("dev-clean")) == 2
    assert done.named == [f"{chapter}/1-2-0001.flac (recording without a transcript)"]


@pytest.mark.parametrize(
    ("name", "others", "split"),
    [
        ("validation", (), "dev"), ("valid", (), "dev"), ("VAL", (), "dev"), ("tst", (), "test"),
        ("training", (), "train"), ("eval", ("train",), "dev"), ("eval", ("train", "dev"), "test"),
        ("eval", ("train", "test"), "dev"), ("x", (), None),
    ],
)  # fmt: skip
def test_names_of_splits(name: str, others: tuple[str, ...], split: str | None) -> None:
    assert split_of(name, others) == split


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train_manifest.json", "train"), ("cuts-valid.jsonl.gz", "dev"), ("tst-COMMON.en-fr", "test"),
        ("data.csv", None), ("train_dev.json", None), ("training.csv", "train"), ("trainer.csv", None),
    ],
)  # fmt: skip
def test_splits_in_names_of_files(name: str, split: str | None) -> None:
    assert split_in_name(name) == split
