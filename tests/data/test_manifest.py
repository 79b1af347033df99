"""Manifests: every row of both forms is read as written, and every fault stops with one sentence."""

import os
import pickle
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from many_rows import save_many

from sparqle_fairseq.data.manifest import (
    KNOWN_COLUMNS,
    Manifest,
    ManifestError,
    ManifestRow,
    read_manifest,
    write_manifest,
)

EXAMPLES = Path(__file__).parents[2] / "manifests"
HEAD = "id\taudio\tn_frames\ttgt_text"
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def save(folder: Path, text: str | bytes, name: str = "m.tsv") -> str:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def table(*lines: str, head: str = HEAD) -> str:
    return "\n".join((head, *lines)) + "\n"


# -- the TSV form --------------------------------------------------------------------------------------------


def test_a_row_has_every_cell_and_every_default(tmp_path: Path) -> None:
    path = save(tmp_path, table("u1\ta/x.wav\t16000\tBonjour", "u2\t/abs/y.flac\t7\tSalut"))
    manifest = read_manifest(path, src_lang="en", tgt_lang="fr")
    assert len(manifest) == 2
    assert manifest.columns == ("id", "audio", "n_frames", "tgt_text")
    assert manifest.n_frames.dtype == np.int64
    assert manifest.n_frames.tolist() == [16000, 7]
    assert list(manifest.ids()) == ["u1", "u2"] == [manifest.id(0), manifest.id(1)]
    audio = str(tmp_path / "a/x.wav")
    expected = ManifestRow("u1", audio, 16000, None, "Bonjour", "en", "fr", "translation", None, None, 2)
    assert manifest.row(0) == expected
    assert manifest.row(1).audio == "/abs/y.flac"
    assert manifest.where(1) == f"{path}:3 (utterance u2)"


def test_text_is_not_lower_cased(tmp_path: Path) -> None:
    text = '  "ÉTÉ" İstanbul | Straße,\u00a0e\u0301 \u2028 \x0b\x85 日本 😀 '
    manifest = read_manifest(save(tmp_path, table(f"U\tX.WAV\t1\t{text}")))
    assert manifest.text("tgt_text", 0) == text
    assert manifest.id(0) == "U"


def test_relative_audio_follows_the_audio_root(tmp_path: Path) -> None:
    path = save(tmp_path, table("u1\tx.wav:5:10\t10\tA"))
    assert read_manifest(path).row(0).audio == f"{tmp_path}/x.wav:5:10"
    assert read_manifest(path, audio_root="/corpus").row(0).audio == "/corpus/x.wav:5:10"


def test_paths_survive_a_change_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, table("u1\tx.wav\t10\tA"))
    monkeypatch.chdir(tmp_path)
    assert read_manifest("m.tsv").row(0).audio == str(tmp_path / "x.wav")


@pytest.mark.parametrize(
    ("cells", "defaults", "expected"),
    [
        ("\t\t", {}, "transcription"),
        ("\ten\tfr", {}, "translation"),
        ("\ten\ten", {}, "transcription"),
        ("\ten\tEN", {}, "transcription"),
        ("\ten-US\ten-GB", {}, "translation"),
        ("\ten\t", {}, "transcription"),
        ("\ten\t", {"tgt_lang": "de"}, "translation"),
        ("\t\ten", {"src_lang": "en"}, "transcription"),
        ("\t\tde", {}, "translation"),
        ("\ten\tfr", {"row_task": "transcription"}, "transcription"),
        ("translation\ten\ten", {"row_task": "transcription"}, "translation"),
        ("transcription\ten\tfr", {}, "transcription"),
    ],
)
def test_task_is_the_cell_then_the_default_then_the_languages(
    tmp_path: Path, cells: str, defaults: dict[str, str], expected: str
) -> None:
    path = save(tmp_path, table(f"u\tx\t1\t{cells}", head="id\taudio\tn_frames\ttask\tsrc_lang\ttgt_lang"))
    manifest = read_manifest(path, **defaults)
    assert manifest.row(0).task == manifest.task(0) == manifest.text("task", 0) == expected
    assert manifest.is_translation().tolist() == [expected == "translation"]


