"""docs/architecture.md: every path in it exists, and every room of the package is in it."""

from __future__ import annotations

import ast
import re

from commands import ROOT

PACKAGE = ROOT / "sparqle_fairseq"
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([\w./-]+(?:/|\.py))`", TEXT))


def test_every_path_exists():
    assert len(NAMED) > 40
    # A file named alone stands behind one with its folder: `data/prompts.py`, `wordings.py`.
    missing = {
        name
        for name in NAMED
        if not (PACKAGE / name).exists()
        and not (ROOT / name).exists()
        and ("/" in name or not any(PACKAGE.rglob(name)))
    }
    assert not missing


def test_the_order_of_imports_is_the_one_that_is_tested():
    drawn = re.search(r"^    cli -> .*\n(?:    .*\n)*", TEXT, flags=re.MULTILINE)
    assert drawn
    order = [set(re.findall(r"\w+", rooms)) for rooms in drawn[0].split("->")]
    imports = (ROOT / "tests" / "test_imports.py").read_text(encoding="utf-8")
    tested = re.search(r"^LAYERS = (\[.*?^\])", imports, flags=re.MULTILINE | re.DOTALL)
    assert tested
    assert order == [set(rooms) for rooms in ast.literal_eval(tested[1])]


def test_every_room_is_there():
    folders = {path.parent.relative_to(PACKAGE).as_posix() + "/" for path in PACKAGE.rglob("*.py")} - {"./"}
    files = {path.name for path in PACKAGE.glob("*.py")}
    assert not (folders | files) - NAMED
