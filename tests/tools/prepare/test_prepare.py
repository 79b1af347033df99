"""`sparqle prepare`: manifests say what the corpus says, point into it, and name what is wrong with it."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import miniature
import numpy as np
import pytest
import soundfile
import tiny
from click.testing import CliRunner

from sparqle_fairseq.cli.main import app, main
from sparqle_fairseq.data.audio import read_audio
from sparqle_fairseq.data.manifest import Manifest, read_manifest
from sparqle_fairseq.tools.prepare.common import CorpusError, Utterance, lines_of, one_line, write_manifests
from sparqle_fairseq.tools.prepare.covost2 import read_covost2
from sparqle_fairseq.tools.prepare.fleurs import language_of, read_fleurs
from sparqle_fairseq.tools.prepare.ledger import Ledger
from sparqle_fairseq.tools.prepare.librispeech import in_case
from sparqle_fairseq.tools.prepare.mustc import read_mustc, read_segments
from sparqle_fairseq.tools.prepare.own_audio import read_own_audio

SHARES = {"dev": 0.1, "test": 0.1}


def prepare(*words: object) -> list[dict]:
    """The JSON report of a command that succeeded."""
    done = CliRunner().invoke(app, ["prepare", *map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The sentence of a command that failed."""
    assert main(["prepare", *map(str, words)]) == 1
    sentence = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(sentence) == 1
    return sentence[0]