def test_defaults_fill_empty_cells_and_only_those(tmp_path: Path) -> None:
    path = save(tmp_path, table("u1\tx\t1\tpl\t", "u2\tx\t1\t\tfr", head="id\taudio\tn_frames\tsrc_lang\ttgt_lang"))
    rows = [read_manifest(path, src_lang="en", tgt_lang="de").row(i) for i in range(2)]
    assert [(row.src_lang, row.tgt_lang) for row in rows] == [("pl", "de"), ("en", "fr")]


def test_without_src_text_transcription_rows_take_tgt_text(tmp_path: Path) -> None:
    path = save(tmp_path, table("u1\tx\t1\tHello"))
    assert read_manifest(path, require=("src_text",)).row(0).src_text == "Hello"
    assert read_manifest(path, src_lang="en", tgt_lang="fr").row(0).src_text is None
    with pytest.raises(ManifestError, match=r"m\.tsv:2 \(utterance u1\): stage 1 needs .* translation row"):
        read_manifest(path, src_lang="en", tgt_lang="fr", require=("src_text",))


def test_an_empty_src_text_cell_is_not_filled_from_tgt_text(tmp_path: Path) -> None:
    path = save(tmp_path, table("u1\tx\t1\t\tHello", head="id\taudio\tn_frames\tsrc_text\ttgt_text"))
    assert read_manifest(path).row(0).src_text is None


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_line_endings_and_byte_order_mark_change_nothing(tmp_path: Path, ending: str, last: str, start: bytes) -> None:
    text = ending.join((HEAD, "u1\tx\t1\tA", "u2\ty\t22\tB")) + last
    manifest = read_manifest(save(tmp_path, start + text.encode()))
    assert manifest.columns[0] == "id"
    assert [manifest.text("tgt_text", i) for i in range(2)] == ["A", "B"]
    assert manifest.n_frames.tolist() == [1, 22]


