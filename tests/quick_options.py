"""fairseq's configuration of a command line, composed by Hydra once for each choice of task, model, criterion, …

fairseq lets Hydra compose it anew for every command: 0.4 seconds of CPU, several times what a tiny model takes to
build, and hundreds of tests run a command in this process. What is chosen (`task=sparqle_pretrain`) is composed by
Hydra once; values (`task.seed=1`) are read by Hydra's grammar once for each text, and set by Hydra's own function.
Where anything goes wrong Hydra does it all, and complains itself. `test_quick_options.py` holds the two side by side.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

from fairseq.dataclass import utils
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

compose = utils.compose
_composed: dict[tuple[Any, ...], tuple[list[Any], DictConfig]] = {}


@functools.cache
def _read(text: str) -> Any:
    return OverridesParser.create().parse_override(text)


def _registered(choice: str) -> Any:
    """What a choice stands for; a plugin of a test may put something else in its place."""
    group, _, name = choice.partition("=")
    found = ConfigStore.instance().repo.get(group, {})
    return found.get(f"{name}.yaml") if isinstance(found, dict) else None


def quick_compose(config_name: str, overrides: list[str], strict: bool) -> DictConfig:
    choices = [text for text in overrides if "." not in text.partition("=")[0]]
    nodes = [_registered(choice) for choice in choices]
    key = (config_name, *choices, *map(id, nodes))
    try:
        if key not in _composed:
            _composed[key] = nodes, compose(config_name, overrides=choices, strict=False)
        config = copy.deepcopy(_composed[key][1])
        OmegaConf.set_struct(config, True)
        values = [text for text in overrides if "." in text.partition("=")[0]]
        ConfigLoaderImpl._apply_overrides_to_config([_read(text) for text in values], config)
    except Exception:  # whatever is wrong with an option, Hydra says it in its own words
        return compose(config_name, overrides=overrides, strict=strict)
    OmegaConf.set_struct(config, strict)
    return config


def install() -> None:
    utils.compose = quick_compose
