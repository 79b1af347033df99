"""fairseq's configuration of a command line, composed by Hydra once for each choice of task, model, criterion, …

fairseq lets Hydra compose it anew for every command: 0.4 seconds of CPU, several times what a tiny model takes to
build, and hundreds of tests run a command in this process. What is chosen (`task=sparqle_pretrain`) is composed by
Hydra once; values (`task.seed=1`) are read by Hydra's grammar once for each text, and set by Hydra's own function: all
of them once for a choice, then those that are others than that time. Where anything goes wrong Hydra does it all, and
complains itself. `test_quick_options.py` holds the two side by side.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
from typing import Any

from fairseq.dataclass import utils
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

compose, initialize = utils.compose, utils.initialize
# What is chosen -> what that stands for, the values of the first command that chose it, its configuration.
_composed: dict[tuple[Any, ...], tuple[list[Any], list[str], DictConfig]] = {}


@functools.cache
def _read(text: str) -> Any:
    return OverridesParser.create().parse_override(text)


def _registered(choice: str) -> Any:
    """What a choice stands for; a plugin of a test may put something else in its place."""
    group, _, name = choice.partition("=")
    found = ConfigStore.instance().repo.get(group, {})
    return found.get(f"{name}.yaml") if isinstance(found, dict) else None


def _name(text: str) -> str:
    return text.partition("=")[0]


def _set(config: DictConfig, values: list[str]) -> DictConfig:
    OmegaConf.set_struct(config, True)
    ConfigLoaderImpl._apply_overrides_to_config([_read(text) for text in values], config)
    return config


def quick_compose(config_name: str, overrides: list[str], strict: bool) -> DictConfig:
    choices = [text for text in overrides if "." not in _name(text)]
    values = [text for text in overrides if "." in _name(text)]
    nodes = [_registered(choice) for choice in choices]
    key = (config_name, *choices, *map(id, nodes), *map(_name, values))
    try:
        if key not in _composed:
            found = _by_hydra(config_name, overrides=choices, strict=False)  # as fairseq asks; `_set` sets it strict
            _composed[key] = nodes, values, _set(found, values)
        _, first, there = _composed[key]
        config = _set(copy.deepcopy(there), [text for text, old in zip(values, first, strict=True) if text != old])
    except Exception:  # whatever is wrong with an option, Hydra says it in its own words
        return _by_hydra(config_name, overrides=overrides, strict=strict)
    OmegaConf.set_struct(config, strict)
    return config


def _by_hydra(config_name: str, overrides: list[str], strict: bool) -> DictConfig:
    """As fairseq does it, the caller's caller: Hydra looks for that one, and reads the source of all before it."""
    with initialize(config_path=os.path.join("..", "config"), caller_stack_depth=3):
        return compose(config_name, overrides=overrides, strict=strict)


def quick_initialize(config_path: str) -> Any:
    """In place of Hydra's, which is called where Hydra is asked."""
    assert config_path == os.path.join("..", "config")
    return contextlib.nullcontext()


def install() -> None:
    utils.compose, utils.initialize = quick_compose, quick_initialize
