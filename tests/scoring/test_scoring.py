"""Scores of generated text are sacrebleu's and the corpus word error rate, with intervals, and nothing is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
from click.testing import CliRunner

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring import scores as scoring

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


def test_generation_is_read_by_id_with_the_best_hypothesis(generated):
    assert scoring.read_generation(generated) == [
        (0, "A storm is coming", "a storm , is coming now"),
        (1, "the tide turns at noon", "the tide turned at noon"),
        (10, "wait for the ferry, please", ""),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("T-0\ta\nT-1\tb\nD-0\t-0.1\ta\n", r"1 utterance.* the first is 1"),
        ("D-0\t-0.1\ta\n", "lack a reference"),
        ("T-0\ta\nD-0\t-0.1\ta\nT-0\ta\n", "line 3: utterance 0 comes twice"),
        ("T-0\ta\nD-0\t-0.1\n", "line 2 is cut off"),
        ("nothing\n", "no T- and D- lines"),
    ],
)
def test_incomplete_generation_is_refused(tmp_path, text, message):
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        scoring.read_generation(tmp_path / "x.txt")


def test_word_error_rate_is_the_corpus_rate(generated):
    _, references, hypotheses = zip(*scoring.read_generation(generated), strict=True)
    wer = scoring.score(references, hypotheses, ["wer"])["wer"]
    assert wer.value == pytest.approx(100 * (1 + 1 + 5) / (4 + 5 + 5))
    assert wer.low == pytest.approx(20)  # 27 resamples of three: three times utterance 1 is the least
    assert wer.high == pytest.approx(100)


def test_bleu_and_chrf_are_sacrebleus_with_their_interval():
    rng = np.random.default_rng(0)
    references = [" ".join(rng.choice(list("abcdefg"), 9)) for _ in range(50)]
    hypotheses = [" ".join(w if rng.random() > 0.2 else "z" for w in line.split()) for line in references]
    scores = scoring.score(references, hypotheses)
    assert scores["bleu"].value == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score)
    assert scores["chrf"].value == pytest.approx(sacrebleu.corpus_chrf(hypotheses, [references]).score)
    for made in scores.values():
        assert 0 < made.high - made.low < 20
        assert made.low < made.value < made.high
        assert "bs:1000" in made.signature
        assert "12345" in made.signature
    assert scores == scoring.score(references, hypotheses)
    other = scoring.score(references, hypotheses, seed=7)
    assert all(other[name].low != scores[name].low and other[name].value == scores[name].value for name in scores)


def test_a_perfect_output_scores_perfectly():
    lines = ["the tide turns at noon", "a storm is coming from the west"]
    scores = scoring.score(lines, lines)
    assert [round(scores[m].value, 6) for m in scoring.METRICS] == [100, 100, 0]
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
        ((["a"], ["a"], ["ter"]), "'ter' is not known"),
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
    with pytest.raises(SparqleError, match="two files are called generate-test"):
        CliRunner().invoke(app, ["score", str(generated), str(generated)], catch_exceptions=False)
