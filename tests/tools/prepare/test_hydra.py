"""The Hydra form of a recipe asks for the same training as its command line, option for option."""

from __future__ import annotations

import pytest
from commands import ROOT
from fairseq.dataclass.initialize import add_defaults, hydra_init
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from pasted import RECIPES, pasted
from tiny_models import parse

# Options that say nothing of the training: how the command was started, and what fairseq itself fills in for one form.
WITHOUT_MEANING = {
    "common.user_dir", "common.no_progress_bar", "common.log_format", "common.tensorboard_logdir", "model._name",
    "model.arch", "task._name", "criterion._name", "optimizer._name", "lr_scheduler._name", "job_logging_cfg",
}  # fmt: skip
SECTIONS = (
    "common", "checkpoint", "task", "dataset", "distributed_training", "criterion", "optimization", "optimizer",
    "lr_scheduler", "model",
)  # fmt: skip


def leaves(config: DictConfig) -> dict[str, object]:
    """`{"task.data": …}` of the sections, with interpolations resolved and numbers as numbers."""
    plain = OmegaConf.to_container(config, resolve=True, enum_to_str=True, throw_on_missing=False)
    found = {}

    def walk(name: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{name}.{key}", inner)
        else:
            found[name] = value

    for section in SECTIONS:
        walk(section, plain.get(section) or {})
    return found


def from_hydra(words: list[str]) -> DictConfig:
    """What fairseq-hydra-train makes of a command, before it trains."""
    folder, name = (words[words.index(option) + 1] for option in ("--config-dir", "--config-name"))
    overrides = [word for word in words[1:] if "=" in word]
    GlobalHydra.instance().clear()
    hydra_init(name)
    with initialize_config_dir(config_dir=str(ROOT / folder), version_base="1.1"):
        config = compose(config_name=name, overrides=overrides)
    add_defaults(config)
    return config


QUICK = (("librispeech", 1), ("mustc", 2))
CASES = [
    pytest.param(recipe, stage, marks=[] if (recipe, stage) in QUICK else pytest.mark.long)
    for recipe in RECIPES
    for stage in (1, 2)
]


@pytest.mark.parametrize(("recipe", "stage"), CASES)
def test_both_forms_of_a_recipe_ask_for_the_same(recipe, stage, monkeypatch):
    monkeypatch.chdir(ROOT)
    commands = pasted(recipe)
    (plain,) = [words for words in commands if words[0] == "fairseq-train" and f"{recipe}/stage{stage}" in words[-1]]
    (hydra,) = [words for words in commands if words[0] == "fairseq-hydra-train" and f"stage{stage}" in words]
    wanted, got = leaves(parse(plain[1:])), leaves(from_hydra(hydra))
    shared = (wanted.keys() & got.keys()) - WITHOUT_MEANING
    for name in ("task.data", "model.queries", "optimization.lr", "dataset.max_tokens", "checkpoint.save_dir"):
        assert name in shared
    assert {name: got[name] for name in shared} == {name: wanted[name] for name in shared}
    named = [name for name in got if name not in wanted and name not in WITHOUT_MEANING]
    assert not named, "options that the command line does not know"
