"""The text of a whole talk cut where its references are cut: by `mweralign`, as IWSLT's offline task does.

Matusov et al. (2005); Post and Hoang (2025). mweralign is GPL-3: it is called as a program, never imported.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import langcodes

from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.files import read_lines, write_text
from sparqle_fairseq.scoring.languages import WORDS, of_language
from sparqle_fairseq.scoring.normalise import normalised

PROGRAM = "mweralign"
TIMEOUT = 3600.0  # seconds; a talk of an hour takes a minute or two


def resegmented(
    talks: Sequence[str], references: Sequence[Sequence[str]], language: str | None = None
) -> list[list[str]]:
    """Of each talk, as many texts as it has references, which together are its text.

    Raises:
        SparqleError: mweralign is not there or fails, or a reference is empty (nothing could be aligned to it).
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise SparqleError(
            f"the program {PROGRAM} is not installed, which cuts a talk's text where its references are cut; run: pip "
            f"install {PROGRAM}"
        )
    for number, own in enumerate(references, 1):
        if empty := [i for i, text in enumerate(own, 1) if not normalised(text)]:
            raise SparqleError(f"talk {number}: its reference {empty[0]} is empty; leave such a row out")
    # Without spaces between words every sign is a word; mweralign's own tokenizer for that is `cj`.
    unspaced = language is not None and of_language(language) not in (None, WORDS)
    options = ["-m", "cj" if unspaced else "none"]
    if language is not None:
        options += ["-l", langcodes.Language.get(language).language or language]
    if unspaced:
        options += ["-w"]
    with tempfile.TemporaryDirectory() as folder:
        names = {name: str(Path(folder, f"{name}.txt")) for name in ("references", "talks", "documents", "cut")}
        lines = [normalised(text) for own in references for text in own]
        documents = [str(number) for number, own in enumerate(references) for _ in own]
        for name, content in (("references", lines), ("documents", documents)):
            write_text(names[name], "".join(f"{line}\n" for line in content))
        write_text(names["talks"], "".join(f"{normalised(text)}\n" for text in talks))
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
    for own in references:
        found.append(cut[at : at + len(own)])
        at += len(own)
    return found
