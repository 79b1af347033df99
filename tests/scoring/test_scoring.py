"""Scores of generated text are sacrebleu's and the corpus word error rate, with intervals, and nothing is left out."""

from __future__ import annotations

import json
from pathlib import Path

import jiwer
import numpy as np
import pytest
import sacrebleu
from click.testing import CliRunner
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring import resampling
from sparqle_fairseq.scoring import scores as scoring
from sparqle_fairseq.scoring.metrics import METRICS
from sparqle_fairseq.scoring.outputs import read_generation
from sparqle_fairseq.scoring.resampling import bootstrap_sums, swapped_sums

GENERATED = """2026-01-01 | INFO | fairseq_cli.generate | loading model(s)
S-1\tsource
T-1\tthe tide turns at noon
H-1\t-0.1\tTHE TIDE
D-1\t-0.1\tthe tide turned at noon
P-1\t-0.1 -0.1
D-1\t-0.9\ta worse one
T-10\twait for the ferry, please
D-10\t-0.3\t
T-0\tA storm is coming
D-0\t-0.2\ta storm , is coming now
Generate test with beam=5: BLEU4 = 1.0
"""


@pytest.fixture
def generated(tmp_path) -> Path:
    path = tmp_path / "generate-test.txt"
    path.write_text(GENERATED, encoding="utf-8")
    return path


def test_word_error_rate_is_the_corpus_rate(generated):
    _, references, hypotheses = zip(*read_generation(generated), strict=True)
    wer = scoring.score(references, hypotheses, ["wer"])["wer"]
    assert wer.value == pytest.approx(100 * (1 + 1 + 5) / (4 + 5 + 5))
    assert wer.low == pytest.approx(20)  # 27 resamples of three: three times utterance 1 is the least
    assert wer.high == pytest.approx(100)


def test_bleu_and_chrf_are_sacrebleus_with_their_interval():
    rng = np.random.default_rng(0)
    references = [" ".join(rng.choice(list("abcdefg"), 9)) for _ in range(50)]
    hypotheses = [" ".join(w if rng.random() > 0.2 else "z" for w in line.split()) for line in references]
    scores = scoring.score(references, hypotheses, list(METRICS))
    for name, metric in (("chrf++", sacrebleu.CHRF(word_order=2)), ("ter", sacrebleu.TER())):
        assert scores[name].value == pytest.approx(metric.corpus_score(hypotheses, [references]).score)
        assert scores[name].signature.startswith(str(metric.get_signature()))
    assert scores["bleu"].value == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score)
    assert scores["chrf"].value == pytest.approx(sacrebleu.corpus_chrf(hypotheses, [references]).score)
    for made in scores.values():
        assert 0 < made.high - made.low < 20
        assert made.low < made.value < made.high
        assert "bs:1000" in made.signature
        assert "12345" in made.signature
    assert scores == scoring.score(references, hypotheses, list(METRICS))
    other = scoring.score(references, hypotheses, list(METRICS), seed=7)
    assert all(other[name].low != scores[name].low and other[name].value == scores[name].value for name in scores)


def test_a_perfect_output_scores_perfectly():
    lines = ["the tide turns at noon", "a storm is coming from the west"]
    scores = scoring.score(lines, lines)
    assert {name: round(made.value, 6) for name, made in scores.items()} == {
        "bleu": 100,
        "chrf": 100,
        "wer": 0,
        "cer": 0,
    }
    assert (scores["wer"].low, scores["wer"].high) == (0, 0)


def test_resamples_that_score_zero_do_not_stop_the_bootstrap():
    references = ["the tide turns at noon", "a storm is coming from the west", "there are no fish left today"]
    bleu = scoring.score(references, [references[0], "", "no"], ["bleu"])["bleu"]
    assert (bleu.low, bleu.high) == (0, pytest.approx(100))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], []), "1 references and 0 hypotheses"),
        (([], []), "0 references"),
        ((["a"], ["a"], ["meteor"]), "'meteor' is not known"),
        (([None, " \u200b"], ["a", "b"]), "none of the 2 utterances has a reference"),
        ((["a"], ["a"], ["bleu"], 10), "10 resamples are too few"),
        ((["!"], ["a"], ["wer"]), "hold no word"),
    ],
)
def test_scores_that_cannot_be_made_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        scoring.score(*arguments)


def test_the_command_prints_a_table_and_json(generated):
    words = ["score", f"real={generated}", str(generated), "--bootstrap", "100"]
    printed = CliRunner().invoke(app, words, catch_exceptions=False).output
    assert "real" in printed
    content = json.loads(CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False).output)
    assert content["real"] == content["generate-test"]
    assert content["real"]["wer"]["value"] == pytest.approx(50)
    assert content["real"]["bleu"]["signature"] in printed
    strict = CliRunner().invoke(app, [*words, "--normaliser", "none", "--json"], catch_exceptions=False).output
    assert json.loads(strict)["real"]["wer"]["value"] == pytest.approx(100 * (3 + 1 + 5) / 14)  # "is coming" + ", now"
    with pytest.raises(SparqleError, match="two files are called generate-test"):
        CliRunner().invoke(app, ["score", str(generated), str(generated)], catch_exceptions=False)


