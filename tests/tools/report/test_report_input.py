"""Whatever a system wrote its texts in, they are matched to their utterances; what does not fit is one sentence."""

from __future__ import annotations

import json

import pytest
from two_systems import FRENCH, GOOD, IDS, SAID, content, generated, report

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.report.run import manifests_named


def segments(texts):
    """What `sparqle translate --json` writes, the first recording in two segments."""
    parts = [[text] for text in texts]
    parts[0] = [texts[0][:7], texts[0][7:]]
    return [
        {
            "audio": f"wav/{name}.wav",
            "language": "fr",
            "task": "translation",
            "segments": [{"start": i, "end": i + 1.0, "text": piece, "score": -0.1} for i, piece in enumerate(own)],
        }
        for name, own in zip(IDS, parts, strict=True)
    ]


def as_table(columns, rows):
    return "\n".join("\t".join(row) for row in (columns, *rows)) + "\n"


FORMS = {
    "lines.txt": "\n".join(GOOD),
    "lines-of-windows.txt": "\ufeff" + "\r\n".join(GOOD) + "\r\n",
    "by-id.tsv": as_table(
        ["score", "id", "hypothesis"], [["nan", *pair] for pair in zip(IDS, GOOD, strict=True)][::-1]
    ),
    "by-id.json": json.dumps(dict(reversed(list(zip(IDS, GOOD, strict=True))))),
    "records.json": json.dumps([{"id": i, "prediction": text} for i, text in zip(IDS, GOOD, strict=True)][::-1]),
    "records.jsonl": "\n".join(json.dumps({"utt_id": i, "mt": t}) for i, t in zip(IDS, GOOD, strict=True)) + "\n",
    "list.json": json.dumps(GOOD),
    "in-order.jsonl": "\n".join(json.dumps({"text": text}) for text in GOOD),
    "translate.json": json.dumps(segments(GOOD)[::-1]),
    "printed.txt": json.dumps(segments(GOOD)),
    "translate.tsv": as_table(
        ["audio", "start", "end", "language", "text", "score", "ended", "flag"],
        [[f"wav/{i}.wav", "0.000", "1.000", "fr", text, "-0.1", "end", ""] for i, text in zip(IDS, GOOD, strict=True)],
    ),
}


FORMS["nbest.tsv"] = as_table(
    ["audio", "start", "language", "text", "rank"],
    [[f"wav/{i}.wav", "0.0", "fr", t, str(rank)] for i, text in zip(IDS, GOOD, strict=True)
     for rank, t in ((1, text), (2, "autre"))],
)  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_the_same_texts_in_any_form_have_the_same_scores(small, name):
    path = small.folder / name
    path.write_text(FORMS[name], encoding="utf-8", newline="")
    out = small.folder / "out"
    report(f"one={small.good}", f"other={path}", "--manifest", small.manifest, "-o", out)
    part = content(out)["parts"][0]
    assert part["scores"]["one"] == part["scores"]["other"]
    assert part["examples"]["one"]["worst"] == part["examples"]["other"]["worst"]


def test_references_alone_are_a_test_set_too(small):
    (small.folder / "ref.txt").write_text("\n".join(FRENCH) + "\n", encoding="utf-8")
    (small.folder / "src.txt").write_text("\n".join(SAID) + "\n", encoding="utf-8")
    (small.folder / "hyp.txt").write_text("\n".join(GOOD) + "\n", encoding="utf-8")
    out = small.folder / "out"
    words = ["--references", small.folder / "ref.txt", "--sources", small.folder / "src.txt", "--tgt-lang", "fr"]
    report(small.folder / "hyp.txt", small.good, *words, "-o", out)
    part = content(out)["parts"][0]
    assert part["scores"]["hyp"] == part["scores"]["good"]
    assert (out / "comet" / "translation_fr" / "hyp.txt").is_file()
    without = small.folder / "without"
    report(small.good, small.bad, "-o", without)
    assert content(without)["parts"][0]["scores"]["good"]["bleu"] == part["scores"]["good"]["bleu"]