def test_an_empty_cell_is_none_and_an_unknown_column_an_error(tmp_path: Path) -> None:
    manifest = read_manifest(save(tmp_path, table("u1\tx\t1\t", "u2\tx\t1\tB")))
    assert manifest.text("tgt_text", 0) is None
    assert manifest.text("speaker", 0) is None
    with pytest.raises(KeyError, match="tgt_txt"):
        manifest.text("tgt_txt", 0)
    with pytest.raises(IndexError, match="rows 0 to 1, not -1"):
        manifest.row(-1)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"m\.tsv: found an empty manifest"),
        (b" \n\n", r"m\.tsv: found an empty manifest"),
        (HEAD.encode(), r"m\.tsv: found a first line but no rows"),
        (b"id\taudio\ttgt_text\nu\tx\tA\n", r"m\.tsv:1: found no column n_frames"),
        (b"id\taudio\tn_frames\tid\nu\tx\t1\tu\n", r"m\.tsv:1: found the column 'id' twice"),
        (b"id,audio,n_frames\nu,x,1\n", r"m\.tsv:1: found neither .* separated by tabs"),
        (table("u\tx\t1\tA", "v\tx\t1").encode(), r"m\.tsv:3: found too few fields, 3 where the header has 4"),
        (table("u\tx\t1\tA\tB", "v\tx").encode(), r"m\.tsv:2: found too many fields, 5 where the header has 4"),
        (table("u\tx\t1\tA", "", "v\tx\t1\tB").encode(), r"m\.tsv:3: found too few fields, 1 where"),
        (table("u\tx\t1\tA", "v\tx\t1\t").encode() + b"\xff\n", r"m\.tsv:4: found the byte 0xff, which is not UTF-8"),
        (table("u\tx\t1\tA").encode("utf-16"), r"m\.tsv:1: found the byte 0xff, which is not UTF-8"),
        (table("u\tx\t1\tA", "v\tx\t1\tB", "u\tx\t1\tC").encode(), r"m\.tsv:4: found the id 'u', which line 2 has"),
        (table("u\tx\t0\tA").encode(), r"m\.tsv:2 \(utterance u\): found '0' in n_frames"),
        (table("u\tx\t-5\tA").encode(), r"found '-5' in n_frames"),
        (table("u\tx\t16000.0\tA").encode(), r"found '16000\.0' in n_frames"),
        (table("u\tx\t\tA").encode(), r"found '' in n_frames"),
        (table("u\tx\t1:\tA").encode(), r"found '1:' in n_frames"),
        (table("u\tx\t1/\tA").encode(), r"found '1/' in n_frames"),
        (table("u\tx\t1\tA", "v\tx\t99999999999999999999\tA").encode(), r"m\.tsv:3 .*found '9{20}' in n_frames"),
        (table("u\tx\t٣\tA").encode(), r"found '٣' in n_frames"),
        (table("\tx\t1\tA").encode(), r"m\.tsv:2: found an empty cell in id"),
        (table("u\t \t1\tA").encode(), r"m\.tsv:2: found an empty cell in audio"),
        (table("u\tx\t1\tST", head="id\taudio\tn_frames\ttask").encode(), r"m\.tsv:2: found 'ST' in task; write tran"),
    ],
)
def test_a_fault_is_one_sentence_with_file_and_line(tmp_path: Path, content: bytes, sentence: str) -> None:
    with pytest.raises(ManifestError, match=sentence) as caught:
        read_manifest(save(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_missing_manifest_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.tsv: there is no such manifest"):
        read_manifest(tmp_path / "none.tsv")
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path)
    with pytest.raises(ManifestError, match="'ST' as default task"):
        read_manifest(save(tmp_path, table("u\tx\t1\tA")), row_task="ST")


@pytest.mark.parametrize("empty", ["", " ", "\u3000", "\u00a0 "])
def test_an_empty_required_text_names_its_line(tmp_path: Path, empty: str) -> None:
    path = save(tmp_path, table("u1\tx\t1\tA", f"u2\tx\t1\t{empty}", "u3\tx\t1\t\u3000日"))
    assert len(read_manifest(path)) == 3
    with pytest.raises(ManifestError, match=r"m\.tsv:3 \(utterance u2\): stage 2 needs .* empty tgt_text"):
        read_manifest(path, require=("tgt_text",))
    with pytest.raises(ManifestError, match=r"m\.tsv:3 \(utterance u2\): stage 1 needs .* empty tgt_text"):
        read_manifest(path, require=("src_text",))


def test_a_required_column_that_is_missing_is_an_error_unless_a_default_fills_it(tmp_path: Path) -> None:
    path = save(tmp_path, table("u1\tx\t1\tA", head="id\taudio\tn_frames\tsrc_text"))
    with pytest.raises(ManifestError, match="stage 2 needs a target text in tgt_text and found only the columns"):
        read_manifest(path, require=("tgt_text",))
    with pytest.raises(ManifestError, match="needs tgt_lang"):
        read_manifest(path, require=("tgt_lang",))
    assert len(read_manifest(path, require=("tgt_lang", "src_text"), tgt_lang="fr")) == 1


# -- the wav2vec and HuBERT form -----------------------------------------------------------------------------


def hubert(folder: Path, *, labels: str | None, suffix: str = ".wrd") -> str:
    if labels is not None:
        save(folder, labels, "h" + suffix)
    return save(folder, "/data/root\na/b.c/one.flac\t100\ntwo\t200\n", "h.tsv")


def test_hubert_ids_are_paths_without_suffix_and_text_serves_both_uses(tmp_path: Path) -> None:
    manifest = read_manifest(hubert(tmp_path, labels="Hello you\nÜber\n"), require=("src_text", "tgt_text"))
    expected = ManifestRow(
        "a/b.c/one",
        "/data/root/a/b.c/one.flac",
        100,
        "Hello you",
        "Hello you",
        None,
        None,
        "transcription",
        None,
        None,
        2,
    )
    assert manifest.row(0) == expected
    assert manifest.row(1).id == "two"
    assert manifest.row(1).src_text == "Über"
    assert manifest.where(1) == f"{tmp_path}/h.tsv:3 (utterance two)"


def test_hubert_audio_root_replaces_the_root_folder(tmp_path: Path) -> None:
    path = hubert(tmp_path, labels=None)
    assert read_manifest(path, audio_root="/moved").row(1).audio == "/moved/two"
    assert read_manifest(path).row(1).src_text is None


def test_a_hubert_manifest_is_not_its_own_label_file(tmp_path: Path) -> None:
    manifest = read_manifest(save(tmp_path, "/r\na.wav\t5\n", "m.txt"))
    assert manifest.columns == ("id", "audio", "n_frames")


def test_hubert_zip_members_keep_distinct_ids(tmp_path: Path) -> None:
    manifest = read_manifest(save(tmp_path, "/r\nx.zip:0:5\t10\nx.zip:5:5\t10\n"))
    assert list(manifest.ids()) == ["x.zip:0:5", "x.zip:5:5"]


def test_letter_labels_become_words(tmp_path: Path) -> None:
    manifest = read_manifest(hubert(tmp_path, labels="H E L L O | Y O U |\nÉ T É |\n", suffix=".ltr"))
    assert [manifest.row(i).tgt_text for i in range(2)] == ["HELLO YOU", "ÉTÉ"]


def test_word_labels_come_before_letters_and_a_named_file_before_both(tmp_path: Path) -> None:
    save(tmp_path, "L |\nL |\n", "h.ltr")
    other = save(tmp_path, "other\nother\n", "other.txt")
    path = hubert(tmp_path, labels="word\nword\n")
    assert read_manifest(path).row(0).src_text == "word"
    assert read_manifest(path, labels=other).row(0).src_text == "other"


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ("one\n", r"h\.wrd: found 1 lines for the 2 rows of .*h\.tsv"),
        ("one\ntwo\nthree\n", r"h\.wrd: found 3 lines for the 2 rows"),
        ("one\n\n", r"h\.tsv:3 \(utterance two\): stage 1 needs .* empty src_text"),
        (None, "stage 1 needs .* put a label file beside it"),
        ("\n", r"h\.wrd: found an empty label file"),
    ],
)
def test_hubert_labels_that_do_not_fit_are_named(tmp_path: Path, labels: str | None, sentence: str) -> None:
    with pytest.raises(ManifestError, match=sentence):
        read_manifest(hubert(tmp_path, labels=labels), require=("src_text",))


