"""A small test set, two systems that answered it, and `sparqle report` over them."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from sparqle_fairseq.cli.main import app

SAID = ["The cat is in the house.", "We drink tea.", "The old man sings a song.", "She reads the book in the garden."]
FRENCH = ["Le chat est dans la maison.", "Nous buvons du thé.", "Le vieil homme chante une chanson.",
          "Elle lit le livre dans le jardin."]  # fmt: skip
GOOD = ["Le chat est dans la maison.", "Nous buvons du thé.", "Le vieil homme chante un chant.",
        "Elle lit un livre dans le jardin."]  # fmt: skip
BAD = [
    "Le chien est dans la rue.",
    "The old man drinks a cup of tea with us.",
    "Le vieil chante " + "une une " * 12,
    "",
]
IDS = ["u1", "u2", "u3", "u4"]


def generated(texts, references, remarks=None):
    """What fairseq-generate prints, in no order, with lines of a log."""
    lines = ["INFO | loading model(s)"]
    for i in reversed(range(len(texts))):
        lines += [f"T-{i}\t{references[i]}", f"H-{i}\t-0.1\t{texts[i]}", f"D-{i}\t-0.1\t{texts[i]}"]
        lines += [f"I-{i}\t{remarks[i]}"] if remarks else []
    return "\n".join(lines) + "\n"


def report(*words: object):
    """`sparqle report` with few draws; its error is raised."""
    few = ["--bootstrap", "100", "--trials", "200"]
    return CliRunner().invoke(app, ["report", *map(str, words), *few], catch_exceptions=False)


def content(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))
