"""`make docs`: README, docs/, examples/ and manifests/ are one site without a dead link, and what is dead is said."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from commands import ROOT
from properdocs.commands.build import build
from properdocs.config import load_config
from properdocs.exceptions import Abort


def build_site(root: Path, out: Path) -> Path:
    build(load_config(str(root / "mkdocs.yml"), site_dir=str(out)))
    return out


def test_every_document_is_on_the_site(tmp_path):
    out = build_site(ROOT, tmp_path)
    assert "Two commands" in (out / "index.html").read_text(encoding="utf-8")
    for folder in ("docs", "examples", "manifests"):
        for path in (ROOT / folder).rglob("*.md"):
            page = path.relative_to(ROOT).with_suffix(".html")
            assert (out / page).exists() or (out / page.with_name("index.html")).exists(), page


def test_readers_load_nothing_from_another_server(tmp_path):
    for page in build_site(ROOT, tmp_path).rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(https?:[^"]*)"', page.read_text(encoding="utf-8"))
        assert not loaded, page


@pytest.mark.parametrize(
    ("place", "text", "said"),
    [
        ("docs/training.md", "[gone](../examples/gone.md)", "gone.md"),
        ("docs/training.md", "[gone](objectives.md#no-such-heading)", "no-such-heading"),
        ("README.md", "[gone](docs/objectives.md#no-such-heading)", "no-such-heading"),
        ("examples/README.md", "[gone](../nowhere)", "nowhere"),
        ("docs/unlisted.md", "# On no menu", "unlisted.md"),
        ("docs/training.md", "A paragraph.\n* no list for Python-Markdown", "no list"),
    ],
    ids=["file", "anchor", "anchor-of-the-readme", "folder", "menu", "list"],
)
def test_what_is_dead_ends_the_build(tmp_path, caplog, place, text, said):
    root = tmp_path / "repository"
    for folder in ("docs", "examples", "manifests"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [
        *ROOT.glob("*.md"),
        *(ROOT / name for name in ("mkdocs.yml", "constraints.txt", "LICENSE", "CITATION.cff")),
    ]:
        shutil.copy(path, root)
    with (root / place).open("a", encoding="utf-8") as file:
        file.write(f"\n\n{text}\n")
    with pytest.raises(Abort):
        build_site(root, tmp_path / "site")
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert said in warnings[0]