def test_empty_lines_after_the_last_label_are_no_labels(tmp_path: Path) -> None:
    assert read_manifest(hubert(tmp_path, labels="one\r\ntwo\r\n\r\n\n")).row(1).src_text == "two"


def test_hubert_lines_need_two_fields(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"m\.tsv:3: found too few fields, 1 where a path and n_samples make 2"):
        read_manifest(save(tmp_path, "/root\na.wav\t5\nb.wav\n"))
    with pytest.raises(ManifestError, match=r"m\.tsv:2 \(utterance a\): found 'x' in n_frames"):
        read_manifest(save(tmp_path, "/root\na.wav\tx\n"))


# -- writing, examples, any input ----------------------------------------------------------------------------


def test_writing_replaces_a_file_only_when_all_of_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "m.tsv"
    columns = ["id", "audio", "n_frames", "tgt_text"]
    rows = [{"id": "u", "audio": "x", "n_frames": 5, "tgt_text": None}]
    assert write_manifest(path, rows, columns) == 1
    before = path.read_bytes()
    assert before == b"id\taudio\tn_frames\ttgt_text\nu\tx\t5\t\n"
    for cell in ("a\tb", "a\nb", "a\r", "\ud800"):
        with pytest.raises(ManifestError, match=r"m\.tsv:3: found"):
            write_manifest(path, [*rows, {"id": "v", "audio": "x", "n_frames": 5, "tgt_text": cell}], columns)
    with pytest.raises(ManifestError, match="'lang', which is no column"):
        write_manifest(path, [{"id": "v", "lang": "fr"}], columns)
    with pytest.raises(ManifestError, match="name id, audio and n_frames"):
        write_manifest(path, rows, ["id", "audio"])
    with pytest.raises(ManifestError, match="there is no folder"):
        write_manifest(tmp_path / "no" / "m.tsv", rows, columns)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.tsv"]