def heard(manifest: Manifest, i: int) -> str:
    """The words of tones that row `i` really holds, found by their pitch."""
    wave = read_audio(manifest.audio(i))
    assert len(wave) == manifest.row(i).n_frames
    size = int(tiny.WORD_SECONDS * tiny.RATE)
    pitches = 300 + 350 * np.arange(len(tiny.ENGLISH))
    words = []
    for start in range(0, len(wave) - size // 2, size):
        spectrum = np.abs(np.fft.rfft(wave[start : start + size]))
        pitch = np.fft.rfftfreq(len(wave[start : start + size]), 1 / tiny.RATE)[spectrum.argmax()]
        words.append(tiny.ENGLISH[np.abs(pitches - pitch).argmin()])
    return " ".join(words)


def without_place(utterance: Utterance) -> Utterance:
    return replace(utterance, where="")


def plain(text: str) -> str:
    return text.lower().rstrip(".")


def test_every_row_points_at_the_speech_of_its_text(corpora, tmp_path):
    data = corpora / "data"
    prepare("librispeech", data / "librispeech", "--out", tmp_path)
    prepare("mustc", data / "mustc", "--tgt-lang", "fr", "--out", tmp_path)
    prepare("fleurs", data / "fleurs", "--tgt-lang", "de_de", "--splits", "test", "--out", tmp_path)
    for name in ("dev-clean", "tst-COMMON_fr", "dev_en", "test_de"):
        manifest = read_manifest(tmp_path / f"{name}.tsv", require=("src_text", "tgt_text"))
        assert len(manifest) >= 5
        for i in range(len(manifest)):
            assert heard(manifest, i) == plain(manifest.row(i).src_text)


def test_mp3_clips_and_compressed_own_recordings_are_read(corpora, tmp_path):
    data = corpora / "data"
    prepare(
        "covost2", data / "common_voice_4/en", "--translations", data / "covost2", "--tgt-lang", "de", "--out", tmp_path
    )
    prepare("own-audio", data / "recordings", "--src-lang", "en", "--out", tmp_path / "own")
    for path in (tmp_path / "test_de.tsv", tmp_path / "own" / "train_en.tsv"):
        manifest = read_manifest(path)
        for i in range(len(manifest)):
            assert heard(manifest, i) == plain(manifest.row(i).src_text)


def test_nothing_is_copied(corpora, tmp_path):
    prepare("mustc", corpora / "data/mustc", "--tgt-lang", "fr,de", "--out", tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".tsv"}


# -- LibriSpeech ---------------------------------------------------------------------------------------------


def test_librispeech_rows(corpora, tmp_path):
    report = prepare("librispeech", corpora / "data/librispeech", "--out", tmp_path)
    assert {entry["name"]: entry["rows"] for entry in report} == {
        "train-clean-100": 12, "train-clean-360": 8, "dev-clean": 6, "test-clean": 5,
    }  # fmt: skip
    row = read_manifest(tmp_path / "dev-clean.tsv").row(0)
    assert (row.id, row.speaker, row.task) == ("1036-1241-0000", "1036", "transcription")
    assert row.src_text == row.tgt_text == row.src_text.lower()
    assert (row.src_lang, row.tgt_lang) == ("en", "en")


def test_the_case_of_transcripts_is_changed_on_request_and_said(corpora, tmp_path):
    assert in_case("I SAID I'LL GO", "lower") == "i said i'll go"
    assert in_case("I SAID I'LL GO WITH HIM", "sentence") == "I said I'll go with him"
    root = corpora / "data/librispeech"
    done = CliRunner().invoke(app, ["prepare", "librispeech", str(root), "--out", str(tmp_path / "lower")])
    assert "transcripts were put in lower case" in done.stderr
    done = CliRunner().invoke(
        app, ["prepare", "librispeech", str(root), "--case", "keep", "--out", str(tmp_path / "k")]
    )
    assert "transcripts were" not in done.stderr
    kept = read_manifest(tmp_path / "k" / "dev-clean.tsv").row(0).src_text
    assert kept.isupper()
    assert read_manifest(tmp_path / "lower" / "dev-clean.tsv").row(0).src_text == kept.lower()


def test_a_packed_split_says_how_to_unpack_it(corpora, tmp_path, capsys):
    with tarfile.open(tmp_path / "dev-clean.tar.gz", "w:gz") as packed:
        packed.add(corpora / "data/librispeech/LibriSpeech/dev-clean", "LibriSpeech/dev-clean")
    for words in (["--splits", "dev-clean"], []):
        sentence = refusal(capsys, "librispeech", tmp_path, *words, "--out", tmp_path / "out")
        assert "dev-clean.tar.gz: recordings in this archive cannot be read in place" in sentence
        command = sentence[sentence.index("tar xf") :]
        assert command == f"tar xf {tmp_path}/dev-clean.tar.gz -C {tmp_path}"
    subprocess.run(command.split(), check=True)
    assert prepare("librispeech", tmp_path, "--out", tmp_path / "out")[0]["rows"] == 6
    assert "error: " in refusal(capsys, "librispeech", tmp_path, "--splits", "test-clean", "--out", tmp_path / "out")
    assert main(["prepare", "librispeech", str(tmp_path), "--splits", "dev", "--out", str(tmp_path / "out")]) == 2


def test_a_missing_recording_stops_before_anything_is_written_or_is_left_out(corpora, tmp_path, capsys):
    root = tmp_path / "corpus"
    shutil.copytree(corpora / "data/librispeech/LibriSpeech/dev-clean", root / "dev-clean")
    recordings = sorted(root.rglob("*.flac"))
    recordings[0].unlink()
    recordings[1].write_bytes(b"fLaC" + b"\0" * 10)
    sentence = refusal(capsys, "librispeech", root, "--out", tmp_path / "out")
    assert f"{recordings[0]}: there is no such file" in sentence
    assert sentence.endswith("--skip-bad-audio leaves such utterances out")
    assert not (tmp_path / "out").exists()
    (report,) = prepare("librispeech", root, "--skip-bad-audio", "--out", tmp_path / "out")
    assert (report["rows"], report["left_out"]) == (4, {"bad audio": 2})
    assert report["named"] == [f"{path.stem} (bad audio)" for path in recordings[:2]]
    shutil.rmtree(root)
    assert "no such folder" in refusal(capsys, "librispeech", root, "--out", tmp_path / "out")


# -- MuST-C --------------------------------------------------------------------------------------------------


def test_mustc_rows_are_slices_in_the_owners_order(corpora, tmp_path):
    root = corpora / "data/mustc"
    report = prepare("mustc", root, "--tgt-lang", "fr,de", "--rows", "translation", "--out", tmp_path)
    assert [entry["name"] for entry in report if entry["name"].startswith("tst")] == [
        f"tst-{part}_{lang}" for lang in ("fr", "de") for part in ("COMMON", "HE")
    ]
    manifest = read_manifest(tmp_path / "tst-COMMON_fr.tsv")
    texts = (root / "en-fr/data/tst-COMMON/txt/tst-COMMON.fr").read_text().splitlines()
    assert [manifest.row(i).tgt_text for i in range(len(manifest))] == texts
    row = manifest.row(0)
    assert row.audio == f"{root}/en-fr/data/tst-COMMON/wav/ted_300.wav:4000:{row.n_frames}"
    assert (row.id, row.speaker, row.task, row.tgt_lang) == ("ted_300_0", "spk.300", "translation", "fr")


def test_mustc_slices_count_samples_of_the_talks_own_rate(tmp_path):
    miniature.mustc(tmp_path / "corpus", languages=("fr",), rate=48000)
    prepare("mustc", tmp_path / "corpus/en-fr", "--tgt-lang", "fr", "--rows", "transcription", "--out", tmp_path)
    manifest = read_manifest(tmp_path / "dev_en.tsv")
    assert manifest.audio(0).split(":")[1] == "12000"
    assert heard(manifest, 0) == plain(manifest.row(0).src_text)


def test_a_segment_up_to_half_a_second_past_the_end_ends_there_and_is_counted(tmp_path):
    wav = tmp_path / "talk.wav"
    soundfile.write(wav, np.zeros(16000), 16000)
    for duration, expected in ((0.505, f"{wav}:8000:8000"), (0.9, f"{wav}:8000:8000"), (1.1, None), (0.0, None)):
        row = Utterance("u", str(wav), "a", "b", "en", "fr", start=0.5, duration=duration)
        if expected is None:
            with pytest.raises(CorpusError, match=r"m, utterance u: .*talk\.wav: seconds 0\.5 to .* 1\.00 seconds"):
                write_manifests({"m": [row]}, tmp_path / "out")
            assert not (tmp_path / "out").exists()
        else:
            (report,) = write_manifests({"m": [row]}, tmp_path)
            assert report.corrected == (duration > 0.505)
            assert read_manifest(tmp_path / "m.tsv").row(0).audio == expected


def test_empty_texts_are_left_out_and_counted(corpora, tmp_path):
    root = tmp_path / "corpus"
    shutil.copytree(corpora / "data/mustc/en-fr", root / "en-fr")
    texts = root / "en-fr/data/dev/txt/dev.fr"
    lines = texts.read_text().splitlines()
    texts.write_text("\n".join([lines[0], "  ", *lines[2:]]) + "\n")
    report = prepare("mustc", root, "--tgt-lang", "fr", "--splits", "dev", "--out", tmp_path)
    assert [(entry["rows"], entry["left_out"]) for entry in report] == [(5, {"empty translation": 1}), (6, {})]
    texts.write_text("\n".join(lines[1:]) + "\n")
    with pytest.raises(CorpusError, match=r"dev\.fr: found 5 lines for the 6 segments of .*dev\.yaml"):
        read_mustc(root, ("fr",), splits=("dev",))


def test_every_yaml_spelling_of_a_segment_is_read(tmp_path):
    table = tmp_path / "s.yaml"
    fast = "- {duration: 3.500000, offset: 16.090000, rW: 9, uW: 0, speaker_id: spk.767, wav: ted_767.wav}\n"
    spellings = (
        fast,
        "-  {wav: ted_767.wav, speaker_id: spk.767, offset: 16.090000, duration: 3.500000, rW: 9, uW: 0}\n",
        "- {duration: '3.500000', offset: 16.090000, rW: 9, uW: 0, speaker_id: spk.767, wav: \"ted_767.wav\"}\n",
        "- duration: 3.500000\n  offset: 16.090000\n  rW: 9\n  uW: 0\n  speaker_id: spk.767\n  wav: ted_767.wav\n",
    )
    for text in spellings:
        table.write_text(text * 2)
        first, second = read_segments(table)
        assert first == second
        assert (first["duration"], first["offset"], first["wav"]) == ("3.500000", "16.090000", "ted_767.wav")
        assert first["speaker_id"] == "spk.767"
    for text, sentence in (("- {wav: x}\n", "segment 1 has no duration"), ("{", "cannot be read"), ("a: b", "no list")):
        table.write_text(text)
        with pytest.raises(CorpusError, match=sentence):
            read_segments(table)


# -- CoVoST 2 ------------------------------------------------------------------------------------------------


def test_covost2_reads_the_packed_table_and_the_owners_scripts_tables(corpora, tmp_path):
    clips, packed = corpora / "data/common_voice_4/en", corpora / "data/covost2"
    ledger = Ledger()
    released = read_covost2(clips, packed, "en", ("de",), ledger=ledger)
    assert not ledger.left_out
    assert {name: len(rows) for name, rows in released.items()} == {
        "train_de": 14, "train_en": 14, "dev_de": 6, "dev_en": 6, "test_de": 5, "test_en": 5,
    }  # fmt: skip
    for split in ("train", "dev", "test"):
        rows = [f"{Path(u.recording).name}\t{u.src_text}\t{u.tgt_text}\t{u.speaker}" for u in released[f"{split}_de"]]
        text = "\n".join(["path\tsentence\ttranslation\tclient_id", *rows]) + "\n"
        (tmp_path / f"covost_v2.en_de.{split}.tsv").write_text(text)
    again = read_covost2(clips, tmp_path, "en", ("de",))
    assert {name: list(map(without_place, rows)) for name, rows in again.items()} == {
        name: list(map(without_place, rows)) for name, rows in released.items()
    }


def test_covost2_texts_are_unescaped_as_the_owners_script_does(tmp_path):
    (tmp_path / "clips").mkdir()
    row = 'c1\tx.mp3\tHe said \\"no\\" and "left".\t2\t0\t\t\t\n'
    (tmp_path / "validated.tsv").write_text(
        "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent\n" + row
    )
    (tmp_path / "covost_v2.en_de.tsv").write_text(
        "path\ttranslation\tsplit\nx.mp3\t„Nein“\u2028\tdev\ny.mp3\tDa\tdev\n"
    )
    ledger = Ledger()
    manifests = read_covost2(tmp_path, tmp_path, "en", ("de",), "translation", ("dev",), ledger)
    (utterance,) = manifests["dev_de"]
    lacking = (f"{tmp_path}/covost_v2.en_de.tsv:3 (y.mp3)", "translation into de of a clip that Common Voice lacks")
    assert ledger.left_out == [lacking]
    assert utterance.src_text == 'He said "no" and "left".'
    assert utterance.tgt_text == "„Nein“"
    with pytest.raises(CorpusError, match=r"en_fr\.tsv: found neither this table nor covost_v2\.en_fr\.tsv\.tar\.gz"):
        read_covost2(tmp_path, tmp_path, "en", ("fr",))
    (tmp_path / "covost_v2.en_ca.tsv.tar.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(CorpusError, match=r"en_ca\.tsv\.tar\.gz: cannot be read"):
        read_covost2(tmp_path, tmp_path, "en", ("ca",))


# -- FLEURS --------------------------------------------------------------------------------------------------


def test_fleurs_joins_sentences_of_two_languages_by_id(corpora, tmp_path):
    root = tmp_path / "hub"
    shutil.copytree(corpora / "data/fleurs", root / "data")  # as on Hugging Face
    table = root / "data/fr_fr/dev.tsv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if not line.startswith("1000\t")))
    ledger = Ledger()
    manifests = read_fleurs(root, "en_us", ("fr_fr", "de_de"), splits=("dev",), ledger=ledger)
    assert ledger.reasons() == {"recording of a sentence that fr lacks": 2}  # two people read that sentence
    assert ledger.left_out[0][0].startswith(f"{root}/data/en_us/dev.tsv:1 (")
    assert {name: len(rows) for name, rows in manifests.items()} == {"dev_fr": 6, "dev_de": 8, "dev_en": 8}
    for utterance in manifests["dev_fr"]:
        english = plain(utterance.src_text).split()
        assert plain(utterance.tgt_text) == " ".join(tiny.FRENCH[word] for word in english).lower()
    normalized = read_fleurs(root, "en_us", ("de_de",), splits=("dev",), text="normalized")
    assert normalized["dev_en"][0].src_text == plain(manifests["dev_en"][0].src_text)


def test_fleurs_recordings_that_are_packed_say_how_to_unpack_them(corpora, tmp_path, capsys):
    root = tmp_path / "fleurs"
    shutil.copytree(corpora / "data/fleurs", root)
    audio = root / "en_us/audio"
    with tarfile.open(audio / "dev.tar.gz", "w:gz") as packed:
        packed.add(audio / "dev", "dev")
    shutil.rmtree(audio / "dev")
    sentence = refusal(capsys, "fleurs", root, "--tgt-lang", "fr_fr", "--splits", "dev", "--out", tmp_path)
    assert sentence.endswith(f"unpack it once: tar xf {audio}/dev.tar.gz -C {audio}")


@pytest.mark.parametrize(
    ("folder", "code"),
    [("en_us", "en"), ("fr_fr", "fr"), ("es_419", "es-419"), ("pt_br", "pt"), ("cmn_hans_cn", "cmn"), ("nb_no", "nb"),
     ("yue_hant_hk", "yue"), ("sr_rs", "sr"), ("ceb_ph", "ceb"), ("en_gb", "en-GB")],
)  # fmt: skip
def test_fleurs_folders_become_the_shortest_language_code(folder, code):
    assert language_of(folder) == code


def test_a_folder_that_is_no_language_is_refused():
    with pytest.raises(CorpusError, match="is no language folder of FLEURS"):
        language_of("xx_yy")


# -- recordings of one's own ---------------------------------------------------------------------------------


def wavs(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        soundfile.write(folder / name, np.zeros(16000), 8000)


def own(root: Path, **options) -> dict[str, list[tuple[str, str]]]:
    options = {"source": "en", "shares": {"dev": 0.0, "test": 0.0}, **options}
    return {name: [(u.id, u.tgt_text) for u in rows] for name, rows in read_own_audio(root, **options).items()}


def test_texts_beside_recordings(tmp_path):
    wavs(tmp_path, "a.wav", "b[1].wav", "c.wav", "d.wav")
    for name, text in {"a.txt": "Hi\nyou\r\n", "a.fr.txt": "Salut", "a.de.txt": "Hallo", "b[1].en.txt": "Bye"}.items():
        (tmp_path / name).write_bytes(text.encode())
    (tmp_path / "c.fr.txt").write_text("Oui")
    assert own(tmp_path) == {
        "train_en": [("a", "Hi you"), ("b[1]", "Bye")],
        "train_de": [("a", "Hallo")],
        "train_fr": [("a", "Salut"), ("c", "Oui")],
    }
    assert set(own(tmp_path, target="fr")) == {"train_en", "train_fr"}


TABLES = {
    "t.csv": 'file,text,translation,speaker\na.wav,"Hi, you",Salut,p\nb.wav,Bye,"Au\nrevoir",q\n',
    "semi.csv": "file;text;translation;speaker\na.wav;Hi, you;Salut;p\nb.wav;Bye;Au revoir;q\n",
    "t.tsv": "audio\ttranscript\ttranslation\na.wav\tHi, you\tSalut\nb.wav\tBye\tAu revoir\n",
    "t.json": '[{"path": "a.wav", "sentence": "Hi, you", "tgt_text": "Salut"},'
    ' {"path": "b.wav", "sentence": "Bye", "tgt_text": "Au\\trevoir"}]',
    "t.jsonl": '{"audio": "a.wav", "transcript": "Hi, you", "translation": "Salut"}\n'
    '{"audio": "b.wav", "transcript": "Bye", "translation": "Au revoir"}\n',
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_every_kind(tmp_path, name):
    wavs(tmp_path, "a.wav", "b.wav")
    (tmp_path / name).write_text(TABLES[name])
    assert own(tmp_path, target="fr") == {
        "train_en": [("a", "Hi, you"), ("b", "Bye")],
        "train_fr": [("a", "Salut"), ("b", "Au revoir")],
    }


def test_a_table_cuts_recordings_and_gives_splits(tmp_path):
    wavs(tmp_path / "r", "long.wav")
    (tmp_path / "t.tsv").write_text(
        "audio\ttranscript\tstart\tend\tsplit\nlong.wav\tone\t0\t0.5\ttrain\nlong.wav\ttwo\t0.5\t1.25\tdev\n"
    )
    command = ["own-audio", tmp_path / "r", "--table", tmp_path / "t.tsv", "--src-lang", "en"]
    prepare(*command, "--out", tmp_path)
    row = read_manifest(tmp_path / "dev_en.tsv").row(0)
    assert (row.id, row.audio, row.n_frames) == ("long_0.5", f"{tmp_path}/r/long.wav:4000:6000", 12000)
    assert len(read_manifest(tmp_path / "train_en.tsv")) == 1


def test_recordings_in_a_zip_file_are_read_in_place(corpora, tmp_path, capsys):
    sounds = sorted((corpora / "data/recordings").rglob("take.*.flac"))[:4]
    (tmp_path / "t.jsonl").write_text(
        "".join(
            json.dumps({"audio": path.name, "transcript": path.with_suffix(".txt").read_text()}) + "\n"
            for path in sounds
        )
    )
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "r.zip", "w", method) as packed:
            for path in sounds:
                member = zipfile.ZipInfo(path.name)
                member.extra = b"\x99\x99\x04\x00abcd"  # moves the data on
                member.compress_type = method
                packed.writestr(member, path.read_bytes())
        words = [
            "own-audio",
            tmp_path / "r.zip",
            "--table",
            tmp_path / "t.jsonl",
            "--src-lang",
            "en",
            "--out",
            tmp_path,
        ]
        if method == zipfile.ZIP_DEFLATED:
            assert "is compressed, and only what is stored can be read in place" in refusal(capsys, *words)
            continue
        prepare(*words, "--dev", "0", "--test", "0")
        manifest = read_manifest(tmp_path / "train_en.tsv")
        assert [heard(manifest, i) for i in range(4)] == [plain(manifest.row(i).src_text) for i in range(4)]


def test_splits_are_drawn_once_and_keep_texts_or_speakers_together(tmp_path):
    wavs(tmp_path, "x.wav")
    rows = [f"{i}\tx.wav\ttext {i % 40}\tspeaker {i % 7}" for i in range(200)]
    (tmp_path / "t.tsv").write_text("id\taudio\ttranscript\tspeaker\n" + "\n".join(rows) + "\n")
    for group, name in (("text", "src_text"), ("speaker", "speaker")):
        options = {"source": "en", "shares": SHARES, "group": group}
        drawn = read_own_audio(tmp_path, **options)
        assert drawn == read_own_audio(tmp_path, **options)
        assert drawn != read_own_audio(tmp_path, seed=2, **options)
        groups = [{getattr(u, name) for u in drawn[f"{split}_en"]} for split in ("train", "dev", "test")]
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
        assert sum(map(len, drawn.values())) == 200
        if group == "text":
            assert [len(group) for group in groups] == [32, 4, 4]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("audio\ttranslation\na.wav\tSalut\n", "found a translation of no language; give --tgt-lang"),
        ("audio\tnotes\na.wav\tx\n", "found the columns audio, notes; it needs audio, and transcript or translation"),
        ("audio\ttranscript\n\tHi\n", "t.tsv:2: found an empty audio"),
        ("audio\ttranscript\tstart\na.wav\tHi\tsoon\n", "t.tsv:2: found 'soon' in start; write seconds"),
        ("audio\ttranscript\tsplit\na.wav\tHi\theld\n", "t.tsv:2: found the split 'held'; write train, dev, test"),
        ("audio\ttranscript\na.wav\tHi\na.wav\tHo\n", "t.tsv:3: found the id 'a', which "),
        ("audio\ttranscript\nz.wav\tHi\n", "z.wav: there is no such file"),
        ("audio\ttranscript\n", "found no rows"),
    ],
)
def test_a_fault_in_a_table_is_one_sentence(tmp_path, capsys, table, sentence):
    wavs(tmp_path, "a.wav", "b.wav")
    (tmp_path / "t.tsv").write_text(table)
    assert sentence in refusal(capsys, "own-audio", tmp_path, "--src-lang", "en", "--out", tmp_path / "out")


def test_a_folder_without_texts_and_one_with_two_tables_are_refused(tmp_path, capsys):
    wavs(tmp_path, "a.wav")
    words = ["own-audio", tmp_path, "--src-lang", "en", "--out", tmp_path / "out"]
    assert "found no recordings with a text" in refusal(capsys, *words)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("audio,transcript\na.wav,Hi\n")
    assert "found a.csv, b.csv; say which one with --table" in refusal(capsys, *words)


# -- what all share ------------------------------------------------------------------------------------------


def test_only_a_line_feed_ends_a_line(tmp_path):
    path = tmp_path / "t"
    path.write_bytes("\ufeffone\u2028still\x85one\r\ntwo\x0bstill two\n\nfour".encode())
    assert lines_of(path, "x") == ["one\u2028still\x85one", "two\x0bstill two", "", "four"]
    assert one_line(" a\tb\r\n\nc ") == "a b c"


def test_a_folder_that_cannot_be_written_is_named(corpora, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    sentence = refusal(capsys, "librispeech", corpora / "data/librispeech", "--out", tmp_path / "file")
    assert f"{tmp_path}/file: cannot be written" in sentence


@pytest.mark.long
def test_the_tables_of_a_quarter_of_a_million_segments_are_read_in_seconds(tmp_path):
    import time

    folder = tmp_path / "en-fr/data/train"
    (folder / "wav").mkdir(parents=True)
    (folder / "txt").mkdir()
    talks, per_talk = 2500, 100
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(per_talk * 160, np.int16), 16000, format="WAV")
    with (folder / "txt/train.yaml").open("w") as table:
        for talk in range(talks):
            (folder / f"wav/ted_{talk}.wav").write_bytes(silence.getvalue())
            for k in range(per_talk):
                table.write(
                    f"- {{duration: 0.010000, offset: {k / 100:.6f}, rW: 9, uW: 0, speaker_id: spk.{talk}, "
                    f"wav: ted_{talk}.wav}}\n"
                )
    for lang in ("en", "fr"):
        (folder / f"txt/train.{lang}").write_text("a sentence of ordinary length, more or less\n" * talks * per_talk)
    started = time.perf_counter()
    manifests = read_mustc(tmp_path, ("fr",))
    read = time.perf_counter() - started
    reports = write_manifests(manifests, tmp_path / "out")
    total = time.perf_counter() - started
    print(f"tables {read:.1f} s, with headers and writing {total:.1f} s")
    assert [report.rows for report in reports] == [talks * per_talk] * 2
    assert total < 60, f"{total:.0f} s"


def test_a_damaged_recording_is_refused_left_out_or_taken_as_it_is(tmp_path, capsys):
    folder = tmp_path / "own"
    folder.mkdir()
    for name in ("a", "b", "c"):
        soundfile.write(folder / f"{name}.wav", 0.1 * np.random.default_rng(0).standard_normal(32000), 16000)
        (folder / f"{name}.txt").write_text(f"sentence {name}")
    data = (folder / "b.wav").read_bytes()
    (folder / "b.wav").write_bytes(data[: len(data) // 2])
    command = ["prepare", "own-audio", str(folder), "--src-lang", "en", "--dev", "0", "--test", "0"]
    assert main([*command, "--out", str(tmp_path / "strict")]) == 1
    assert "b.wav: about 1.0 seconds are lost: the file is truncated" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "left"), "--skip-bad-audio"]) == 0
    assert "left out 1 bad audio" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "taken"), "--no-strict-audio"]) == 0
    assert "b.wav: about 1.0 seconds are lost" in capsys.readouterr().err
    rows = {
        row.audio[-5:]: row.n_frames for row in map(read_manifest(tmp_path / "taken" / "train_en.tsv").row, range(3))
    }
    assert rows == {"a.wav": 32000, "b.wav": 15989, "c.wav": 32000}
