"""Trainer's runs are those of fairseq-train: the same losses and the same parameters, dropout and all, in fp32."""

from __future__ import annotations

import pytest
from runs import fairseq_run, largest_difference, losses_of, trainer_run

CLOSE = 1e-4
UPDATES = 20
# A bias before a BatchNorm has no gradient: Adam makes steps of its rounding errors.
WITHOUT_GRADIENT = ("domain_classifier.hidden.bias", "domain_classifier.norm.running_mean")
OBJECTIVES = {
    "stg": 2,
    "ctc": 2,
    "stg-outputs+stm": 1,
    "llm-ctc+0.5*stg": 1,
    "llm-ctc": 2,
    "stc+stg+0.4*adversarial": 2,
}


def check(theirs, ours, but=()):
    found = losses_of(ours)
    assert len(found) == len(theirs.losses)
    assert max(abs(a - b) for a, b in zip(theirs.losses, found, strict=True)) < CLOSE
    difference, name = largest_difference(theirs.tensors, ours.model.state_dict(), but)
    assert difference < CLOSE, name


def test_stage_2_takes_the_steps_of_fairseq_train(hub_world, tmp_path):
    theirs = fairseq_run(
        hub_world, tmp_path / "fairseq", 2, "--lr-scheduler", "inverse_sqrt", "--warmup-updates", 4,
        "--weight-decay", 0.01, updates=UPDATES,
    )  # fmt: skip
    ours = trainer_run(
        hub_world, tmp_path / "trainer", 2, lr_scheduler_type="inverse_sqrt", warmup_steps=4, weight_decay=0.01,
        max_steps=UPDATES,
    )  # fmt: skip
    check(theirs, ours)


def test_the_gradient_has_the_size_that_fairseq_gives_it(hub_world, tmp_path):
    """Adam and clipping hide a factor; plain descent does not. Two batches an update."""
    theirs = fairseq_run(
        hub_world,
        tmp_path / "fairseq",
        2,
        "--optimizer",
        "sgd",
        "--lr",
        0.05,
        "--clip-norm",
        0,
        updates=3,
        accumulated=2,
    )
    ours = trainer_run(
        hub_world, tmp_path / "trainer", 2, optim="sgd", learning_rate=0.05, max_grad_norm=0, max_steps=3,
        gradient_accumulation_steps=2,
    )  # fmt: skip
    check(theirs, ours)


@pytest.mark.long
def test_stage_1_takes_the_steps_of_fairseq_train(hub_world, tmp_path):
    theirs = fairseq_run(hub_world, tmp_path / "fairseq", 1, "--time-masks", 1, updates=UPDATES)
    ours = trainer_run(hub_world, tmp_path / "trainer", 1, time_masks=1, max_steps=UPDATES)
    check(theirs, ours)


@pytest.mark.long
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_takes_the_steps_of_fairseq_train(objective, hub_world, tmp_path):
    accumulated, llm = OBJECTIVES[objective], str(hub_world.llm)
    reads = "llm-ctc" in objective
    more = ["--objective", objective, *(["--llm", llm] if reads else [])]
    theirs = fairseq_run(hub_world, tmp_path / "fairseq", 1, *more, updates=UPDATES, accumulated=accumulated)
    ours = trainer_run(
        hub_world, tmp_path / "trainer", 1, objective=objective, llm=llm if reads else None,
        gradient_accumulation_steps=accumulated, max_steps=UPDATES,
    )  # fmt: skip
    check(theirs, ours, WITHOUT_GRADIENT)


def as_words(said):
    """Options of fairseq-train; what is true is a switch."""
    found = []
    for name, value in said.items():
        found += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]
    return found


@pytest.mark.long
@pytest.mark.parametrize("kind", ["compressed", "soft tokens", "frozen"])
def test_from_a_checkpoint_of_stage_1_it_is_the_same(kind, hub_world, tmp_path):
    from transformers import AutoModelForMultimodalLM

    trainer_run(
        hub_world, tmp_path / "first", 1, objective="llm-ctc", llm=hub_world.llm, projector="scaled", max_steps=2
    )
    said = {"pretrained_adapter": tmp_path / "first" / "checkpoint.pt"}
    said |= {
        "compressed": {"compress_queries": True},
        "soft tokens": {"compress_queries": True, "soft_tokens": True},
        "frozen": {"freeze_qformer": True},
    }[kind]
    theirs = fairseq_run(hub_world, tmp_path / "fairseq", 2, *as_words(said), updates=UPDATES)
    ours = trainer_run(hub_world, tmp_path / "trainer", 2, **said, max_steps=UPDATES)
    check(theirs, ours)
    there, here = AutoModelForMultimodalLM.from_pretrained(tmp_path / "trainer"), ours.model.eval()
    processor = ours.stage.processor
    asked = processor.apply_translation_request([str(hub_world.data / "audio" / "dev2_0.wav")], to="fr")
    options = {"max_new_tokens": 5, "do_sample": False}
    assert there.generate(**asked, **options).tolist() == here.generate(**asked, **options).tolist()


@pytest.mark.long
@pytest.mark.parametrize(
    "kind",
    [
        "windows",
        "masks and speeds",
        "lora",
        "scaled",
        "sampler",
        "smoothing",
        "accumulated",
        "whisper",
        "layers",
        "transcript first",
        "recomputed",
        "workers",
        "distilled",
    ],
)
def test_what_stage_2_can_be_told_is_the_same(kind, hub_world, tmp_path):
    from types import SimpleNamespace

    from factories import save_tiny_whisper

    world, accumulated = hub_world, 1
    said = {
        "windows": {"query_window_seconds": 0.1, "queries_per_window": 2},
        "masks and speeds": {"time_masks": 2, "channel_masks": 1, "channel_mask_width": 4, "speed_perturb": "0.9,1.1"},
        "lora": {"lora_rank": 2, "lora_target": "all-linear"},
        "scaled": {"projector": "scaled"},
        "sampler": {"sampling_temperature": 5, "task_ratio": "transcription=1,translation=3"},
        "smoothing": {"answer_label_smoothing": 0.1},
        "layers": {"encoder_layer": "weighted"},
        "transcript first": {"answer": "transcript-first"},
        "distilled": {"objective": "answer+0.5*distill", "distill_temperature": 2.0},
        "recomputed": {"llm_gradient_checkpointing": True},
    }.get(kind, {})
    if kind == "accumulated":
        accumulated = 4
    if kind == "whisper":
        save_tiny_whisper(tmp_path / "whisper", whole=True, positions=100)
        world = SimpleNamespace(**{**vars(hub_world), "encoder": tmp_path / "whisper"})
    words = as_words(said)
    if kind == "workers":
        said = {"dataloader_num_workers": 2}
    schedule = ["--lr-scheduler", "polynomial_decay", "--warmup-updates", 3, "--total-num-update", UPDATES]
    theirs = fairseq_run(world, tmp_path / "fairseq", 2, *words, *schedule, updates=UPDATES, accumulated=accumulated)
    ours = trainer_run(
        world, tmp_path / "trainer", 2, **said, lr_scheduler_type="linear", warmup_steps=3,
        gradient_accumulation_steps=accumulated, max_steps=UPDATES,
    )  # fmt: skip
    check(theirs, ours)
