"""The text of a whole talk cut where its references are cut: by `mweralign`, as IWSLT's offline task does.

Matusov et al. (2005); Post and Hoang (2025). mweralign is GPL-3: it is called as a program, never imported.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import langcodes

from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.files import read_lines, write_text
from sparqle_fairseq.scoring.languages import CHINESE, JAPANESE, KOREAN, WORDS, of_language
from sparqle_fairseq.scoring.normalise import normalised

PROGRAM = "mweralign"
# What it can cut without a model that it would download: text with spaces, and Han characters one by one.
_SIGNS = (CHINESE, JAPANESE)
TIMEOUT = 3600.0  # seconds; a talk of an hour takes a minute or two


def resegmented(
    talks: Sequence[str], references: Sequence[Sequence[str]], language: str | None = None
) -> list[list[str]]:
    """Of each talk, as many texts as it has references, which together are its text.

    Raises:
        SparqleError: mweralign is not there or fails, or a reference is empty (nothing could be aligned to it).
    """
    program = _program()
    if program is None:
        raise SparqleError(
            f"the program {PROGRAM} is not installed, which cuts a talk's text where its references are cut; run: pip "
            f"install {PROGRAM}"
        )
    for number, own in enumerate(references, 1):
        if empty := [i for i, text in enumerate(own, 1) if not normalised(text)]:
            raise SparqleError(f"talk {number}: its reference {empty[0]} is empty; leave such a row out")
    spoken = [(text, own) for text, own in zip(talks, references, strict=True) if normalised(text)]
    cut = iter(_aligned(program, spoken, language) if spoken else [])
    return [next(cut) if normalised(text) else [""] * len(own) for text, own in zip(talks, references, strict=True)]


def _aligned(program: str, talks: Sequence[tuple[str, Sequence[str]]], language: str | None) -> list[list[str]]:
    tokenizer = WORDS if language is None else of_language(language) or WORDS
    if tokenizer not in (WORDS, *_SIGNS, KOREAN):
        raise SparqleError(
            f"the text of a talk in {language} has no spaces to be cut at, and {PROGRAM} knows Chinese and Japanese; "
            "translate the segments of the manifest one by one"
        )
    options = ["-m", "cj", "-w"] if tokenizer in _SIGNS else ["-m", "none"]
    if language is not None:
        options += ["-l", langcodes.Language.get(language).language or language]
    with tempfile.TemporaryDirectory() as folder:
        names = {name: str(Path(folder, f"{name}.txt")) for name in ("references", "talks", "documents", "cut")}
        lines = [normalised(text) for _, own in talks for text in own]
        documents = [str(number) for number, (_, own) in enumerate(talks) for _ in own]
        for name, content in (("references", lines), ("documents", documents)):
            write_text(names[name], "".join(f"{line}\n" for line in content))
        write_text(names["talks"], "".join(f"{normalised(text)}\n" for text, _ in talks))
        words = [program, "-r", names["references"], "-t", names["talks"], "-d", names["documents"]]
        try:
            done = subprocess.run(
                [*words, "-o", names["cut"], *options], capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SparqleError(f"{PROGRAM} could not be run ({reason(error)})") from error
        if done.returncode:
            raise SparqleError(f"{PROGRAM} failed ({reason(RuntimeError(done.stderr[-200:]))}); run it by hand to see")
        cut = [line.strip() for line in read_lines(names["cut"])]
    if len(cut) != len(lines):
        raise SparqleError(f"{PROGRAM} gave {len(cut)} lines for {len(lines)} references; run it by hand to see")
    found, at = [], 0
    for _, own in talks:
        found.append(cut[at : at + len(own)])
        at += len(own)
    return found


def _program() -> str | None:
    """On the path, or beside this Python, where pip puts it."""
    return shutil.which(PROGRAM) or shutil.which(PROGRAM, path=str(Path(sys.executable).parent))
