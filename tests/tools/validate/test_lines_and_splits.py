"""Broken lines are all reported and lose no other row; speech and text may be in one split only."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from bad_rows import ENGLISH, RATE, codes, findings, good_rows, rooted, save, speech, spoil_lines, write, write_raw

from sparqle_fairseq.data.manifest import ManifestError, read_manifest
from sparqle_fairseq.tools.validate.splits import equal_keys, overlaps, ranks


def test_every_broken_line_is_reported_and_the_others_are_checked(tmp_path: Path) -> None:
    rows = good_rows(tmp_path, count=8)
    rows[7]["n_frames"] = 16
    good = write_raw(tmp_path, rows).read_bytes().split(b"\n")
    spoil_lines(
        tmp_path / "train.tsv",
        {3: b"u1\ttoo\tfew", 4: good[3] + b"\tmore", 6: good[5].replace(b"fog", b"f\xe9g"), 8: b""},
    )
    expected = [("fields", 3), ("fields", 4), ("not-utf8", 6), ("fields", 8), ("n-frames-wrong", 9)]
    assert codes(tmp_path / "train.tsv") == expected
    with pytest.raises(ManifestError, match=r"train.tsv:6: found the byte 0xe9"):
        read_manifest(tmp_path / "train.tsv")


def test_reading_with_faults_gives_each_row_its_own_line(tmp_path: Path) -> None:
    path = write_raw(tmp_path, good_rows(tmp_path, count=6))
    spoil_lines(path, {2: b"x", 5: b"\xff"})
    faults = []
    manifest = read_manifest(path, on_fault=faults.append)
    assert [str(fault).split(": ")[0] for fault in faults] == [f"{path}:5", f"{path}:2"]
    assert [manifest.line_number(i) for i in range(len(manifest))] == [3, 4, 6, 7]
    assert [manifest.row(i).id for i in range(len(manifest))] == ["u1", "u2", "u4", "u5"]
    assert [manifest.row(i).line for i in range(4)] == [3, 4, 6, 7]
    assert manifest.where(2) == f"{path}:6 (utterance u4)"


@pytest.mark.parametrize(
    "content",
    [b"", b"id\taudio\n", b"id\taudio\tn_frames\n", b"id\taudio\tn_frames\nx\n", b"\xff\xfe\n", b"a b\nc d\n"],
)
def test_a_file_that_is_no_manifest_is_one_finding(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.tsv"
    path.write_bytes(content)
    found = findings(path, tmp_path / "none.tsv")
    assert [(f.code, f.line) for f in found if f.code != "fields"] == [("manifest", 0), ("manifest", 0)]
    assert str(path) in found[0].message or found[0].code == "fields"


@pytest.mark.parametrize("labels", [".wrd", ".ltr"])
def test_a_wav2vec_manifest_with_labels_is_checked(tmp_path: Path, labels: str) -> None:
    path = rooted(tmp_path, labels=labels)
    assert codes(path, defaults={"src_lang": "en"}) == []
    label_file = path.with_suffix(labels)
    spoil_lines(path, {2: b"audio/u0.wav", 4: b"audio/u2.wav\t7"})
    spoil_lines(label_file, {2: b"caf\xe9", 5: "Паром опаздывает из-за тумана.".encode()})
    expected = [("fields", 2), ("not-utf8", 3), ("n-frames-wrong", 4), ("script", 6)]
    found = findings(path, defaults={"src_lang": "en"})
    assert [(f.code, f.line) for f in found if f.code != "script"] == expected[:3]
    assert {f.line for f in found if f.code == "script"} == {6}
    assert f"{label_file}:2" in found[1].message


def test_a_label_file_of_another_length_is_one_finding(tmp_path: Path) -> None:
    path = rooted(tmp_path)
    path.with_suffix(".wrd").write_text("one\ntwo\n")
    assert codes(path) == [("manifest", 0)]


# -- splits --------------------------------------------------------------------------------------------------


def two_splits(folder: Path) -> tuple[list[dict], list[dict]]:
    return good_rows(folder, "u", 6), good_rows(folder, "v", 3)


def test_splits_that_share_nothing_are_clean(tmp_path: Path) -> None:
    train, test = two_splits(tmp_path)
    assert codes(write(tmp_path, train), write(tmp_path, test, "test.tsv")) == []


def test_the_same_path_in_two_splits_is_found_in_the_larger(tmp_path: Path) -> None:
    train, test = two_splits(tmp_path)
    train[4]["audio"] = str(tmp_path / "audio" / ".." / test[1]["audio"])
    names = write(tmp_path, train), write(tmp_path, test, "test.tsv")
    for order in (names, names[::-1]):
        (found,) = findings(*order)
        assert (found.code, found.line, found.id) == ("audio-in-two-splits", 6, "u4")
        assert "test.tsv:3 (utterance v1)" in found.message
    assert [code for code, _ in codes(*names, audio=False)] == ["audio-in-two-splits"]


def test_equal_samples_in_other_files_and_formats_are_found(tmp_path: Path) -> None:
    train, test = two_splits(tmp_path)
    wave, _ = soundfile.read(tmp_path / test[2]["audio"], dtype="int16")
    save(tmp_path / "copy.flac", wave)
    save(tmp_path / "talk.wav", np.concatenate([speech(1), speech(seed=1000 * ord("v"))]))
    train[0]["audio"] = "copy.flac"
    train[1]["audio"] = f"talk.wav:{RATE}:{3 * RATE}"
    found = findings(write(tmp_path, train), write(tmp_path, test, "test.tsv"))
    assert [(f.code, f.line) for f in found] == [("audio-in-two-splits", 2), ("audio-in-two-splits", 3)]
    assert "test.tsv:4" in found[0].message
    assert "test.tsv:2" in found[1].message


def test_slices_that_overlap_are_found_and_neighbours_are_not(tmp_path: Path) -> None:
    train, test = two_splits(tmp_path)
    save(tmp_path / "talk.wav", speech(40))
    for row, second in zip(train, (0, 3, 6, 9, 12, 15), strict=True):
        row["audio"] = f"talk.wav:{second * RATE}:{3 * RATE}"
    for row, second in zip(test, (18, 10.5, 30), strict=True):
        row["audio"] = f"talk.wav:{int(second * RATE)}:{3 * RATE}"
    test[2]["audio"] = f"talk.wav:{3 * RATE - 800}:{800}"  # 50 ms: the end of line 2, which one row may hold
    test[2]["n_frames"] = 800
    found = codes(write(tmp_path, train), write(tmp_path, test, "test.tsv"), max_pace=1e9)
    assert found == [("audio-in-two-splits", 5), ("audio-in-two-splits", 6)]


def test_silence_in_two_splits_is_not_the_same_speech(tmp_path: Path) -> None:
    train, test = two_splits(tmp_path)
    for row in (train[0], test[0]):
        save(tmp_path / row["audio"], np.zeros(3 * RATE))
    found = codes(write(tmp_path, train), write(tmp_path, test, "test.tsv"))
    assert found == [("silent", 2), ("silent", 2)]


def test_the_same_text_in_two_splits_is_a_warning(tmp_path: Path) -> None:
    train, test = two_splits(tmp_path)
    train[5]["src_text"] = ENGLISH.format("v0").upper() + "!"
    train[0]["src_text"] = test[1]["src_text"] = "Thank you."
    names = write(tmp_path, train), write(tmp_path, test, "test.tsv")
    (found,) = findings(*names)
    assert (found.code, found.line, found.level) == ("text-in-two-splits", 7, "warning")
    assert "test.tsv:2" in found.message
    assert ("text-in-two-splits", 2) in codes(*names, shared_letters=5)


def test_manifests_joined_by_a_comma_are_one_split(tmp_path: Path) -> None:
    rows = good_rows(tmp_path)
    one = write(tmp_path, rows, "train_st.tsv")
    other = write(tmp_path, [{**row, "tgt_text": row["src_text"], "tgt_lang": "en"} for row in rows], "train_asr.tsv")
    assert {code for code, _ in codes(one, other)} == {"audio-in-two-splits", "text-in-two-splits"}
    assert codes(f"{one},{other}") == []


def test_rows_of_a_smaller_split_own_what_is_shared() -> None:
    assert ranks([10, 3, 5]).tolist() == [2, 0, 1]
    assert ranks([4, 4]).tolist() == [1, 0]
    keys = np.array([7, 7, 9, 0, 7, 9, 0], np.uint64)
    rank = np.array([2, 2, 2, 2, 0, 1, 1])
    assert sorted(equal_keys(keys, rank)) == [(0, 4), (1, 4), (2, 5)]


def test_overlaps_are_those_that_every_pair_of_rows_gives() -> None:
    draw = np.random.default_rng(0)
    for _ in range(30):
        n = 60
        file = draw.integers(0, 4, n).astype(np.uint64)
        start = draw.integers(0, 3000, n)
        end = start + draw.integers(40, 400, n)
        rank = draw.integers(0, 3, n)
        edge = ((end - start) * 0.025).astype(int)
        expected = {
            i
            for i in range(n)
            for j in range(n)
            if file[i] and file[i] == file[j] and rank[j] < rank[i]
            if start[j] + edge[j] < end[i] - edge[i] and start[i] + edge[i] < end[j] - edge[j]
        }
        found = list(overlaps(file, start, end, rank))
        assert sorted(row for row, _ in found) == sorted(expected)
        assert all(file[row] == file[owner] and rank[owner] < rank[row] for row, owner in found)
