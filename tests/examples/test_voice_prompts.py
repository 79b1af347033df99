"""The voice prompt recipe's data half, offline, on small packages made here."""

import csv
import gzip
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RECIPE = EXAMPLES / "voice_prompts"


def load(path: Path) -> ModuleType:
    """A script as a module under a name of its own, since other recipes have a `prepare.py` too."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


sys.path.append(str(RECIPE))
import prompt_rows  # noqa: E402
import prompt_splits  # noqa: E402
import prompt_texts  # noqa: E402

fetch = load(RECIPE / "fetch.py")
prepare = load(RECIPE / "prepare.py")

ENGLISH = {
    "a-lost": "the harbour master has lost his keys",
    "b-tide": "...the tide will turn before noon.",
    "c-ferry": "Please wait for the evening ferry.",
    "d-rope": "Tie the blue rope to the post.",
    "e-light": "The lighthouse keeper is asleep.",
    "f-storm": "A storm is coming from the west.",
    "g-fish": "There are no fish left today.",
    "h-boat": "Press 3 to rent a small boat.",
    "i-map": "Your map does not show this island.",
    "j-again-in": "To hear the bells again...",
    "j-again-out": "...to hear the bells again.",
    "k-near": "you are near the old pier",
    "k-near-2": "You are near the old pier!",
    "l-sub/anchor": "The anchor is too heavy for me.",
    "m-word": "harbour",
    "n-horn": "(sound of a fog horn)",
    "o-key": "Press # to leave the long pier.",
    "p-silent": "this one was never recorded here",
    "q-long": "This voice speaks for a very long time.",
    "r-spelled": "S O S E",
    "s-dot": "dot [.]",
    "t-nothing": "[whistle]",
    "u-gulls": "Gulls steal bread from every child.",
    "v-captain": "The captain wants to see you.",
    "w-salt": "Salt water ruins new shoes.",
}
FRENCH = {
    prompt: f"phrase numéro {number} dite au port" for number, prompt in enumerate(ENGLISH) if prompt != "i-map"
} | {"h-boat": "phrase (douce) du port", "k-near-2": "phrase numéro 99 dite au port", "m-word": "port"}
SPANISH = {prompt: f"frase de numero {number} dicha en el puerto" for number, prompt in enumerate(ENGLISH)} | {
    "e-light": "frase de numero 3 dicha en el puerto!",  # the same as d-rope's but for the mark
    "m-word": "puerto",
    "g-fish": "",
}
SECONDS = {"m-word": 0.7, "q-long": 14.0, "s-dot": 0.5}


def tone(seconds: float) -> np.ndarray:
    """int16 samples at 16 kHz, an even number."""
    time = np.arange(2 * round(seconds * 8000)) / 16000
    return (8000 * np.sin(2 * np.pi * (200 + 40 * time) * time)).astype(np.int16)


def write_g722(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="g722") as container:
        stream = container.add_stream("g722", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_package_tree(root: Path, package: str) -> None:
    """What `asterisk-core-sounds-*` of that name unpacks to, in miniature."""
    if package.endswith("g722"):
        for prompt, text in ENGLISH.items():
            if prompt != "p-silent":
                samples = tone(SECONDS.get(prompt, sum(map(str.isalnum, text)) / 12 + 0.3))
                write_g722(root / prepare.SOUNDS / "en_US_f_Tone" / f"{prompt}.g722", samples)
        return
    lang = package[-2:]
    texts = {"en": ENGLISH, "fr": FRENCH, "es": SPANISH}[lang]
    lines = ["; a comment", "", *(f"{prompt}: {text}" for prompt, text in texts.items())]
    path = root / (prepare.TEXT_FILE.format(lang=lang) + ".gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(lines).encode()))


@pytest.fixture(scope="module")
def debs(tmp_path_factory) -> Path:
    """Four real .deb files."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    folder = tmp_path_factory.mktemp("debs")
    for package in fetch.PACKAGES:
        tree = tmp_path_factory.mktemp("tree")
        write_package_tree(tree, package)
        control = tree / "DEBIAN" / "control"
        control.parent.mkdir()
        control.write_text(
            f"Package: {package}\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: small\n"
        )
        subprocess.run(["dpkg-deb", "-b", str(tree), str(folder / f"{package}_1.0_all.deb")], check=True)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A build folder on which prepare.py ran."""
    build = tmp_path_factory.mktemp("build")
    for package in fetch.PACKAGES:
        write_package_tree(build / "unpacked", package)
    prepare.main(["--build", str(build), "--test", "4", "--valid", "2", "--seed", "3"])
    return build


def read_manifest(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def prompt_ids(rows) -> set[str]:
    return {row["id"].rpartition(".")[0] for row in rows}


# fetching


def test_given_packages_unpack_once_and_leave_no_partial_folder(debs, tmp_path, capsys):
    unpacked = fetch.fetch(tmp_path, debs)
    assert len(prepare.find_recordings(unpacked)) == len(ENGLISH) - 1
    assert "unpacking" in capsys.readouterr().out
    fetch.fetch(tmp_path, debs)
    assert "already unpacked" in capsys.readouterr().out
    assert not list(tmp_path.rglob("*.partial"))


def test_a_truncated_package_leaves_no_unpacked_folder(debs, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(debs, damaged)
    deb = damaged / f"{fetch.PACKAGES[-1]}_1.0_all.deb"
    deb.write_bytes(deb.read_bytes()[:300])
    with pytest.raises(fetch.FetchError, match=r"could not unpack .*-es_1\.0_all\.deb"):
        fetch.fetch(tmp_path / "build", damaged)
    assert [path.name for path in (tmp_path / "build").iterdir()] == []


def fake_apt_get(folder: Path, script: str, monkeypatch) -> None:
    folder.mkdir()
    (folder / "apt-get").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_fetching_downloads_each_package_once(debs, tmp_path, monkeypatch):
    log = tmp_path / "log"
    fake_apt_get(
        tmp_path / "bin", f'for p; do :; done; echo "$p" >> "{log}"; cp "{debs}/$p"_1.0_all.deb .', monkeypatch
    )
    fetch.fetch(tmp_path / "build")
    fetch.fetch(tmp_path / "build")
    assert log.read_text().split() == list(fetch.PACKAGES)
    assert sorted(p.name for p in (tmp_path / "build").iterdir()) == ["debs", "unpacked", "unpacked.txt"]


def test_a_package_that_cannot_be_fetched_says_why_and_what_to_do(tmp_path, monkeypatch):
    fake_apt_get(
        tmp_path / "bin", "echo half > half.deb; echo 'E: Unable to locate package' >&2; exit 100", monkeypatch
    )
    with pytest.raises(SystemExit, match=r"Unable to locate package\); run `apt-get update` .* --debs DIR\.$"):
        fetch.main(["--build", str(tmp_path / "build")])
    assert list((tmp_path / "build" / "debs").iterdir()) == []


def test_without_apt_get_the_error_names_the_packages_to_get(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"apt-get was not found.*core-sounds-en-g722.*core-sounds-es.*--debs DIR"):
        fetch.main(["--build", str(tmp_path / "build")])


def test_a_folder_without_a_package_is_refused_by_name(tmp_path):
    with pytest.raises(fetch.FetchError, match=r"no \.deb file of .*core-sounds-fr"):
        fetch.fetch(tmp_path / "build", tmp_path)


# texts


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("...to  leave the menu.", "to leave the menu."),
        ("… appuyez sur 4, ...", "appuyez sur 4"),
        ("“Pour quitter, appuyez sur 8.”", "Pour quitter, appuyez sur 8."),
        ("pour la voix, tel qu'entendue...\"", "pour la voix, tel qu'entendue"),
        ("dash [-]", "dash"),
        ("at the tone (a tone plays)", None),
        ("<beep ascending>", None),
        ("press * or #", None),
        ("appuyez sur dièse.vm-review-nonurgent: Pour enlever", None),
        ("...", None),
        ("", None),
        ("cafe\u0301 ferme\u0301", "café fermé"),
    ],
)
def test_only_spoken_words_are_kept(text, clean):
    assert prompt_texts.clean_text(text) == clean


def test_an_id_with_two_texts_is_left_out_and_one_repeated_is_kept(tmp_path):
    (tmp_path / "x.txt").write_text("; note\na: one\nb: two\nb: three\nc: four: five\nc: four: five\n")
    assert prompt_texts.read_prompts(tmp_path / "x.txt") == {"a": "one", "c": "four: five"}


@pytest.mark.parametrize(("line", "message"), [(b"\xff\xfe: x", "line 2 is not UTF-8"), (b"no colon", "line 2 is not")])
def test_a_damaged_list_is_refused_with_its_line(tmp_path, line, message):
    (tmp_path / "x.txt").write_bytes(b"a: one\n" + line + b"\n")
    with pytest.raises(ValueError, match=message):
        prompt_texts.read_prompts(tmp_path / "x.txt")


def test_a_spelled_abbreviation_is_no_sentence():
    assert not prompt_texts.is_sentence("M I S D N", 4)
    assert prompt_texts.is_sentence("or 9 to save", 4)
    assert not prompt_texts.is_sentence("...wait - here!", 3)


# splits


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=8, max_size=40), st.integers(0, 5))
def test_no_text_is_in_two_splits(pairs, seed):
    texts = {f"p{i:02}": [("en", english), ("fr", french)] for i, (english, french) in enumerate(pairs)}
    groups = prompt_splits.group_by_text(texts)
    try:
        split = prompt_splits.split_prompts(groups, set(texts), 2, 1, seed)
    except ValueError:
        assert sum(len(group) == 1 for group in groups) <= 3
        return
    assert sorted(prompt for ids in split.values() for prompt in ids) == sorted(texts)
    held = {name: {text for prompt in ids for text in texts[prompt]} for name, ids in split.items()}
    assert not held["train"] & held["test"]
    assert not held["train"] & held["valid"]
    assert not held["valid"] & held["test"]


@given(st.integers(2, 40), st.integers(0, 10))
def test_every_row_gets_the_audio_of_another(n, seed):
    rows = [
        prompt_rows.Row(f"r{i}", f"{i}.flac", 100 + i, f"s{i}", f"t{i}", "en", "fr", "translation") for i in range(n)
    ]
    shuffled = prompt_rows.derange_audio(rows, seed)
    assert sorted(row.audio for row in shuffled) == sorted(row.audio for row in rows)
    for before, after in zip(rows, shuffled, strict=True):
        assert after.audio != before.audio
        assert after.n_frames == 100 + int(after.audio.removesuffix(".flac"))
        assert (after.id, after.src_text, after.tgt_text) == (before.id, before.src_text, before.tgt_text)


# manifests


def test_n_frames_is_the_length_of_the_decoded_file(built):
    for path in built.glob("*.tsv"):
        for row in read_manifest(path):
            info = soundfile.info(built / row["audio"])
            assert (info.frames, info.samplerate, info.channels) == (int(row["n_frames"]), 16000, 1), (path, row)


def test_decoded_audio_is_the_recording(built):
    prompt = "c-ferry"
    samples, _ = soundfile.read(built / "audio" / f"{prompt}.flac", dtype="int16")
    spoken = tone(sum(map(str.isalnum, ENGLISH[prompt])) / 12 + 0.3)
    assert len(samples) == len(spoken)
    best = max(np.corrcoef(samples[lag:].astype(float), spoken[: len(spoken) - lag])[0, 1] for lag in range(40))
    assert best > 0.95  # G.722 is lossy and delays by 22 samples or so


def test_manifest_splits_share_no_text(built):
    def texts(name):
        rows = [row for path in built.glob(f"{name}*.tsv") for row in read_manifest(path)]
        assert rows
        pairs = [("en", row["src_text"]) for row in rows] + [(row["tgt_lang"], row["tgt_text"]) for row in rows]
        return {(lang, *prompt_texts.words(text)) for lang, text in pairs}

    train, valid, test = texts("train"), texts("valid"), texts("test")
    assert not train & valid
    assert not train & test
    assert not valid & test


def test_each_prompt_is_where_it_belongs(built):
    names = ("train_stage1", "train_stage2", "valid_stage1", "valid_stage2", "test_asr", "test_fr", "test_es")
    ids = {name: prompt_ids(read_manifest(built / f"{name}.tsv")) for name in names}
    everywhere = set.union(*ids.values())
    assert not everywhere & {"n-horn", "o-key", "p-silent", "q-long", "t-nothing"}
    assert ids["test_asr"] == ids["test_fr"] == ids["test_es"]
    assert ids["valid_stage1"] == ids["valid_stage2"]
    assert (len(ids["test_asr"]), len(ids["valid_stage1"])) == (4, 2)
    repeated = {"j-again-in", "j-again-out", "k-near", "k-near-2", "d-rope", "e-light"}
    incomplete = {"g-fish", "h-boat", "i-map"}
    assert repeated | incomplete <= ids["train_stage2"]
    assert {"m-word", "r-spelled", "s-dot"} <= ids["train_stage1"] - ids["train_stage2"]


def test_stage2_rows_have_the_columns_of_their_task(built):
    rows = {row["id"]: row for row in read_manifest(built / "train_stage2.tsv")}
    assert list(rows["d-rope.fr"]) == [
        "id",
        "audio",
        "n_frames",
        "src_text",
        "tgt_text",
        "src_lang",
        "tgt_lang",
        "task",
    ]
    assert rows["d-rope.en"]["tgt_text"] == rows["d-rope.fr"]["src_text"] == ENGLISH["d-rope"]
    assert rows["d-rope.es"]["tgt_text"] == SPANISH["d-rope"]
    assert [rows[f"d-rope.{lang}"]["task"] for lang in ("en", "fr", "es")] == [
        "transcription",
        "translation",
        "translation",
    ]
    assert not {"g-fish.es", "h-boat.fr", "i-map.fr"} & rows.keys()
    assert {"g-fish.fr", "h-boat.es", "i-map.es"} <= rows.keys()


def test_the_same_seed_gives_the_same_files(built):
    before = {path.name: path.read_bytes() for path in built.glob("*.tsv")}
    prepare.main(["--build", str(built), "--test", "4", "--valid", "2", "--seed", "3"])
    assert before == {path.name: path.read_bytes() for path in built.glob("*.tsv")}
    assert not list(built.rglob("*.partial"))


def test_too_few_prompts_and_a_missing_folder_are_one_sentence(built, tmp_path):
    with pytest.raises(SystemExit, match="prepare: 40 test and 2 valid prompts cannot be drawn from"):
        prepare.main(["--build", str(built), "--valid", "2"])
    with pytest.raises(SystemExit, match=r"core-sounds-en\.txt\[\.gz\] is missing; run fetch\.py first"):
        prepare.main(["--build", str(tmp_path)])


def test_an_empty_recording_is_refused_by_name(tmp_path):
    (tmp_path / "x.g722").write_bytes(b"")
    with pytest.raises(ValueError, match=r"x\.g722"):
        prepare.decode_g722(tmp_path / "x.g722")
