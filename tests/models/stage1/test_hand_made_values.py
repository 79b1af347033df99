"""What stage 1 draws and logs, against values that were worked out by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from fairseq.logging import metrics
from small_qformers import STILL

from sparqle_fairseq.criterions.pretrain import PretrainCriterion
from sparqle_fairseq.keyed_random import keyed_uniform
from sparqle_fairseq.models.stage1.adapter import Stage1Adapter
from sparqle_fairseq.models.stage1.batch import Contrast
from sparqle_fairseq.models.stage1.losses import draw_negatives
from sparqle_fairseq.models.stage1.objectives import Given
from sparqle_fairseq.models.stage1.objectives.ctc import Alignment
from sparqle_fairseq.models.stage1.objectives.stc import Stc
from sparqle_fairseq.models.stage1.objectives.stg import Generation
from sparqle_fairseq.models.stage1.objectives.stm import Matching, Stm

# ---- negatives


def negatives(speech_to_text, text_to_speech, update=0, kind="hard"):
    """Columns that matching draws for each row of one process: of speech, and of text."""
    keys = torch.arange(len(speech_to_text))
    contrast = Contrast(speech_to_text, text_to_speech, keys, keys)
    batch = SimpleNamespace(contrast=contrast, text=SimpleNamespace(utterance=keys + 7), given=len(keys), update=update)
    speech, _, text, _ = Stm(Given(STILL, ("stm",), SimpleNamespace(stm_negatives=kind))).negatives(batch)
    return speech, text


def test_a_hard_negative_is_what_the_other_side_of_the_pair_is_like():
    """For each text the speech that it is like, for each speech the text that it is like."""
    rows = torch.arange(4)
    to_text, to_speech = torch.zeros(4, 4), torch.zeros(4, 4)
    to_text[rows, (rows + 1) % 4] = 50.0
    to_speech[rows, (rows + 2) % 4] = 50.0
    speech, text = negatives(to_text, to_speech)
    assert speech.tolist() == [2, 3, 0, 1]
    assert text.tolist() == [1, 2, 3, 0]


@pytest.mark.parametrize("kind", ["hard", "uniform"])
def test_speech_and_text_are_drawn_apart_and_anew_in_each_update(kind):
    """Equal in one of 199 rows by chance, whichever two draws are compared."""
    alike = torch.zeros(200, 200)
    draws = [drawn for update in range(3) for drawn in negatives(alike, alike, update, kind)]
    for i, one in enumerate(draws):
        for other in draws[:i]:
            assert (one == other).float().mean() < 0.04
    assert torch.equal(draws[2], negatives(alike, alike, 1, kind)[0])


def test_of_three_candidates_each_is_drawn_by_its_share():
    """With two, noise of the wrong sign would draw with the same shares."""
    identity = torch.arange(4)
    similarities = torch.tensor([[9.0, 2.0, 1.0, 0.0]] * 4)
    drawn = torch.tensor(
        [
            int(draw_negatives(similarities, identity, identity, keyed_uniform(identity, identity, seed))[0][0])
            for seed in range(4000)
        ]
    )
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    total = math.exp(2) + math.exp(1) + 1
    expected = [0, math.exp(2) / total, math.exp(1) / total, 1 / total]  # 0.665, 0.245, 0.090
    assert shares.tolist() == pytest.approx(expected, abs=0.02)


def test_keyed_numbers_are_those_of_splitmix64():
    """Worked out with Python's integers, and its mixing against the first numbers that the generator gives from 0."""
    mask = (1 << 64) - 1
    golden = 0x9E3779B97F4A7C15

    def mix(x):
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    assert [mix(i * golden & mask) for i in (1, 2, 3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    rows, columns, seed = [5, -3, 2**62], [0, 9, -(2**61)], 4
    expected = [
        [
            ((mix(mix((mix((row + golden * (seed + 1)) & mask) + column * golden) & mask)) >> 11) + 0.5) / 2**53
            for column in columns
        ]
        for row in rows
    ]
    found = keyed_uniform(torch.tensor(rows), torch.tensor(columns), seed)
    torch.testing.assert_close(found, torch.tensor(expected))


# ---- the temperature


@pytest.mark.parametrize(("start", "bound", "to"), [(0.6, 0.5, 0.3), (1e-4, 1e-3, 0.05)])
def test_a_temperature_beyond_its_bounds_is_the_bound_and_comes_back(start, bound, to):
    adapter = Stage1Adapter(STILL, decode_token=18, pad_token=0)
    adapter.temperature.data.fill_(start)
    assert adapter.clamped_temperature().item() == pytest.approx(bound)
    optimizer = torch.optim.SGD([adapter.temperature], lr=0.2)
    for _ in range(40):
        optimizer.zero_grad()
        (adapter.clamped_temperature() - to).square().backward()
        optimizer.step()
    assert adapter.temperature.item() == pytest.approx(to, abs=0.01)


# ---- what is logged


def logged(name, *sums):
    """fairseq's numbers of what one objective gave on some processes."""
    with metrics.aggregate(new_root=True) as found:
        PretrainCriterion.reduce_metrics(
            [{f"{name}_{what}": value for what, value in own.items()} | {"sample_size": 1} for own in sums]
        )
    return found.get_smoothed_values()


def test_recall_counts_rows_whose_best_column_says_the_same():
    # Rows 0 and 2 say the same: a row that finds the other's column has found its own words.
    rows = torch.tensor([3, 4, 3, 5])
    to_text = torch.tensor([[0.0, 0, 9, 0], [9, 0, 0, 0], [0, 0, 9, 0], [0, 0, 0, 9]])  # right but the second
    to_speech = torch.tensor([[9.0, 0, 0, 0], [9, 0, 0, 0], [0, 9, 0, 0], [0, 9, 0, 0]])  # the first alone
    adapter = SimpleNamespace(clamped_temperature=lambda: torch.tensor(0.25))
    batch = SimpleNamespace(contrast=Contrast(to_text, to_speech, rows, rows))
    sums = Stc(Given(STILL, ("stc",))).sums(adapter, batch)
    found = logged("stc", sums, {**sums, "t2s_hits": torch.tensor(4), "temperature": torch.tensor(3.0)})
    assert found["s2t_recall_at_1"] == 75.0
    assert found["t2s_recall_at_1"] == 62.5  # 1 + 4 of 8
    assert found["temperature"] == 0.5  # 4 x 0.25 and 4 x 0.75, of 8
    # Each row's target: 0.1 over all four, the rest over those that say the same.
    log = math.log(math.exp(9) + 3)
    s2t = [log - 9 * (0.45 + 0.025), log - 9 * 0.025, log - 9 * 0.475, log - 9 * 0.925]
    t2s = [log - 9 * 0.475, log - 9 * 0.025, log - 9 * 0.025, log - 9 * 0.025]
    assert found["stc_loss"] == pytest.approx((sum(s2t) + sum(t2s)) / 8, abs=1e-3)


@pytest.mark.parametrize(("objective", "rate"), [("stm", "stm_accuracy"), ("adversarial", "adversarial_accuracy")])
def test_accuracy_of_two_classes_is_the_share_of_pairs_that_are_told_right(objective, rate):
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [3.0, 1.0], [0.0, 5.0]])
    sums = Matching(logits, torch.tensor([1, 1, 0, 0, 0])).sums()
    found = logged(objective, sums, {"sum": 0.0, "count": 3, "hits": 0})
    assert found[rate] == 37.5  # 3 of 5 and 0 of 3
    right, wrong = math.log1p(math.exp(-1)), math.log1p(math.exp(1))
    losses = [right, wrong, math.log1p(math.exp(-2)), math.log1p(math.exp(-2)), math.log1p(math.exp(5))]
    assert found[f"{objective}_loss"] == pytest.approx(sum(losses) / 8, abs=1e-3)


