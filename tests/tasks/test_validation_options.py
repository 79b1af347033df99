"""What a command asks of validation is looked at before the first update: the best checkpoint's metric, and options."""

from __future__ import annotations

import logging
import shutil
from types import SimpleNamespace

import pytest
from commands import finetune_arguments, pretrain_arguments, train_here
from training_process import state_of

from sparqle_fairseq.errors import SparqleError, sentence_of
from sparqle_fairseq.scoring.directions import more_is_better
from sparqle_fairseq.tasks import validation

SIZE = ["--hidden-size", "64", "--layers", "2", "--heads", "4", "--ffn-size", "128", "--queries", "8"]


@pytest.fixture(scope="module")
def data(world, tmp_path_factory):
    """The world's data, and validation sets of transcripts alone and of translations alone."""
    folder = shutil.copytree(world.data, tmp_path_factory.mktemp("validation") / "data")
    header, *lines = (folder / "dev2.tsv").read_text().splitlines()
    column = header.split("\t").index("task")
    for name, task in (("spoken", "transcription"), ("translated", "translation")):
        own = [line for line in lines if line.split("\t")[column] == task]
        (folder / f"{name}.tsv").write_text("\n".join([header, *own]) + "\n")
    return SimpleNamespace(**{**vars(world), "data": folder})


def stage1(data, folder, *more, updates=1):
    return pretrain_arguments(data, folder, *more, updates=updates)


def stage2(data, folder, *more, updates=1):
    return finetune_arguments(data, folder, "--speech-encoder", data.encoder, *SIZE, *more, updates=updates)


GENERATE = "--eval-generate"
# What is asked for -> (stage, options, words of the sentence)
MISSING = {
    "bleu without text": (stage2, ["bleu"], ["on dev2 will have none", "accuracy", GENERATE]),
    "chrf, which is no such metric": (stage2, ["chrf", GENERATE], ["loss, accuracy, wer, cer, bleu"]),
    "bleu of transcripts": (stage2, ["bleu", GENERATE, "--valid-subset", "spoken"], ["loss, accuracy, wer, cer"]),
    "wer of translations": (stage2, ["wer", GENERATE, "--valid-subset", "translated"], ["loss, accuracy, bleu"]),
    "bleu in one of two sets": (
        stage2, ["bleu", GENERATE, "--valid-subset", "translated,spoken"],
        ["on spoken will have none", "loss, accuracy,", "leave it out of --valid-subset"],
    ),
    "bleu in the second set alone": (
        stage2, ["bleu", GENERATE, "--valid-subset", "spoken,translated"], ["on spoken will have none"],
    ),
    "a typo": (stage2, ["blue"], ["give one of loss, accuracy"]),
    "what is counted and is no quality": (stage2, ["bsz"], ["give one of loss, accuracy"]),
    "accuracy in stage 1": (stage1, ["accuracy"], ["stm_accuracy", "stg_accuracy"]),
    "stg_accuracy without stg": (stage1, ["stg_accuracy", "--objective", "stc+stm"], ["stm_accuracy"]),
    "bleu in stage 1": (stage1, ["bleu", GENERATE], ["wer"]),
    "wer without text in stage 1": (stage1, ["wer"], [GENERATE]),
    "what reads translations, without any": (
        stage1,
        ["adversarial_accuracy", "--objective", "stc+0.1*adversarial", "--valid-subset", "spoken",
         "--train-subset", "train2"],
        ["stc_loss"],
    ),
}  # fmt: skip


