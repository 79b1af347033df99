"""The tests' own short cut to fairseq's configuration gives what fairseq and Hydra give."""

from __future__ import annotations

from argparse import Namespace

import pytest
import quick_options
from commands import finetune_arguments, pretrain_arguments
from fairseq import options
from fairseq.dataclass import utils
from omegaconf import OmegaConf

ODD = [
    "--objective", "stc+0.5*stg", "--data-buffer-size", "3", "--audio-root", "it's \"here\", {a}: [b] $x=1",
    "--speed-perturb", "0.9,1.1", "--lr", "0.1,0.2", "--update-freq", "1,2", "--adam-betas", "(0.9, 0.98)",
    "--fp16", "--lr-scheduler", "inverse_sqrt", "--warmup-updates", "3", "--tensorboard-logdir", "",
]  # fmt: skip


def configuration(words, parser=options.get_training_parser):
    arguments = options.parse_args_and_arch(parser(), [str(word) for word in words])
    return utils.convert_namespace_to_omegaconf(arguments)


def command_lines(world, folder):
    yield pretrain_arguments(world, folder)
    yield pretrain_arguments(world, folder, *ODD)
    yield pretrain_arguments(world, folder)  # after what was odd
    yield finetune_arguments(world, folder, "--lora-rank", 2, "--patience", 3, "--optimizer", "sgd")


@pytest.fixture
def hydra_alone(monkeypatch):
    """A function after which fairseq asks Hydra."""

    def alone():
        monkeypatch.setattr(utils, "compose", quick_options.compose)
        monkeypatch.setattr(utils, "initialize", quick_options.initialize)

    return alone


def test_a_configuration_is_what_hydra_makes_of_the_command_line(world, tmp_path, monkeypatch, hydra_alone):
    assert utils.compose is quick_options.quick_compose, "conftest.py installs it"
    found = [configuration(words) for words in command_lines(world, tmp_path)]
    hydra_alone()
    expected = [configuration(words) for words in command_lines(world, tmp_path)]
    for one, other in zip(found, expected, strict=True):
        assert OmegaConf.to_container(one) == OmegaConf.to_container(other)
        assert repr(one) == repr(other)  # and of the same types
    assert found[0] == found[2] != found[1]
    monkeypatch.setattr(utils, "compose", quick_options.quick_compose)
    monkeypatch.setattr(utils, "initialize", quick_options.quick_initialize)
    monkeypatch.setattr(quick_options, "compose", None)  # what is composed already is not composed again
    assert [configuration(words) for words in command_lines(world, tmp_path)] == found


def test_what_hydra_refuses_it_refuses_itself(world, tmp_path, hydra_alone):
    def refusal():
        arguments = options.parse_args_and_arch(
            options.get_training_parser(), [str(word) for word in pretrain_arguments(world, tmp_path)]
        )
        with pytest.raises(Exception) as error:  # noqa: PT011
            utils.convert_namespace_to_omegaconf(Namespace(**{**vars(arguments), "ddp_backend": "many"}))
        return type(error.value), str(error.value)

    found = refusal()
    hydra_alone()
    assert found == refusal()
    assert "many" in found[1]
