"""`sparqle validate` as a person runs it: table, report, clean manifests and exit codes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from bad_rows import RATE, codes, good_rows, rooted, save, spoil_lines, write, write_raw
from commands import command

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.tools.validate import rows as rows_module


def bad_corpus(folder: Path) -> Path:
    """Eight rows: 0 and 7 are good, 1 to 3 can be mended, 4 to 6 cannot."""
    rows = good_rows(folder, count=8)
    rows[1]["n_frames"] = 7
    rows[2]["src_text"] = "<i>The ferry</i> is\x07 late because of the fog."
    rows[3] |= {"n_frames": "long", "tgt_lang": "French"}
    (folder / rows[4]["audio"]).unlink()
    rows[5]["tgt_text"] = "fog<|im_end|>, and more text."
    rows[6]["id"] = "u0"
    return write_raw(folder, rows)


def test_a_clean_manifest_gives_no_finding(world, capsys) -> None:
    for split in ("train", "train2", "valid", "test", "test_fr"):
        assert main(["validate", str(world.data / f"{split}.tsv"), "--strict", "--workers", "1"]) == 0
        assert re.fullmatch(
            r"1 manifest, \d+ rows, 0.0 hours: 0 errors in 0 rows, 0 warnings\n", capsys.readouterr().out
        )


def test_the_table_names_every_kind_and_its_lines(tmp_path: Path) -> None:
    path = bad_corpus(tmp_path)
    done = command("sparqle", "validate", path, check=False)
    assert done.returncode == 1
    for words in (
        r"n-frames-wrong +error +1 +train.tsv:3\b",
        r"audio-missing +error +1 +train.tsv:6\b",
        r"duplicate-id +error +1 +train.tsv:8\b",
        r"markup +error +2 +train.tsv:4, 7\b",
        r"train.tsv:6 \(utterance u4\): .*/audio/u4.wav: there is no such file",
        r"1 manifest, 8 rows, 0.0 hours: 8 errors in 6 rows, 0 warnings",
    ):
        assert re.search(words, done.stdout), done.stdout
    assert "8/8" in done.stderr  # the progress bar
    assert "\x1b" not in done.stdout


def test_the_report_has_every_finding(tmp_path: Path, capsys) -> None:
    path = bad_corpus(tmp_path)
    report = tmp_path / "report.json"
    assert main(["validate", str(path), "--report", str(report), "--json"]) == 1
    written = json.loads(report.read_text())
    assert written == json.loads(capsys.readouterr().out)
    assert (written["errors"], written["warnings"], written["rows_with_errors"]) == (8, 0, 6)
    assert written["counts"]["markup"] == 2
    assert written["manifests"][0]["rows"] == 8
    places = [(finding["code"], finding["line"]) for finding in written["findings"]]
    assert sorted(places) == sorted(codes(path))
    first = written["findings"][0]
    assert (first["file"], first["id"], first["severity"]) == (str(path), "u1", "error")
    assert "n_frames says 7" in first["message"]
    assert [name.name for name in tmp_path.iterdir() if "tmp" in name.name] == []


def test_fix_writes_a_clean_manifest_and_says_what_it_did(tmp_path: Path, capsys) -> None:
    path = bad_corpus(tmp_path)
    before = path.read_bytes()
    report = tmp_path / "report.json"
    assert main(["validate", str(path), "--fix", "--report", str(report)]) == 0
    assert "5 kept" not in capsys.readouterr().err
    assert path.read_bytes() == before
    clean = read_manifest(tmp_path / "train.clean.tsv")
    old = before.split(b"\n")
    new = (tmp_path / "train.clean.tsv").read_bytes().split(b"\n")
    assert (new[0], new[1], new[5]) == (old[0], old[1], old[8])  # untouched rows stay byte for byte
    assert list(clean.ids()) == ["u0", "u1", "u2", "u3", "u7"]
    assert clean.n_frames.tolist() == [3 * RATE] * 5
    assert clean.text("src_text", 2) == "The ferry is late because of the fog."
    assert clean.row(3).tgt_lang == "fr"
    assert main(["validate", str(tmp_path / "train.clean.tsv"), "--strict"]) == 0
    written = json.loads(report.read_text())
    done = {(finding["line"], finding["code"]): finding["done"] for finding in written["findings"]}
    assert done[6, "audio-missing"] == done[8, "duplicate-id"] == "row left out"
    assert done[3, "n-frames-wrong"] == "changed"
    changes = {finding["line"]: finding["changes"] for finding in written["findings"] if "changes" in finding}
    assert changes[3] == {"n_frames": "48000"}
    clean_entry = written["manifests"][0]["clean"]
    assert clean_entry == {"file": str(tmp_path / "train.clean.tsv"), "kept": 5, "left_out": 3, "changed": 3}


def test_fix_leaves_lines_that_are_no_rows_out(tmp_path: Path) -> None:
    path = write(tmp_path, good_rows(tmp_path))
    spoil_lines(path, {3: b"too\tfew", 5: b"\xff\xff"})
    assert main(["validate", str(path), "--fix", "--report", str(tmp_path / "r.json")]) == 0
    assert list(read_manifest(tmp_path / "train.clean.tsv").ids()) == ["u0", "u2", "u4"]
    assert json.loads((tmp_path / "r.json").read_text())["manifests"][0]["clean"]["left_out"] == 2


def test_fix_refuses_to_replace_a_file_without_force(tmp_path: Path, capsys) -> None:
    path = bad_corpus(tmp_path)
    clean = tmp_path / "train.clean.tsv"
    clean.write_text("mine\n")
    assert main(["validate", str(path), "--fix"]) == 1
    assert "exists already" in capsys.readouterr().err
    assert clean.read_text() == "mine\n"
    assert main(["validate", str(path), "--fix", "--force"]) == 0
    assert len(read_manifest(clean)) == 5


def test_fix_leaves_rows_with_warnings_out_only_if_strict(tmp_path: Path) -> None:
    rows = good_rows(tmp_path)
    rows[2]["tgt_text"] = ""
    path = write(tmp_path, rows)
    assert main(["validate", str(path)]) == 0
    assert main(["validate", str(path), "--strict"]) == 1
    assert main(["validate", str(path), "--fix"]) == 0
    assert len(read_manifest(tmp_path / "train.clean.tsv")) == 5
    assert main(["validate", str(path), "--fix", "--force", "--strict"]) == 0
    assert list(read_manifest(tmp_path / "train.clean.tsv").ids()) == ["u0", "u1", "u3", "u4"]


def test_fix_takes_what_two_splits_share_out_of_the_larger(tmp_path: Path) -> None:
    train, test = good_rows(tmp_path, "u", 6), good_rows(tmp_path, "v", 3)
    train[1]["audio"] = test[2]["audio"]
    names = [str(write(tmp_path, train)), str(write(tmp_path, test, "test.tsv"))]
    assert main(["validate", *names, "--fix"]) == 0
    assert list(read_manifest(tmp_path / "train.clean.tsv").ids()) == ["u0", "u2", "u3", "u4", "u5"]
    assert len(read_manifest(tmp_path / "test.clean.tsv")) == 3


def test_fix_without_a_row_to_keep_writes_nothing_and_fails(tmp_path: Path, capsys) -> None:
    rows = good_rows(tmp_path, count=2)
    for row in rows:
        (tmp_path / row["audio"]).unlink()
    assert main(["validate", str(write(tmp_path, rows)), "--fix"]) == 1
    assert "no row can be kept" in capsys.readouterr().out
    assert not (tmp_path / "train.clean.tsv").exists()


@pytest.mark.parametrize("labels", [".wrd", ".ltr"])
def test_fix_of_a_wav2vec_manifest_keeps_its_form_and_labels(tmp_path: Path, labels: str) -> None:
    path = rooted(tmp_path, labels=labels)
    spoil_lines(path, {3: b"audio/none.wav\t48000", 4: b"audio/u2.wav\t7"})
    bold = "<b>The ferry</b> is late because of the fog."
    spoil_lines(
        path.with_suffix(labels), {4: (bold if labels == ".wrd" else " ".join(bold.replace(" ", "|"))).encode()}
    )
    assert [code for code, _ in codes(path)].count("markup") == 1  # though it is transcript and target
    assert main(["validate", str(path), "--fix", "--src-lang", "en"]) == 0
    clean = read_manifest(tmp_path / "train.clean.tsv")
    assert list(clean.ids()) == ["audio/u0", "audio/u2", "audio/u3", "audio/u4"]
    assert clean.n_frames.tolist() == [3 * RATE] * 4
    old = read_manifest(path)
    texts = [clean.text("src_text", i) for i in range(4)]
    assert texts == [old.text("src_text", 0), old.text("src_text", 2), "The ferry is late because of the fog.",
                     old.text("src_text", 4)]  # fmt: skip
    assert codes(tmp_path / "train.clean.tsv", defaults={"src_lang": "en"}) == []


def test_several_workers_find_what_one_finds(tmp_path: Path) -> None:
    rows = good_rows(tmp_path, count=150)
    draw = np.random.default_rng(0)
    for k in draw.choice(150, 40, replace=False).tolist():
        rows[k]["n_frames"] = 5
    save(tmp_path / rows[149]["audio"], np.zeros(3 * RATE))
    path = write(tmp_path, rows)
    assert codes(path, workers=3) == codes(path)


def test_a_worker_that_dies_is_told_with_its_lines(tmp_path: Path, monkeypatch, capsys) -> None:
    import os

    path = write(tmp_path, good_rows(tmp_path, count=80))
    monkeypatch.setattr(rows_module, "look_at", lambda _: os._exit(9))
    assert main(["validate", str(path), "--workers", "2"]) == 1
    assert re.search(r"error: .*train.tsv: a worker process died at or near lines 2 to 33; ", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--report", "no/such/folder/r.json"], 1, "there is no folder"),
        (["--force"], 2, "--force belongs to --fix"),
        (["--workers", "0"], 2, "workers"),
        (["--src-lang", "english"], 1, ""),
    ],
)
def test_wrong_options_are_told(tmp_path: Path, capsys, arguments: list[str], code: int, words: str) -> None:
    rows = [{k: row[k] for k in ("id", "audio", "n_frames", "tgt_text")} for row in good_rows(tmp_path)]
    assert main(["validate", str(write(tmp_path, rows)), *arguments]) == code
    assert words in capsys.readouterr().err


def test_a_manifest_named_twice_is_refused(tmp_path: Path, capsys) -> None:
    path = str(write(tmp_path, good_rows(tmp_path)))
    assert main(["validate", path, path]) == 1
    assert "named twice" in capsys.readouterr().err
