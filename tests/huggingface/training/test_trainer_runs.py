"""What a run with Trainer leaves: scores, the best model, a folder that loads; and that it can be stopped."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from runs import fairseq_run, losses_of, trainer_run
from safetensors.torch import load_file

KEEP = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}


@pytest.fixture(scope="module")
def run(hub_world, tmp_path_factory):
    """A run of stage 2 that keeps the best of four validations by its WER."""
    output = tmp_path_factory.mktemp("run") / "out"
    trainer = trainer_run(
        hub_world, output, 2, **KEEP, max_steps=8, eval_generate="true", eval_max_new_tokens=6,
        metric_for_best_model="wer", load_best_model_at_end="true", train_sampling_strategy="group_by_length",
    )  # fmt: skip
    return trainer, output


def scores_of(trainer):
    return [entry for entry in trainer.state.log_history if "eval_loss" in entry]


def test_the_best_by_its_score_is_the_result(run):
    trainer, output = run
    found = scores_of(trainer)
    assert len(found) == 4
    best = min(found, key=lambda entry: entry["eval_wer"])
    assert trainer.state.best_global_step == best["step"]
    assert {"eval_bleu", "eval_cer", "eval_accuracy"} <= found[0].keys()
    result = load_file(output / "model.safetensors")
    there = load_file(output / f"checkpoint-{best['step']}" / "model.safetensors")
    assert all(torch.equal(result[name], value) for name, value in there.items())


def test_the_folder_holds_the_adapter_alone_and_loads(run, hub_world, tmp_path):
    from click.testing import CliRunner
    from transformers import AutoModelForMultimodalLM, AutoProcessor

    from sparqle_fairseq.cli.main import app

    trainer, output = run
    for folder in (output, output / "checkpoint-2"):
        names = load_file(folder / "model.safetensors").keys()
        assert names
        assert all(name.startswith("adapter.") for name in names)
        assert not (folder / "training_args.bin").exists()
    model = AutoModelForMultimodalLM.from_pretrained(output)
    processor = AutoProcessor.from_pretrained(output)
    ours, theirs = trainer.model.state_dict(), model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name.startswith("adapter."))
    wave = str(hub_world.data / "audio" / "dev2_0.wav")
    asked = processor.apply_translation_request([wave], to="fr")
    assert torch.equal(
        model.generate(**asked, max_new_tokens=4, do_sample=False),
        trainer.model.eval().generate(**asked, max_new_tokens=4, do_sample=False),
    )
    assert "| wer |" in (output / "README.md").read_text()
    done = CliRunner().invoke(app, ["import-hf", str(output), "-o", str(tmp_path / "back.pt")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    back = torch.load(tmp_path / "back.pt", weights_only=True)["model"]
    assert all(torch.equal(ours[name], back[name]) for name in ours if name.startswith("adapter."))


def test_another_run_is_not_written_over(run, hub_world):
    output = run[1]
    before = (output / "model.safetensors").read_bytes()
    for more, said in (
        ({}, "holds a run already"),
        ({"resume_from_checkpoint": "true", "learning_rate": 1}, "its learning_rate was 0.003, and is 1.0 now"),
        ({"resume_from_checkpoint": "true", "queries": 6}, "its queries was 8, and is 6 now"),
        ({"resume_from_checkpoint": str(output)}, "give a folder checkpoint-N")
        if False
        else ({}, "another output_dir"),
    ):
        with pytest.raises(ValueError, match=said):
            trainer_run(
                hub_world, output, 2, **{**KEEP, "max_steps": 8, "train_sampling_strategy": "group_by_length"}, **more
            )
    assert (output / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("stage", [pytest.param(1, marks=pytest.mark.long), 2])
def test_validation_says_what_fairseq_trains_validation_says(stage, hub_world, tmp_path):
    theirs = fairseq_run(
        hub_world, tmp_path / "fairseq", stage, "--eval-generate", "--validate-interval-updates", 4, updates=4
    )
    ours = trainer_run(
        hub_world, tmp_path / "trainer", stage, max_steps=4, eval_generate="true", **KEEP | {"eval_steps": 4}
    )
    (found,), wanted = scores_of(ours), theirs.validations[-1]
    of_stage = ("accuracy", "bleu") if stage == 2 else ("stg_accuracy", "stm_accuracy", "s2t_recall_at_1", "stc_loss")
    for name in ("loss", "wer", "cer", *of_stage):
        assert float(wanted[name]) == pytest.approx(found[f"eval_{name}"], abs=0.006), name


@pytest.mark.parametrize("stage", [pytest.param(1, marks=pytest.mark.long), 2])
def test_a_resumed_run_is_one_that_never_stopped(stage, hub_world, tmp_path):
    named = {**KEEP, "max_steps": 8, "save_steps": 4, "eval_steps": 4}  # six batches an epoch: 4 is in its midst
    whole = trainer_run(hub_world, tmp_path / "whole", stage, **named)
    (tmp_path / "stopped").mkdir()
    shutil.copytree(tmp_path / "whole" / "checkpoint-4", tmp_path / "stopped" / "checkpoint-4")
    shutil.copy(tmp_path / "whole" / "run.json", tmp_path / "stopped" / "run.json")
    resumed = trainer_run(hub_world, tmp_path / "stopped", stage, resume_from_checkpoint="true", **named)
    assert losses_of(resumed) == losses_of(whole)
    ours, theirs = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name.startswith("adapter."))
    assert scores_of(resumed)[-1]["eval_loss"] == scores_of(whole)[-1]["eval_loss"]


def test_stage_2_of_either_trainer_begins_from_stage_1_of_this_one(hub_world, tmp_path):
    from sparqle_fairseq.models.stage2.start import read_adapter

    first = trainer_run(hub_world, tmp_path / "first", 1, objective="stc", max_steps=1)
    checkpoint = tmp_path / "first" / "checkpoint.pt"
    tensors = read_adapter(str(checkpoint))["model"]
    shape = dict.fromkeys(["hidden_size", "layers", "heads", "ffn_size", "queries", "cross_attention_freq"])
    second = trainer_run(
        hub_world, tmp_path / "second", 2, **shape, speech_encoder=None, pretrained_adapter=checkpoint, max_steps=1,
        warmup_steps=5, lr_scheduler_type="linear",
    )  # fmt: skip
    began = second.model.state_dict()  # the first update of a warm-up has the learning rate 0
    same = [name for name, value in tensors.items() if name in began and torch.equal(value, began[name])]
    assert len(same) > 20
    assert torch.equal(first.model.state_dict()[same[0]], began[same[0]])
    assert json.loads((tmp_path / "second" / "run.json").read_text())["stage"] == 2
