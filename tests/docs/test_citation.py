"""CITATION.cff names the version that is installed; the commit hook runs a target that the Makefile has."""

from __future__ import annotations

import re

import yaml
from commands import ROOT


def test_the_citation_is_of_this_version_and_of_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version = re.search(r'version="([^"]+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    assert version
    assert citation["version"] == version[1]
    [paper] = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Djanibekov", "Aldarmaki"]
    assert paper["url"].endswith("2502.09284")


def test_the_commit_hook_runs_make_lint_and_needs_no_network():
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    [hook] = repository["hooks"]
    assert (repository["repo"], hook["language"]) == ("local", "system")
    program, target = hook["entry"].split()
    assert program == "make"
    recipe = rf"^{target}:.*\n\t.*ruff check \.\n\t.*ruff format --check \."
    assert re.search(recipe, (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