QUICK = (
    "bleu without text",
    "bleu of transcripts",
    "bleu in one of two sets",
    "accuracy in stage 1",
    "bleu in stage 1",
)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.long) for n in MISSING])
def test_a_metric_that_validation_will_not_have_is_said_before_the_first_update(data, tmp_path, name):
    stage, (metric, *more), words = MISSING[name]
    with pytest.raises(Exception) as error:  # noqa: PT011
        train_here(stage(data, tmp_path, "--best-checkpoint-metric", metric, *more))
    sentence = sentence_of(error.value)
    assert sentence is not None, error.value
    assert sentence.startswith(f"--best-checkpoint-metric {metric}: validation on ")
    for word in words:
        assert word in sentence
    assert not list(tmp_path.glob("*.pt"))


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        (stage1, [GENERATE]),
        (stage1, ["--objective", "stc+stm+stg+stg-outputs+ctc"]),
        (stage2, [GENERATE, "--valid-subset", "spoken,translated"]),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                (stage1, ["--objective", "stc+0.1*adversarial", "--train-subset", "train2", "--valid-subset", "dev2"]),
                (stage2, [GENERATE]),
            )
        ),
        (stage2, [GENERATE, "--valid-subset", "dev2", "--batch-size-valid", 1, "--max-valid-steps", 2]),
    ],
)
def test_the_metrics_that_are_foreseen_are_those_that_are_logged(data, tmp_path, monkeypatch, caplog, stage, more):
    foreseen = {}

    def look(trainer):
        for subset in trainer.cfg.dataset.valid_subset.split(","):
            foreseen[subset] = validation.validation_metrics(trainer, subset)

    monkeypatch.setattr("sparqle_fairseq.tasks.base.check_best_metric", look)
    with caplog.at_level(logging.INFO):
        train_here(stage(data, tmp_path, *more))
    assert foreseen
    for subset, names in foreseen.items():
        line = next(text for text in caplog.messages if f"valid on '{subset}' subset" in text and "loss" in text)
        logged = {part.split()[0] for part in line.split(" | ")[2:]}
        passing = {"wps", "wpb", "bsz", "num_updates", "best_loss", "temperature", "ctc_skipped"}
        assert set(names) - passing == logged - passing


def best_of(folder):
    state = state_of(folder / "checkpoint_best.pt")
    return state["optimizer_history"][-1]["num_updates"], state["extra_state"]["val_loss"]


# What four validations measure, where less is better; the direction that is wrong would keep the first or the last.
MEASURED = {2: 0.5, 4: 0.4, 6: 0.1, 8: 0.7}


