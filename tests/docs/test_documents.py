"""The commands of the documents run as they are written, on the tiny world in place of the files that they name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import ROOT
from documents import commands_of, run

from sparqle_fairseq.data.manifest import read_manifest


def write_units(here: Path) -> None:
    """`DATA` with a unit file beside each manifest."""
    for split in ("train", "valid"):
        manifest = read_manifest(here / "data" / f"{split}.tsv")
        (here / "data" / f"{split}.km").write_text("1 1 2 499\n" * len(manifest))


@pytest.mark.parametrize("document", ["README", "commands", "qformer", "features", "inspect", "validate", "encoders"])
def test_the_commands_of_a_document_run(world, trained, here, document):
    path = ROOT / f"{document}.md" if document == "README" else ROOT / "docs" / f"{document}.md"
    commands = commands_of(path)
    assert commands
    if document == "qformer":
        write_units(here)
    if document == "inspect":
        shutil.copytree(trained / "stage1", here / "checkpoints" / "stage1")
    if document == "qformer":  # its sparqle command has a test of its own, which needs a SpeechTokenizer
        commands = [words for words in commands if words[0] != "sparqle"]
    for words in commands:
        run(words, world)