def test_rows_without_reference_are_counted_and_cost_no_other_row(small):
    lines = small.manifest.read_text(encoding="utf-8").replace(FRENCH[1], " ")
    small.manifest.write_text(lines, encoding="utf-8")
    small.good.write_text(generated(GOOD, [FRENCH[0], "", *FRENCH[2:]]), encoding="utf-8")
    out = small.folder / "out"
    done = report(small.good, "--manifest", small.manifest, "-o", out)
    part = content(out)["parts"][0]
    assert (part["n"], part["without_reference"]) == (3, 1)
    assert "1 utterances have no reference and are not scored" in done.output


def test_missing_rows_are_refused_or_counted_as_empty_when_told(small):
    path = small.folder / "some.tsv"
    path.write_text("id\thypothesis\nu1\tLe chat.\nu3\tLe vieil homme.\nu4\tElle lit.\n", encoding="utf-8")
    words = [path, "--manifest", small.manifest, "-o", small.folder / "out"]
    with pytest.raises(SparqleError, match=r"1 of 4 utterances have no hypothesis, the first is test row 1 \(.* u2\)"):
        report(*words)
    report(*words, "--missing-as-empty")
    part = content(small.folder / "out")["parts"][0]
    assert part["flags"]["some"]["rows"]["missing"] == {"count": 1, "ids": ["u2"]}
    assert part["examples"]["some"]["worst"][0]["hypothesis"] == ""


