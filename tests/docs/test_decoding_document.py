"""The commands of docs/lora.md and docs/decoding.md run as they are written, one after the other."""

from __future__ import annotations

import re

import pytest
from commands import ROOT
from documents import fairseq_commands, run, sparqle_commands

from sparqle_fairseq.generate.options import DecodingOptions
from sparqle_fairseq.models.llm.lora_options import LoRAOptions

LORA, DECODING = ROOT / "docs" / "lora.md", ROOT / "docs" / "decoding.md"


@pytest.mark.usefixtures("here")
def test_the_commands_about_lora_run(world):
    training, generation = fairseq_commands(LORA)
    exports = sparqle_commands(LORA)
    assert [words[1] for words in exports] == ["export-llm", "export-llm"]
    small = ["--lora-target", "q_proj", "--log-format", "none"]
    for words in ([*training, *small], generation, *exports):
        run(words, world)


@pytest.mark.usefixtures("here")
def test_the_commands_about_decoding_run(world):
    commands = fairseq_commands(DECODING)
    assert len(commands) >= 2
    for words in commands:
        run(words, world)


@pytest.mark.parametrize(
    ("path", "options"), [(LORA, LoRAOptions), (DECODING, DecodingOptions)], ids=["lora", "decoding"]
)
def test_every_option_is_described(path, options):
    named = set(re.findall(r"--[a-z-]+", path.read_text(encoding="utf-8")))
    own = [name for name in options.__dataclass_fields__ if not name.startswith("_")]
    assert {f"--{name.replace('_', '-')}" for name in own} <= named