def test_written_manifests_can_be_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "m.tsv"
    umask = os.umask(0o022)
    try:
        write_manifest(path, [{"id": "u", "audio": "x", "n_frames": 5}], ["id", "audio", "n_frames"])
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o644


def test_rows_read_can_be_written_again(tmp_path: Path) -> None:
    manifest = read_manifest(EXAMPLES / "stage2.tsv")
    rows = [manifest.row(i) for i in range(len(manifest))]
    write_manifest(tmp_path / "copy.tsv", rows, KNOWN_COLUMNS)
    copy = read_manifest(tmp_path / "copy.tsv")
    assert [copy.row(i) for i in range(len(copy))] == rows


def test_a_manifest_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    manifest = read_manifest(save(tmp_path, table("u1\tx\t1\tA", "u2\tx\t2\tB")))
    copy = pickle.loads(pickle.dumps(manifest))
    assert [copy.row(i) for i in range(2)] == [manifest.row(i) for i in range(2)]


@pytest.mark.parametrize(
    ("name", "require", "tasks"),
    [
        ("stage1.tsv", ("src_text", "src_lang"), ["transcription"] * 4),
        ("stage2.tsv", ("src_text", "tgt_text", "tgt_lang"), ["translation", "transcription", *["translation"] * 2]),
        ("hubert_style.tsv", ("src_text", "tgt_text"), ["transcription"] * 3),
    ],
)
def test_the_example_manifests_are_read(name: str, require: tuple[str, ...], tasks: list[str]) -> None:
    manifest = read_manifest(EXAMPLES / name, require=require)
    assert [manifest.task(i) for i in range(len(manifest))] == tasks


def touch_everything(manifest: Manifest) -> None:
    manifest.is_translation()
    ids = list(manifest.ids())
    assert len(ids) == len(set(ids)) == len(manifest) > 0
    for i in range(len(manifest)):
        row = manifest.row(i)
        assert row.id == ids[i]
        assert row.n_frames == manifest.n_frames[i] > 0
        assert f":{row.line} " in manifest.where(i)


alphabet = st.sampled_from("\t\n\r|:./ 019aé日\u3000\ufeff\x00\x85")
lines = st.lists(st.lists(st.text(alphabet, max_size=4), max_size=5).map("\t".join), max_size=6).map("\n".join)
heads = st.sampled_from(["", HEAD + "\n", "id\taudio\tn_frames\n", "/root\n", "n_frames\tid\taudio\ttask\tsrc_lang\n"])


@quick
@given(head=heads, body=st.one_of(st.binary(max_size=80), lines.map(str.encode)), require=st.booleans())
def test_any_bytes_are_a_manifest_or_a_manifest_error(tmp_path: Path, head: str, body: bytes, require: bool) -> None:
    path = save(tmp_path, head.encode() + body)
    message = ""
    try:
        touch_everything(read_manifest(path, require=("src_text",) if require else ()))
    except ManifestError as error:
        message = str(error)
    assert message.startswith(path) or not message
    assert "\n" not in message


@quick
@given(data=st.data())
def test_a_row_changed_in_one_place_is_a_manifest_or_a_manifest_error(tmp_path: Path, data: st.DataObject) -> None:
    good = bytearray(table("u1\tx\t12\tA b", "u2\ty\t345\tÇ", "u3\tz\t6\t日").encode())
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.sampled_from(b"\t\n\r 0u|\xff\xc3"))
    try:
        manifest = read_manifest(save(tmp_path, bytes(good)))
    except ManifestError:
        return
    touch_everything(manifest)


