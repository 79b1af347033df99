"""Paired tests find what is there, find what is not as often as their level says, and are sacrebleu's."""

from __future__ import annotations

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from sparqle_fairseq.scoring.metrics import METRICS, metric_named
from sparqle_fairseq.scoring.resampling import bootstrap_sums
from sparqle_fairseq.scoring.scores import measure
from sparqle_fairseq.scoring.significance import holm, paired_tests

WORDS = [f"{first}{second}" for first in "bcdfgklmnprst" for second in ("a", "e", "i", "o", "u", "an", "el", "in")]


def references(count: int, rng: np.random.Generator) -> list[str]:
    return [" ".join(rng.choice(WORDS, rng.integers(5, 13))) for _ in range(count)]


def spoiled(lines: list[str], share: float, rng: np.random.Generator) -> list[str]:
    """A system that gets this share of the words wrong, and more of them in some sentences than in others."""
    return [
        " ".join(str(rng.choice(WORDS)) if rng.random() < rate else word for word in line.split())
        for line, rate in zip(lines, rng.beta(8, 8 / share - 8, len(lines)), strict=True)
    ]


def test_the_randomisation_is_sacrebleus():
    rng = np.random.default_rng(5)
    lines = references(60, rng)
    one, other = spoiled(lines, 0.3, rng), spoiled(lines, 0.34, rng)
    _, theirs = PairedTest([("b", other), ("s", one)], {"BLEU": BLEU()}, [lines], test_type="ar", n_samples=500)()
    tables = [[measure(lines, texts, "bleu").table] for texts in (one, other)]
    ours = paired_tests([METRICS["bleu"]], *tables, trials=500)[0]
    assert ours.p_randomisation == pytest.approx(theirs["BLEU"][1].p_value)
    assert 0.01 < ours.p_randomisation < 0.9
    assert ours.difference == pytest.approx(theirs["BLEU"][1].score - theirs["BLEU"][0].score)
    _, drawn = PairedTest([("b", other), ("s", one)], {"BLEU": BLEU()}, [lines], test_type="bs", n_samples=500)()
    tables = [table[0] for table in tables]
    assert one_sided(METRICS["bleu"], tables, ours.difference, 500, 12345) == pytest.approx(drawn["BLEU"][1].p_value)


def test_the_bootstrap_is_worked_out_by_hand():
    """Ten utterances, one error more in seven of them: the distribution of a resample's sum is a binomial's."""
    system = np.array([[2, 10]] * 7 + [[1, 10]] * 3)
    baseline = np.array([[1, 10]] * 10)
    found = paired_tests([METRICS["wer"]], [system], [baseline], draws=20000, trials=20000)[0]
    assert found.difference == pytest.approx(7)
    sd = 100 * np.sqrt(10 * 0.7 * 0.3) / 100
    assert (found.low, found.high) == (pytest.approx(7 - 1.96 * sd, abs=0.8), pytest.approx(7 + 1.96 * sd, abs=0.8))
    # Of 2 ** 7 ways to swap the seven, two give a difference of 7.
    assert found.p_randomisation == pytest.approx(2 / 2**7, rel=0.15)
    assert found.p_bootstrap < 0.001


def test_a_system_does_not_differ_from_itself():
    rng = np.random.default_rng(1)
    lines = references(30, rng)
    table = measure(lines, spoiled(lines, 0.3, rng), "bleu").table
    found = paired_tests([METRICS["bleu"]], [table], [table], trials=100)[0]
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert (found.p_randomisation, found.p_bootstrap) == (1, 1)


def test_metrics_share_draws_and_keep_their_own_values():
    rng = np.random.default_rng(2)
    lines = references(25, rng)
    one, other = spoiled(lines, 0.2, rng), spoiled(lines, 0.3, rng)
    kinds = [metric_named(name) for name in METRICS]
    tables = [[measure(lines, texts, kind.name).table for kind in kinds] for texts in (one, other)]
    together = paired_tests(kinds, *tables, draws=100, trials=100)
    for place, kind in enumerate(kinds):
        alone = paired_tests([kind], [tables[0][place]], [tables[1][place]], draws=100, trials=100)[0]
        for name, value in vars(alone).items():
            assert getattr(together[place], name) == pytest.approx(value), (kind.name, name)


def test_holm_is_the_textbooks():
    # Holm (1979): 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.04 * 1, each no less than the one before it.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def one_sided(kind, tables, difference: float, draws: int, seed: int) -> float:
    """p of sacrebleu's bootstrap."""
    sums = bootstrap_sums(np.hstack(tables), draws, seed)
    drawn = np.abs(np.subtract(*(kind.values(part) for part in np.split(sums, 2, axis=1))))
    return (np.count_nonzero(drawn - drawn.mean() > abs(difference)) + 1) / (draws + 1)


def share_found(runs: int, utterances: int, better: float, metric: str, draws: int) -> dict[str, float]:
    """How often the tests find a difference at 5 %, where one system's error rate is `better` below the other's 30 %;
    `one-sided` is sacrebleu's bootstrap."""
    rng = np.random.default_rng(11)
    kind = metric_named(metric)
    found = {"randomisation": 0, "bootstrap": 0, "one-sided": 0}
    for run in range(runs):
        lines = references(utterances, rng)
        tables = [measure(lines, spoiled(lines, share, rng), metric).table for share in (0.3 - better, 0.3)]
        test = paired_tests([kind], [tables[0]], [tables[1]], draws, draws, seed=run)[0]
        theirs = one_sided(kind, tables, test.difference, draws, run)
        for name, p in zip(found, (test.p_randomisation, test.p_bootstrap, theirs), strict=True):
            found[name] += p < 0.05
    return {name: count / runs for name, count in found.items()}


def test_a_few_runs_find_what_is_there_and_little_else():
    none = share_found(80, 40, 0.0, "wer", 200)
    assert none["randomisation"] <= 0.1
    assert none["bootstrap"] <= 0.1
    some = share_found(30, 40, 0.15, "wer", 200)
    assert some["randomisation"] >= 0.9
    assert some["bootstrap"] >= 0.9


@pytest.mark.long
@pytest.mark.parametrize("metric", ["bleu", "wer"])
def test_wolf_is_cried_as_often_as_the_level_says(metric):
    """1,000 pairs of equal systems. The standard error of a share of 5 % is 0.7 %: three of them are allowed."""
    none = share_found(1000, 100, 0.0, metric, 1000)
    assert none["randomisation"] == pytest.approx(0.05, abs=0.021)
    assert none["bootstrap"] == pytest.approx(0.05, abs=0.021)
    assert none["one-sided"] == pytest.approx(0.10, abs=0.03)  # why the bootstrap here is not sacrebleu's
    some = share_found(200, 100, 0.1, metric, 1000)
    print(metric, none, some)
    assert some["randomisation"] >= 0.8
    assert some["bootstrap"] >= 0.8
