"""The commands of the documents: every option that they name exists, and every file that they link to."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from commands import ROOT
from fairseq import options

DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*/README.md")])


def fairseq_commands(path: Path) -> list[list[str]]:
    """The fairseq-train and fairseq-generate commands of a document, as words."""
    blocks = re.sub(r" *\\\n\s*", " ", path.read_text(encoding="utf-8"))
    lines = [line.strip() for line in blocks.splitlines() if line.startswith("    fairseq-")]
    return [shlex.split(line.split(" > ")[0]) for line in lines]


COMMANDS = [(path.relative_to(ROOT).as_posix(), words) for path in DOCUMENTS for words in fairseq_commands(path)]


def test_the_readme_has_both_stages_and_generation():
    kinds = [words[0] for name, words in COMMANDS if name == "README.md"]
    assert kinds == ["fairseq-train", "fairseq-train", "fairseq-generate"]


@pytest.mark.parametrize(("name", "words"), COMMANDS, ids=[f"{name}-{words[0]}" for name, words in COMMANDS])
def test_every_option_of_a_command_exists(name, words):  # noqa: ARG001
    training = words[0] == "fairseq-train"
    parser = options.get_training_parser() if training else options.get_generation_parser()
    if not training:
        parser.add_argument("--arch", default="wav2vec2")  # as fairseq_cli.generate does
    options.parse_args_and_arch(parser, words[1:])  # exits where an option is unknown


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}, which is not there"
