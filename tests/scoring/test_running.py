"""Validation's scores are those of `sparqle score` on the same texts, however batches and processes share them."""

from __future__ import annotations

import pytest

from sparqle_fairseq.scoring.metrics import BLEU_METRIC
from sparqle_fairseq.scoring.running import TextScores
from sparqle_fairseq.scoring.scores import score

ROWS = [
    ("transcription", "The tide turns, at noon.", "the tide turned at noon", "en"),
    ("transcription", "今天天气很好", "今天天气好", "zh"),
    ("translation", "渡船因为大雾晚点了。", "渡船因为大雾晚点", "zh"),
    ("translation", "Le bac est en retard demain.", "Le bac est en retard.", "fr"),
    ("translation", "", "of no account", "fr"),
    ("translation", None, "of no account", None),
    ("transcription", "a storm", "", None),
    ("translation", "東京 Tokyo", "東京 Tokio", "ja"),  # its script alone would be Chinese
]


def summed(parts):
    logs = []
    for part in parts:
        tasks, references, hypotheses, codes = zip(*part, strict=True)
        logs.append(TextScores.of(hypotheses, references, tasks, codes).as_log())
    return TextScores.added([*logs, {"loss": 1.0}])


@pytest.mark.parametrize("size", [1, 2, 8])
def test_sums_of_batches_give_the_scores_of_all(size):
    found = summed([ROWS[i : i + size] for i in range(0, len(ROWS), size)])
    for name, (errors, length) in found.errors.items():
        spoken = [row for row in ROWS if row[0] == "transcription"]
        expected = score([row[1] for row in spoken], [row[2] for row in spoken], [name])[name].value
        assert 100 * errors / length == pytest.approx(expected)
    translated = [row for row in ROWS if row[0] == "translation"]
    expected = score(
        [row[1] for row in translated],
        [row[2] for row in translated],
        ["bleu"],
        languages=[row[3] for row in translated],
    )["bleu"]
    assert BLEU_METRIC.value(found.bleu) == pytest.approx(expected.value)
    assert expected.value > 50
    assert found.without_reference == expected.without_reference == 2


def test_case_and_punctuation_are_no_word_errors():
    assert TextScores.of(["the tide turns"], ["The tide turns!"], ["transcription"]).errors["wer"] == (0, 3)