cell = st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), max_size=12)
filled = cell.filter(lambda text: bool(text.strip()))
row = st.fixed_dictionaries(
    {
        "id": filled,
        "audio": filled,
        "n_frames": st.integers(1, 10**18 - 1),
        "src_text": cell,
        "speaker": cell,
        "x": cell,
    }
)


@quick
@given(rows=st.lists(row, min_size=1, max_size=8, unique_by=lambda row: row["id"]))
def test_what_is_written_is_read_again(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    path = tmp_path / "m.tsv"
    assert write_manifest(path, rows, list(rows[0])) == len(rows)
    manifest = read_manifest(path, audio_root="/r")
    assert len(manifest) == len(rows)
    for i, written in enumerate(rows):
        got = {name: manifest.text(name, i) for name in ("id", "src_text", "speaker", "x")}
        assert got == {name: written[name] or None for name in got}
        assert manifest.audio(i) == os.path.join("/r", str(written["audio"]))
        assert manifest.n_frames[i] == written["n_frames"]


# -- size ----------------------------------------------------------------------------------------------------


def peak_bytes(path: Path) -> int:
    """The most memory that Python and numpy held at one time while the manifest was read."""
    tracemalloc.start()
    try:
        assert len(read_manifest(path)) > 0
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_bytes_are_those_of_the_files_and_of_where_cells_end(tmp_path: Path) -> None:
    rows, columns = 1000, 8
    size = save_many(tmp_path / "m.tsv", rows)
    assert read_manifest(tmp_path / "m.tsv").nbytes == size + rows * (4 * (columns + 1) + 8)
    labels = "".join(f"text {i}\n" for i in range(rows))
    path = hubert(tmp_path, labels=labels)
    listed = save(tmp_path, "/root\n" + "".join(f"{i}.wav\t5\n" for i in range(rows)), "h.tsv")
    assert path == listed
    # Three ends of two columns, the id's own end, both ends of the labels, and the lengths.
    expected = os.path.getsize(path) + len(labels) + rows * 4 * (3 + 1 + 2) + rows * 8
    assert read_manifest(path).nbytes == expected


def test_bytes_are_what_reading_leaves_in_memory(tmp_path: Path) -> None:
    save_many(tmp_path / "m.tsv", 20_000)
    tracemalloc.start()
    try:
        manifest = read_manifest(tmp_path / "m.tsv")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held == pytest.approx(manifest.nbytes, rel=0.02)


def test_loading_keeps_no_object_per_row(tmp_path: Path) -> None:
    """Against a list of dictionaries, which is what a reader with Python objects per row would build."""
    path = tmp_path / "m.tsv"
    size = save_many(path, 100_000)
    started = time.perf_counter()
    with path.open(newline="") as file:
        rows = [dict(zip(KNOWN_COLUMNS, line.rstrip("\n").split("\t"), strict=False)) for line in file]
    plain = time.perf_counter() - started
    assert len(rows) == 100_001
    del rows
    started = time.perf_counter()
    manifest = read_manifest(path, require=("src_text", "tgt_text"))
    ours = time.perf_counter() - started
    assert ours < 2 * plain, f"{ours / plain:.1f} times as long as splitting the lines in Python"
    assert len(pickle.dumps(manifest)) < 1.6 * size
    assert peak_bytes(path) < 3.5 * size
    assert manifest.row(99_999).id == "utt-00099999"


@pytest.mark.long
def test_a_million_rows_load_in_seconds_and_stay_small(tmp_path: Path) -> None:
    path = tmp_path / "m.tsv"
    size = save_many(path, 1_000_000)
    started = time.perf_counter()
    manifest = read_manifest(path, require=("src_text", "tgt_text"))
    seconds = time.perf_counter() - started
    assert seconds < 3, f"{seconds:.1f} s"
    assert manifest.row(999_999).line == 1_000_001
    del manifest
    assert peak_bytes(path) < min(400e6, 2.5 * size)