@pytest.mark.parametrize(
    ("metric", "more", "said"),
    [
        ("stg_accuracy", [], "more of it is better, so --maximize-best-checkpoint-metric is set"),
        ("loss", ["--maximize-best-checkpoint-metric"], "less of it is better"),
        pytest.param("stg_loss", ["--maximize-best-checkpoint-metric"], "less of it is better", marks=pytest.mark.long),
        pytest.param("stg_accuracy", ["--maximize-best-checkpoint-metric"], None, marks=pytest.mark.long),
    ],
)
def test_the_best_is_kept_and_not_the_worst(data, tmp_path, monkeypatch, caplog, metric, more, said):
    """--patience goes the same way: in the other direction the second and the third validation would end the run."""
    from fairseq_cli import train

    usual = train.get_valid_stats
    measured = {update: 1 - value if "accuracy" in metric else value for update, value in MEASURED.items()}

    def measures(cfg, trainer, stats, tracking_best):
        assert metric in stats
        return usual(cfg, trainer, {**stats, metric: measured[trainer.get_num_updates()]}, tracking_best)

    monkeypatch.setattr(train, "get_valid_stats", measures)
    options = ["--best-checkpoint-metric", metric, "--save-interval-updates", 2, "--patience", 2, *more]
    with caplog.at_level(logging.INFO):
        train_here(stage1(data, tmp_path, *options, updates=8))
    assert best_of(tmp_path) == (6, measured[6])
    assert state_of(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 8
    assert ("so --maximize-best-checkpoint-metric is" in caplog.text) == bool(said)
    assert (said or "") in caplog.text


def test_a_plateau_is_of_the_metric_in_its_own_direction(data, tmp_path):
    """fairseq's scheduler takes the direction from the same option."""
    from fairseq.trainer import Trainer

    more = ["--best-checkpoint-metric", "stg_accuracy", "--lr-scheduler", "reduce_lr_on_plateau"]
    made = []
    with pytest.MonkeyPatch.context() as patch:
        usual = Trainer._build_optimizer
        patch.setattr(Trainer, "_build_optimizer", lambda self: (usual(self), made.append(self))[0])
        train_here(stage1(data, tmp_path, *more))
    assert made[-1].lr_scheduler.lr_scheduler.mode == "max"


def test_a_resumed_run_with_another_metric_begins_a_new_best(data, tmp_path, caplog):
    train_here(stage1(data, tmp_path, updates=1))
    train_here(stage1(data, tmp_path, "--best-checkpoint-metric", "s2t_recall_at_1", updates=2))
    assert "chosen by loss, from now on by s2t_recall_at_1" in caplog.text
    assert best_of(tmp_path)[0] == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--disable-validation", "--patience", 2], "--disable-validation leaves no validation, and --patience 2"),
        (
            ["--disable-validation", "--best-checkpoint-metric", "stg_loss"],
            "--best-checkpoint-metric stg_loss needs one",
        ),
        (["--disable-validation", "--keep-best-checkpoints", 2], "--keep-best-checkpoints 2 needs one"),
        (["--disable-validation", GENERATE], "--eval-generate needs one"),
        (["--disable-validation", "--lr-scheduler", "reduce_lr_on_plateau"], "--lr-scheduler reduce_lr_on_plateau"),
        (["--validate-after-updates", 9, "--patience", 2], "--validate-after-updates 9, above --max-update 1"),
        (["--validate-interval", 0], "--validate-interval 0"),
        (["--save-interval", 0], "--save-interval 0"),
        (["--log-interval", 0], "--log-interval 0"),
        (["--max-valid-steps", -1], "--max-valid-steps -1"),
        (["--combine-valid-subsets"], "--valid-subset valid,valid2"),
        ([GENERATE, "--eval-generate-beam", 0], "--beam 0"),
        ([GENERATE, "--min-tokens-per-second", 9, "--max-tokens-per-second", 3], "--min-tokens-per-second"),
        (["--valid-subset", "valid,none"], "none.tsv"),
    ],
)
def test_options_that_cannot_go_together_are_said_before_the_first_update(data, tmp_path, more, said):
    with pytest.raises(Exception) as error:  # noqa: PT011
        train_here(stage1(data, tmp_path, *more))
    assert said in (sentence_of(error.value) or f"no sentence: {error.value!r}")
    assert not list(tmp_path.glob("*.pt"))


def test_a_validation_set_that_is_not_named_is_said(data, tmp_path):
    other = shutil.copytree(data.data, tmp_path / "data")
    shutil.copy(other / "valid.tsv", other / "valid2.tsv")
    named = SimpleNamespace(**{**vars(data), "data": other})
    with pytest.raises(SparqleError, match=r"holds valid2, and .*give --valid-subset valid,valid2, or --ignore-unused"):
        train_here(stage1(named, tmp_path / "run"))
    train_here(stage1(named, tmp_path / "run", "--ignore-unused-valid-subsets"))


def test_a_metric_that_is_missing_after_all_costs_no_work(data, tmp_path, monkeypatch):
    """Foreseen by rows that nobody could read, say: what was trained is saved before the sentence."""
    monkeypatch.setattr("sparqle_fairseq.tasks.base.check_best_metric", lambda _: None)
    with pytest.raises(SparqleError, match="all up to update 2 is saved"):
        train_here(stage1(data, tmp_path, "--best-checkpoint-metric", "bleu", updates=2))
    assert state_of(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 2


@pytest.mark.parametrize(
    ("metric", "more"),
    [("bleu", True), ("chrf", True), ("accuracy", True), ("stg_accuracy", True), ("s2t_recall_at_1", True),
     ("wer", False), ("cer", False), ("ppl", False), ("loss", False), ("llm_ctc_loss", False), ("ctc_skipped", False),
     ("adversarial_accuracy", None), ("temperature", None), ("my_own", None)],
)  # fmt: skip
def test_a_name_says_which_way_is_good(metric, more):
    assert more_is_better(metric) is more