def test_a_row_without_reference_costs_that_row_alone_and_is_counted():
    references = ["the tide turns at noon", None, "", " \t\u2028", "a storm is coming from the west"]
    hypotheses = ["the tide turned at noon", "rambling", "on", "and on", ""]
    scores = scoring.score(references, hypotheses, list(METRICS), 100)
    kept = [0, 4]
    alone = scoring.score([references[i] for i in kept], [hypotheses[i] for i in kept], list(METRICS), 100)
    for name, made in scores.items():
        assert (made.n, made.without_reference) == (2, 3)
        assert (made.value, made.low, made.high) == (alone[name].value, alone[name].low, alone[name].high)
    assert scores["wer"].value == pytest.approx(100 * 8 / 12)  # one word is wrong, seven are missing


def test_the_command_counts_rows_without_reference_and_refuses_none(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("T-0\tthe tide\nD-0\t-1\tthe tide\nT-1\t\nD-1\t-1\tmore\nD-2\t-1\tmore\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["score", str(path)], catch_exceptions=False)
    assert "1 of 3" in done.stdout
    assert "2 of 3 utterances have no reference and are not scored (the first is 1)" in done.stderr
    path.write_text("T-0\t\nD-0\t-1\tthe tide\n", encoding="utf-8")
    with pytest.raises(SparqleError, match=r"some\.txt: none of the 1 utterances has a reference"):
        CliRunner().invoke(app, ["score", str(path)], catch_exceptions=False)


def test_the_counts_of_utterances_serve_any_resample():
    """What intervals and paired tests stand on: sums of the counts, drawn as numpy draws, give any resample's score."""
    references = ["the tide turns at noon today", "a storm is coming from the west", "there are no fish left"]
    hypotheses = ["the tide turned at noon today", "a storm is coming from west", ""]
    drawn = np.random.default_rng(7).integers(3, size=(40, 3))
    for name, measured in scoring.measure_all(references, hypotheses, list(METRICS)).items():
        assert measured.table.shape[0] == 3
        sums = bootstrap_sums(measured.table, 40, seed=7)
        for sample, own, value in zip(drawn, sums, measured.metric.values(sums), strict=True):
            some = [references[i] for i in sample], [hypotheses[i] for i in sample]
            expected = scoring.measure(*some, name)
            assert own.tolist() == expected.table.sum(0).tolist()
            assert value == pytest.approx(expected.value)


def test_resamples_that_are_cut_into_parts_are_the_same(monkeypatch):
    table = np.random.default_rng(1).integers(0, 9, (50, 3))
    whole, swapped = bootstrap_sums(table, 100), swapped_sums(table, table[::-1], 100)
    monkeypatch.setattr(resampling, "_CELLS", 32 * 50)
    assert (bootstrap_sums(table, 100) == whole).all()
    for one, other in zip(swapped_sums(table, table[::-1], 100), swapped, strict=True):
        assert (one == other).all()


def test_many_sums_have_the_values_of_each():
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(list("ab cd"), rng.integers(0, 9))) for _ in range(80)]
    for name, measured in scoring.measure_all(texts, texts[::-1], list(METRICS)).items():
        one_by_one = [measured.metric.value(row) for row in measured.table]
        assert measured.metric.values(measured.table.astype(float)) == pytest.approx(one_by_one), name
        assert len(set(np.round(one_by_one, 6))) > 3, "the texts try too little"


NORMALISED = [
    ("Mr. Smith's colour isn't grey, is it?", "mister smith colour is not gray is it"),
    ("It costs twenty-five dollars!", "it costs $25"),
    ("Hello, world - again.", "Hello world -- again"),
    ("A single word.", ""),
]


@pytest.mark.parametrize(("normaliser", "clean"), [("none", str), ("whisper", EnglishTextNormalizer({}))])
def test_error_rates_are_jiwers(normaliser, clean):
    references, hypotheses = (list(side) for side in zip(*NORMALISED, strict=True))
    pairs = [[" ".join(clean(text).split()) for text in side] for side in (references, hypotheses)]
    found = scoring.score(references, hypotheses, ["wer", "cer"], normaliser=normaliser)
    assert found["wer"].value == pytest.approx(100 * jiwer.wer(*pairs))
    assert found["cer"].value == pytest.approx(100 * jiwer.cer(*pairs))
    assert ("norm:whisper-en|spelling:as-is" in found["wer"].signature) == (normaliser == "whisper")
    lower = scoring.score(references, hypotheses, ["wer"])["wer"]
    assert lower.value != found["wer"].value, "the texts would not tell the normalisers apart"


def test_whispers_spellings_come_from_its_file_and_the_signature_says_so(tmp_path):
    path = tmp_path / "normalizer.json"
    path.write_text('{"colour": "color"}', encoding="utf-8")
    for normaliser, wrong, says in ((f"whisper:{path}", 0, "spelling:us"), ("whisper", 50, "spelling:as-is")):
        wer = scoring.score(["The colour"], ["the color"], ["wer"], normaliser=normaliser)["wer"]
        assert wer.value == wrong
        assert says in wer.signature
    for bad in ("lowercase", "whisper:", "none:x", f"whisper:{tmp_path / 'no.json'}"):
        with pytest.raises(SparqleError, match=r"is not known; choose|there is no such table"):
            scoring.score(["a"], ["a"], ["wer"], normaliser=bad)
