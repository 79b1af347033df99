"""Options of checkpoints that were made before today's."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from omegaconf import open_dict

from sparqle_fairseq.models.stage1.objectives import PUBLISHED, objective_text


def fill_new_options(cfg: Any, kind: type[Any]) -> None:
    """Give the options of a checkpoint's model that are newer than it their defaults; `kind` has all of today's.

    fairseq does so where `_name` is a model's; a model trained with `--arch` is saved under the architecture's.
    """
    with open_dict(cfg):
        for option in fields(kind):
            if option.name not in cfg:
                cfg[option.name] = option.default
        if "objective" in cfg:
            cfg.objective = objective_text(cfg)
            cfg.pop("adversarial_weight", None)


def take_loss_weights(cfg: Any, model: Any) -> None:
    """Turn the criterion's options of an old checkpoint into today's: weights of their own multiplied --objective's."""
    for name in PUBLISHED:
        option = f"{name}_weight"
        if option not in cfg:
            continue
        with open_dict(cfg):
            weight = float(cfg.pop(option))
        if name in model.objective:
            model.objective[name] *= weight
            if not weight:
                del model.objective[name], model.adapter.objectives[name]
