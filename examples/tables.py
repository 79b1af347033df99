"""Write the tables of documents anew from the reports that they come from: `make tables`.

A table stands in a Markdown file between two comments, the first of which names a report.json of `sparqle report`, and
perhaps which kind of table it is:

    <!-- tables of build/demo/report/report.json -->
    <!-- languages of build/demo/report/report.json -->
    <!-- end of tables -->

| kind | what it shows |
|---|---|
| `tables` | every part with all systems and metrics, and the signatures |
| `languages` | a row for each part, by its first metric, and a column for each system |

What stands between them is replaced. A report that is not there leaves its tables as they are, and is named. With
`--check` nothing is written, and the status is 1 where a document would have been.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import read_text, write_text
from sparqle_fairseq.tools.report.content import read_content
from sparqle_fairseq.tools.report.languages import ZERO_SHOT
from sparqle_fairseq.tools.report.markdown import score_tables, table_text
from sparqle_fairseq.tools.report.tables import NAMES, Table, interval, name_of, signatures

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("*.md", "docs/*.md", "examples/**/*.md")
_BLOCK = re.compile(r"(<!-- (\w+) of (\S+\.json) -->\n)(?:(?!<!-- \w+ of ).)*?(<!-- end of tables -->)", re.DOTALL)
_BEGIN = re.compile(r"<!-- \w+ of \S+\.json -->")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="of the documents and of the reports' paths")
    parser.add_argument("--check", action="store_true", help="write nothing; the status says whether a table is stale")
    args = parser.parse_args()
    stale = 0
    try:
        for path in sorted({path for pattern in DOCUMENTS for path in args.root.glob(pattern)}):
            text = read_text(path)
            renewed = renew(text, path.relative_to(args.root), args.root, print)
            if renewed != text and args.check:
                print(f"{path.relative_to(args.root)}: stale; make tables writes it anew")
                stale += 1
            elif renewed != text:
                write_text(path, renewed)
    except SparqleError as error:
        sys.exit(f"tables: {error}")
    sys.exit(1 if stale else 0)


def renew(text: str, name: Path, root: Path, say: Callable[[str], object]) -> str:
    """A document with its tables made anew. Raises `SparqleError` for a report or a kind that is none."""
    if len(_BEGIN.findall(text)) != len(_BLOCK.findall(text)):
        raise SparqleError(f"{name} has a table without an end; write <!-- end of tables --> behind it")

    def tables(match: re.Match[str]) -> str:
        begin, kind, report, end = match.groups()
        if kind not in KINDS:
            raise SparqleError(f"{name}: there is no table of the kind {kind!r}; write one of {', '.join(KINDS)}")
        if not (root / report).is_file():
            say(f"{name}: {report} is not there, so its tables stay as they are")
            return match[0]
        say(f"{name}: {kind} of {report}")
        return f"{begin}\n{KINDS[kind](read_content(root / report))}\n{end}"

    return _BLOCK.sub(tables, text)


def whole(content: Mapping[str, Any]) -> str:
    lines: Sequence[str] = signatures(content["parts"], content["settings"])
    return f"{score_tables(content)}\n" + "\n".join(f"    {line}" for line in lines) + "\n"


def by_language(content: Mapping[str, Any]) -> str:
    unseen = {row["language"] for row in (content["languages"] or {"rows": []})["rows"] if row["kind"] == ZERO_SHOT}
    rows = []
    for part in content["parts"]:
        metric = next(iter(part["metrics"]))
        about = NAMES[metric]
        if part["task"] == "translation" and part["language"] in unseen:
            about += ", never trained"
        language = name_of(part["language"]) if part["language"] else part["title"]
        cells = (interval(part["scores"][system][metric]) for system in content["systems"])
        rows.append((f"{language}, {about}", *cells))
    return table_text(Table("", ("", *content["systems"]), tuple(rows))) + "\n"


KINDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {"tables": whole, "languages": by_language}


if __name__ == "__main__":
    main()
