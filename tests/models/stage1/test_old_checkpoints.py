"""Checkpoints from before the weights of losses were those of --objective alone: they load, resume and validate."""

from __future__ import annotations

import pytest
import torch
from commands import pretrain_arguments, train_here
from omegaconf import OmegaConf
from tiny_models import batch, build_stage1, build_stage2_from, save_adapter

from sparqle_fairseq.models.stage1.objectives import objective_text
from sparqle_fairseq.tasks.loading import load_trained

WITH_TRANSLATIONS = ["--train-subset", "train2", "--valid-subset", "dev2"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "sparqle"),  # older than --objective
        ({"objective": "stc+ctc", "adversarial_weight": 0.0}, "stc+ctc"),
        ({"objective": "sparqle", "adversarial_weight": 0.4}, "sparqle+0.4*adversarial"),
    ],
)
def test_the_adversarys_weight_was_an_option_of_its_own(options, expected):
    assert objective_text(options) == expected


def aged(path, criterion=(), **model):
    """The checkpoint as it was written before: the same tensors, options of other names."""
    state = torch.load(path, weights_only=True)
    state["cfg"]["model"] |= model
    state["cfg"]["criterion"] |= criterion
    torch.save(state, path)
    return path


def test_an_old_checkpoint_with_an_adversary_loads_resumes_and_goes_to_stage_2(world, tmp_path):
    words = [*WITH_TRANSLATIONS, "--objective", "sparqle+0.4*adversarial"]
    train_here(pretrain_arguments(world, tmp_path, *words, updates=2))
    path = tmp_path / "checkpoint_last.pt"
    weights = {"stc_weight": 1.0, "stm_weight": 1.0, "stg_weight": 1.0}
    aged(path, weights, objective="sparqle", adversarial_weight=0.4)
    model = load_trained(path, cpu=True).model
    assert model.objective == {"stc": 1.0, "stm": 1.0, "stg": 1.0, "adversarial": 0.4}
    assert model.adapter.domain_classifier is not None
    second = build_stage2_from(world, str(path))
    assert torch.equal(second.model.adapter.qformer.query_tokens, model.adapter.qformer.query_tokens)
    train_here(pretrain_arguments(world, tmp_path, *words, updates=3))
    assert torch.load(path, weights_only=True)["optimizer_history"][-1]["num_updates"] == 3


def test_weights_that_multiplied_still_do_when_an_old_checkpoint_is_validated(world):
    """fairseq-validate takes the criterion's options from the checkpoint."""
    old, new = build_stage1(world), build_stage1(world, "--objective", "0.5*stc+2*stg")
    weights = {"stc_weight": 0.5, "stm_weight": 0.0, "stg_weight": 2.0}
    options = OmegaConf.create({**OmegaConf.to_container(old.cfg.criterion, resolve=True), **weights})
    criterion = old.task.build_criterion(options)
    assert criterion.weights == new.criterion.weights == {"stc": 0.5, "stg": 2.0}
    one = criterion(old.model, batch(old, "train", range(4)))[0]
    other = new.criterion(new.model, batch(new, "train", range(4)))[0]
    assert torch.equal(one, other)


@pytest.mark.parametrize("without", ["objective", None])
def test_stage_2_leaves_behind_what_each_checkpoint_of_stage_1_has(world, tmp_path, without):
    """One that is older than --objective was trained with the published sum."""
    built = build_stage1(world)
    path = save_adapter(built, tmp_path / "stage1.pt")
    if without:
        state = torch.load(path, weights_only=True)
        del state["cfg"]["model"][without]
        torch.save(state, path)
    names = set(build_stage2_from(world, path).model.adapter.state_dict())
    assert not [name for name in names if name.split(".")[0] not in ("qformer", "projector") or "text" in name]