@pytest.mark.parametrize(("objective", "rate"), [("stg", "stg_accuracy"), ("stg_outputs", "stg_outputs_accuracy")])
def test_accuracy_of_writing_is_the_share_of_tokens_that_were_the_likeliest(objective, rate):
    logits = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 3.0]])
    sums = Generation(logits, torch.tensor([1, 0, 3])).sums(label_smoothing=0.0)
    found = logged(objective, sums)
    assert found[rate] == 66.67
    losses = [math.log(math.e + 3) - 1, math.log(math.exp(2) + 3), math.log(math.exp(3) + 3) - 3]
    assert found[f"{objective}_loss"] == pytest.approx(sum(losses) / 3, abs=1e-3)


@pytest.mark.parametrize("objective", ["ctc", "llm_ctc"])
def test_skipped_are_transcripts_without_room_and_they_count_no_tokens(objective):
    # Two queries: room for one token, for two, not for two that are equal (a blank between), not for three.
    tokens = torch.tensor([[4, -1, -1], [4, 5, -1], [4, 4, -1], [4, 5, 6]])
    even = torch.full((4, 2, 4), -math.log(4))
    sums = Alignment(even, torch.tensor([2, 2, 2, 2]), tokens).sums()
    found = logged(objective, sums)
    assert found[f"{objective}_skipped"] == 50.0
    assert sums["count"] == 3
    # Of 16 paths of two symbols, three say "4" (4 4, 4 blank, blank 4), and one says "4 5".
    assert found[f"{objective}_loss"] == pytest.approx(-(math.log(3 / 16) + math.log(1 / 16)) / 3, abs=1e-3)