WRONG = {
    "too few lines": ("x.txt", "\n".join(GOOD[:3]), "has 3 texts and test 4 utterances; line k must be"),
    "an id twice": ("x.tsv", "id\ttext\nu1\ta\nu1\tb\n", "found 'u1' twice"),
    "an id of elsewhere": (
        "x.tsv", "id\ttext\n" + "".join(f"{i}\ta\n" for i in [*IDS, "u9"]), "of no utterance of test .* is 'u9'",
    ),
    "no column of texts": ("x.tsv", "id\tscore\nu1\t0.1\n", r"x\.tsv:1: found no column of hypotheses among id, score"),
    "a cell too many": ("x.tsv", "id\ttext\nu1\ta\tb\n", r"x\.tsv:2: found 3 cells, and the header has 2"),
    "broken json": ("x.json", '{"u1": "a",', r"x\.json:1: the file of hypotheses is not JSON"),
    "a broken line": ("x.jsonl", '{"id": "u1", "text": "a"}\n{"id"', r"x\.jsonl:2: the line is not JSON"),
    "numbers": ("x.json", '{"u1": 1}', "neither texts by id nor segments"),
    "a record without text": ("x.json", '[{"id": "u1", "text": "a"}, {"id": "u2"}]', "record 2 has no text"),
    "a record without id": ("x.json", '[{"id": "u1", "text": "a"}, {"text": "b"}]', "record 2 has no id"),
    "two languages": (
        "x.json",
        json.dumps([{**segments(GOOD)[0], "language": code} for code in ("fr", "de")]),
        "found texts in de, fr; give the texts of each language in a file",
    ),
    "a failed recording": (
        "x.json", json.dumps([{"audio": "wav/u1.wav", "error": "no samples"}]), r"wav/u1\.wav was not translated .no s",
    ),
    "a recording of elsewhere": (
        "x.json", json.dumps([{**segments(GOOD)[0], "audio": "other.wav"}]), r"found other\.wav, which is no recording",
    ),
    "an empty file": ("x.txt", "\n", "found no text"),
    "another test set": ("x.txt", generated(GOOD, [*FRENCH[:2], "Autre.", FRENCH[3]]), "reference of row 2 is 'Autre"),
    "rows beyond": ("x.txt", generated([*GOOD, "e"], [*FRENCH, "e"]), "1 of 5 hypotheses are of no utterance"),
    "a cut line": ("x.txt", "T-0\ta\nD-0\t-0.1\ta\nD-1\t-0.1", "line 3 is cut off"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_one_sentence_and_nothing_is_written(small, case):
    name, text, message = WRONG[case]
    path = small.folder / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SparqleError, match=message) as error:
        report(path, "--manifest", small.manifest, "-o", small.folder / "out")
    assert "\n" not in str(error.value)
    assert not (small.folder / "out").exists()


@pytest.mark.parametrize("column", ["src_lang", "tgt_lang"])
def test_a_code_that_names_no_language_is_named_with_its_line(small, column):
    lines = small.manifest.read_text(encoding="utf-8").splitlines()
    place = lines[0].split("\t").index(column)
    cells = lines[3].split("\t")
    cells[place] = "klingonese"
    lines[3] = "\t".join(cells)
    path = small.folder / "codes.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = rf"codes\.tsv:4 \(utterance {IDS[2]}\): {column} 'klingonese' is not a BCP-47 language code; write"
    with pytest.raises(SparqleError, match=found):
        report(small.good, "--manifest", path, "-o", small.folder / "out")
    assert not (small.folder / "out").exists()


def test_another_encoding_is_named_with_its_line(small):
    path = small.folder / "latin.txt"
    path.write_bytes("\n".join(GOOD).encode("latin-1"))
    with pytest.raises(SparqleError, match=r"latin\.txt:2: found a byte that is not UTF-8 \(0xe9\)"):
        report(path, "--manifest", small.manifest, "-o", small.folder / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{good}", "{good}"], "two systems are called good and good; tell them apart with NAME=FILE"),
        (["a b={good}", "a_b={bad}"], "two systems are called"),
        (["{good}", "--baseline", "best"], "--baseline best: there is no such system; there are good"),
        (["{good},{bad}"], r"has 2 file\(s\), and there are 1 test set"),
        (["{good}", "--by", "tone"], "--by tone: the manifest has no such column; it has room, corpus, speaker"),
        (["{good}", "--seen", "fr,xxxx1"], "--seen: 'xxxx1' is no language code"),
        (["{good}", "--tokenizer", "nonsense"], "the tokenizer 'nonsense' is not known"),
        (["{good}", "--normaliser", "nonsense"], "the normaliser 'nonsense' is not known"),
        (["{good}", "--tgt-lang", "nonsense!"], "'nonsense!' is not a BCP-47 language code"),
        (["{good}", "--references", "{good}"], "--manifest and --references both name a test set"),
        (["none.txt"], r"none\.txt: there is no such file of hypotheses"),
        (["={good}"], "names no system and file; write NAME=FILE"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(small, words, message):
    words = [word.format(good=small.good, bad=small.bad) for word in words]
    with pytest.raises(SparqleError, match=message):
        report(*words, "--manifest", small.manifest, "-o", small.folder / "out")
    assert not (small.folder / "out").exists()


def test_files_without_references_want_a_test_set(small, capsys):
    path = small.folder / "lines.txt"
    path.write_text("\n".join(GOOD), encoding="utf-8")
    assert main(["report", str(path), "-o", str(small.folder / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: the files hold no references; give the test set with --manifest TSV")
    assert said.count("\n") == 1


@pytest.mark.parametrize("pattern", ["test_??.tsv", "test_[df]*.tsv", "*_??.tsv"])
def test_a_pattern_names_the_manifests_that_it_matches(tmp_path, pattern):
    for name in ("test_fr", "test_de", "valid_fr_old"):
        (tmp_path / f"{name}.tsv").touch()
    assert [path.name for path in manifests_named(tmp_path / pattern)] == ["test_de.tsv", "test_fr.tsv"]
    (tmp_path / "a[1].tsv").touch()
    assert manifests_named(tmp_path / "a[1].tsv") == [tmp_path / "a[1].tsv"]
    with pytest.raises(SparqleError, match="there is no such file"):
        manifests_named(tmp_path / "train_*.tsv")
