"""The report's LaTeX is LaTeX, whatever systems are called; compiled where pdflatex is there."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from two_systems import BAD, GOOD, report

NAMES = (r"my_sys 5% & #1 ~^\{x}$", "[x] first", "*starred", "a <b> |c| \"d\" 'e'", "Système “Łódź” ß…")
PREAMBLE = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs}"


def tables(small, names) -> str:
    words = []
    for i, name in enumerate(names):
        path = small.folder / f"{i}.lines"
        path.write_text("\n".join(BAD[:3] + GOOD[3:] if i else GOOD) + "\n", encoding="utf-8")
        words.append(f"{name}={path}")
    assert report(*words, "--manifest", small.manifest, "--seen", "de", "-o", small.folder / "out").exit_code == 0
    return (small.folder / "out" / "report.tex").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_tables_compile_under_any_name(small):
    text = tables(small, NAMES)
    whole = f"{PREAMBLE}\n\\begin{{document}}\n{text}\\end{{document}}\n"
    (small.folder / "whole.tex").write_text(whole, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "whole.tex"],
        cwd=small.folder, capture_output=True, text=True, errors="replace", timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in done.stdout


def test_a_name_is_not_taken_for_what_ends_the_row_before_it(small):
    text = tables(small, NAMES)
    assert "\n{[}x] first & " in text
    assert "\n{*}starred & " in text


def test_what_pdflatex_cannot_write_is_named_in_the_file(small):
    assert "XeLaTeX" not in tables(small, NAMES)
    shutil.rmtree(small.folder / "out")
    assert "% For XeLaTeX or LuaLaTeX, with a font that has 日 本 語\n" in tables(small, ("日本語", "b"))
