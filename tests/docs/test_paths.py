"""Every file and folder that a document names in backticks is there."""

from __future__ import annotations

import re

import pytest
from commands import ROOT

# The changelog also names what is no longer there.
DOCUMENTS = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("**/*.md")]
    if path.name != "CHANGELOG.md"
)
FAIRSEQS = {"examples/hubert/simple_kmeans/dump_km_label.py", "examples/speech_to_text"}
PLACES = r"(?:tests|docs|benchmarks|examples|manifests|sparqle_fairseq)/[\w./*-]+"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_paths_from_the_root_are_there(path):
    named = set(re.findall(rf"`({PLACES})`", path.read_text(encoding="utf-8"))) - FAIRSEQS
    assert not {place for place in named if not any(ROOT.glob(place))}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_test_files_that_are_named_alone_are_there_once(path):
    named = set(re.findall(r"`(test_\w+\.py)`", path.read_text(encoding="utf-8")))
    assert not {name for name in named if len(list((ROOT / "tests").rglob(name))) != 1}
