"""The table of what moved: nothing is where it was, everything is where the table says."""

from __future__ import annotations

import re

import pytest
from commands import ROOT

TEXT = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`sparqle_fairseq\.[^|]*) \| (`sparqle_fairseq\.[^|]*) \|$", TEXT, flags=re.MULTILINE)


def modules(cell: str) -> list[str]:
    """The modules of a cell: "`a.b`, `c`" are a.b and a.c."""
    first, *others = re.findall(r"`([\w.]+)`", cell)
    return [first, *(f"{first.rpartition('.')[0]}.{other}" for other in others)]


def is_there(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.with_suffix(".py").exists() or any(path.glob("*.py"))


def test_the_table_is_read():
    assert len(ROWS) > 25


@pytest.mark.parametrize(("before", "now"), ROWS, ids=[row[0].strip("`").partition("`")[0] for row in ROWS])
def test_a_row_is_true(before, now):
    for module in modules(before):
        assert not is_there(module), f"{module} is still there"
        place = f"{modules(now)[0]}.{module.rpartition('.')[2]}" if "the same names" in now else modules(now)[0]
        assert is_there(place), place
    assert all(is_there(module) for module in modules(now))
