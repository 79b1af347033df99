"""fairseq's options of checkpoints: keeping, averaging, ensembles, the best one, patience, EMA, new starts."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch
from click.testing import CliRunner
from commands import finetune_arguments, generate, lines, pretrain_arguments, train_here
from training_process import differences, progress_of, run, state_of

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.errors import SparqleError, sentence_of
from sparqle_fairseq.scoring.running import TextScores
from sparqle_fairseq.tasks.base import SpeechTask


@pytest.fixture(scope="module")
def kept(world, tmp_path_factory):
    """A run of two and a half epochs with most that fairseq can keep, stage 1."""
    folder = tmp_path_factory.mktemp("kept")
    arguments = [argument for argument in pretrain_arguments(world, folder) if argument != "--no-epoch-checkpoints"]
    keep = ["--save-interval-updates", 1, "--keep-interval-updates", 3, "--keep-last-epochs", 1]
    keep += ["--keep-best-checkpoints", 2, "--store-ema", "--ema-decay", 0.5]
    train_here([*arguments, *keep, "--max-update", 10])
    return folder


def weights(path):
    return {name: value for name, value in state_of(path)["model"].items() if name != "frozen_identity"}


def test_as_many_checkpoints_are_kept_as_asked_for(kept):
    names = sorted(path.name for path in kept.glob("*.pt"))
    assert [name for name in names if re.fullmatch(r"checkpoint\d+\.pt", name)] == ["checkpoint2.pt"]
    # Of the updates 1 to 10, 4 and 8 end an epoch and are saved under its name.
    in_epochs = [name for name in names if re.fullmatch(r"checkpoint_\d+_\d+\.pt", name)]
    assert in_epochs == ["checkpoint_2_7.pt", "checkpoint_3_10.pt", "checkpoint_3_9.pt"]
    best = [name for name in names if name.startswith("checkpoint.best_loss_")]
    assert len(best) == 2
    losses = sorted(float(name.removeprefix("checkpoint.best_loss_").removesuffix(".pt")) for name in best)
    last = state_of(kept / "checkpoint_last.pt")
    assert last["extra_state"]["best"] == pytest.approx(losses[0], abs=1e-2)
    assert state_of(kept / "checkpoint_best.pt")["extra_state"]["val_loss"] == last["extra_state"]["best"]
    assert not list(kept.glob("*.tmp"))


def test_averaged_checkpoints_hold_the_mean(kept, tmp_path):
    paths = [kept / name for name in ("checkpoint_2_7.pt", "checkpoint_3_9.pt", "checkpoint_3_10.pt")]
    output = tmp_path / "average.pt"
    words = ["average", *map(str, paths), "-o", str(output), "--json"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert json.loads(done.output)["checkpoints"] == 3
    parts, mean = [weights(path) for path in paths], weights(output)
    assert mean.keys() == parts[0].keys()
    for name, value in mean.items():
        torch.testing.assert_close(value, sum(part[name] for part in parts) / 3, rtol=1e-6, atol=1e-7)
    assert output.stat().st_size < 0.4 * paths[0].stat().st_size, "neither optimizer nor moving average"


def test_the_moving_average_of_a_checkpoint_can_be_taken(kept, tmp_path):
    output = tmp_path / "ema.pt"
    CliRunner().invoke(app, ["average", "--ema", str(kept / "checkpoint_last.pt"), "-o", str(output)])
    average, state = weights(output), state_of(kept / "checkpoint_last.pt")
    assert all(torch.equal(value, state["extra_state"]["ema"][name]) for name, value in average.items())
    assert differences(average, weights(kept / "checkpoint_last.pt")), "it is not the weights"


@pytest.mark.parametrize("kind", ["another model", "no average", "damaged"])
def test_what_cannot_be_averaged_is_one_sentence_and_writes_nothing(kept, tmp_path, kind):
    good, other, flags = kept / "checkpoint_last.pt", tmp_path / "other.pt", []
    state = state_of(good)
    if kind == "another model":
        state["model"]["adapter.qformer.query_tokens"] = torch.zeros(1, 3, 64)
    elif kind == "no average":
        del state["extra_state"]["ema"]
        flags = ["--ema"]
    torch.save(state, other)
    if kind == "damaged":
        other.write_bytes(other.read_bytes()[:-500])
    output = tmp_path / "average.pt"
    result = CliRunner().invoke(app, ["average", *flags, str(good), str(other), "-o", str(output)])
    assert isinstance(result.exception, SparqleError)
    assert "other.pt" in str(result.exception)
    assert not output.exists()


def scores_of(output):
    """{row: log-probabilities of the reference's tokens}; fairseq prints them to the base 2."""
    return {
        row: [float(value) * math.log(2) for value in line.split()] for row, line in lines(output.stdout, "P").items()
    }


@pytest.mark.long
def test_averages_moving_averages_and_ensembles_translate(kept, world, tmp_path):
    """The ensemble's probability of each token of a reference is the mean of its models'."""
    one, other, average = kept / "checkpoint_2_7.pt", tmp_path / "ema.pt", tmp_path / "average.pt"
    CliRunner().invoke(app, ["average", "--ema", str(kept / "checkpoint_last.pt"), "-o", str(other)])
    CliRunner().invoke(app, ["average", str(one), str(kept / "checkpoint_last.pt"), "-o", str(average)])
    found = [
        scores_of(generate(world, path, "sparqle_pretrain", "test", "--score-reference"))
        for path in (one, other, f"{one}:{other}", average)
    ]
    for row, both in found[2].items():
        means = [math.log((math.exp(a) + math.exp(b)) / 2) for a, b in zip(found[0][row], found[1][row], strict=True)]
        assert both == pytest.approx(means, abs=2e-3)  # the P lines have four decimals
    assert found[3] != found[0]
    texts = generate(world, f"{one}:{other}", "sparqle_pretrain", "test")
    assert sorted(lines(texts.stdout, "H")) == list(range(16))


def graded(monkeypatch, quality):
    """Let validation n find as many right texts as `quality[n]` says: what is measured here is the choice."""
    texts_of, begin, number = TextScores.of, SpeechTask.begin_valid_epoch, -1

    def of(texts, references, tasks, *_):
        references = ["one two three four five six"] * len(texts)  # the tones' sentences have no four words in a row
        right = round(quality[min(number, len(quality) - 1)] * len(texts))
        return texts_of([*references[:right], *("nothing of it" for _ in texts[right:])], references, tasks)

    def begin_valid_epoch(*given):
        nonlocal number
        number += 1
        return begin(*given)

    monkeypatch.setattr(TextScores, "of", of)
    monkeypatch.setattr(SpeechTask, "begin_valid_epoch", begin_valid_epoch)


BLEU = ["--eval-generate", "--best-checkpoint-metric", "bleu", "--maximize-best-checkpoint-metric"]


@pytest.fixture
def stage2_start(kept):
    return ["--pretrained-adapter", kept / "checkpoint_last.pt", "--tgt-lang", "fr"]


@pytest.mark.long
def test_the_best_checkpoint_is_the_one_whose_texts_are_best(world, stage2_start, tmp_path, monkeypatch):
    graded(monkeypatch, [0.25, 1.0, 0.5, 0.75])
    train_here(finetune_arguments(world, tmp_path, *stage2_start, *BLEU, "--save-interval-updates", 1, updates=4))
    best = state_of(tmp_path / "checkpoint_best.pt")
    assert best["optimizer_history"][-1]["num_updates"] == 2
    assert best["extra_state"]["val_loss"] == pytest.approx(100, abs=0.1)
    assert state_of(tmp_path / "checkpoint_last.pt")["extra_state"]["val_loss"] < 90


@pytest.mark.long
@pytest.mark.parametrize("interrupted", [False, True])
def test_patience_ends_a_run_that_gets_no_better_also_one_that_was_resumed(
    world, stage2_start, tmp_path, monkeypatch, interrupted
):
    """The second validation is the best; of three that are no better, the third ends the run: after update 5."""
    graded(monkeypatch, [0.25, 1.0, 0.5, 0.75, 0.75, 0.75, 0.75])
    more = [*stage2_start, *BLEU, "--patience", 3, "--save-interval-updates", 1]
    if interrupted:
        train_here(finetune_arguments(world, tmp_path, *more, updates=3))
    train_here(finetune_arguments(world, tmp_path, *more, updates=9))
    assert state_of(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 5


@pytest.mark.long
def test_a_resumed_moving_average_is_the_undisturbed_one(world, tmp_path):
    average = ["--store-ema", "--ema-decay", 0.5, "--ema-update-freq", 2, "--ema-fp32", "--disable-validation"]
    for name, updates in (("whole", 6), ("parts", 3), ("parts", 6)):
        train_here(pretrain_arguments(world, tmp_path / name, *average, updates=updates))
    ends = [progress_of(tmp_path / name / "checkpoint_last.pt") for name in ("whole", "parts")]
    assert ends[0]["ema"]
    assert not differences(*ends)


@pytest.mark.long
def test_a_moving_average_can_begin_when_a_run_is_resumed(world, tmp_path):
    """fairseq ends in `KeyError: 'model'` here."""
    more = ["--disable-validation"]
    train_here(pretrain_arguments(world, tmp_path, *more, updates=2))
    start = weights(tmp_path / "checkpoint_last.pt")
    train_here(pretrain_arguments(world, tmp_path, *more, "--store-ema", "--ema-decay", 0.25, updates=3))
    end, average = weights(tmp_path / "checkpoint_last.pt"), state_of(tmp_path / "checkpoint_last.pt")
    for name, value in end.items():
        expected = 0.25 * start[name] + 0.75 * value
        torch.testing.assert_close(average["extra_state"]["ema"][name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_finetuning_from_a_model_starts_a_new_run_once(world, kept, tmp_path):
    more = ["--finetune-from-model", kept / "checkpoint_last.pt", "--disable-validation"]
    arguments = pretrain_arguments(world, tmp_path, *more, "--lr", 0, "--no-epoch-checkpoints", updates=2)
    assert run(arguments, tmp_path / "log") == 0
    end = state_of(tmp_path / "checkpoint_last.pt")
    assert [entry["num_updates"] for entry in end["optimizer_history"]][-1] == 2, "counted anew"
    assert not differences(weights(kept / "checkpoint_last.pt"), weights(tmp_path / "checkpoint_last.pt"))
    arguments[arguments.index("--max-update") + 1] = 3
    assert run(arguments, tmp_path / "log2") == 0
    assert "Loaded checkpoint" in (tmp_path / "log2").read_text()
    assert state_of(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 3


@pytest.mark.long
def test_the_optimizer_can_be_started_anew(world, kept, tmp_path):
    more = ["--restore-file", kept / "checkpoint_last.pt", "--reset-optimizer", "--reset-lr-scheduler"]
    more += ["--reset-meters", "--reset-dataloader", "--disable-validation", "--optimizer", "sgd", "--lr", 0]
    train_here(pretrain_arguments(world, tmp_path, *more, updates=2))
    end = state_of(tmp_path / "checkpoint_last.pt")
    assert end["optimizer_history"][-1]["optimizer_name"] == "SGD"  # what fairseq calls the class
    assert end["optimizer_history"][-1]["num_updates"] == 2
    assert not differences(weights(kept / "checkpoint_last.pt"), weights(tmp_path / "checkpoint_last.pt"))


@pytest.mark.long
def test_an_adapter_of_another_optimizer_is_refused_without_it(world, kept, tmp_path):
    more = ["--restore-file", kept / "checkpoint_last.pt", "--optimizer", "sgd", "--lr", 0.1, "--max-update", 12]
    with pytest.raises(Exception) as error:  # noqa: PT011
        train_here(pretrain_arguments(world, tmp_path, *more))
    assert "--reset-optimizer" in (sentence_of(error.value) or str(error.value))
