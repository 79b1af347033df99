"""docs/qformer.md names options that exist, with the defaults that it says."""

from __future__ import annotations

import re
from pathlib import Path

from fairseq import options
from tiny_models import stage1_arguments, stage2_arguments

from sparqle_fairseq.models.config import AdapterConfig

TEXT = (Path(__file__).parents[2] / "docs" / "qformer.md").read_text(encoding="utf-8")


def test_every_option_of_the_document_exists(world):
    known = set(options.get_generation_parser()._option_string_actions)
    for arguments in (stage1_arguments(world), stage2_arguments(world)):
        parser = options.get_training_parser()
        options.parse_args_and_arch(parser, arguments)
        known |= set(parser._option_string_actions)
    text = re.sub(r"^    sparqle .*$", "", TEXT, flags=re.MULTILINE)  # test_readme.py knows their options
    named = set(re.findall(r"--[a-z][a-z0-9-]*", text))
    assert len(named) > 15
    assert not named - known


def test_the_defaults_are_those_of_the_document():
    rows = re.findall(r"^\| `--([a-z-]+)[^`]*`[^|]*\| (\w+)", TEXT, flags=re.MULTILINE)
    defaults = AdapterConfig()
    checked = [name for name, value in rows if str(getattr(defaults, name.replace("-", "_"), None)) == value]
    wrong = [
        (name, value)
        for name, value in rows
        if hasattr(defaults, name.replace("-", "_")) and str(getattr(defaults, name.replace("-", "_"))) != value
    ]
    assert not wrong
    assert len(checked) >= 6
